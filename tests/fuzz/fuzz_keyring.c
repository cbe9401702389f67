/* The shape check of keyring files, which opening one runs before any key is known. */
#include "config.h"
#include "crypto/keyring.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* An exact copy, so that a read behind the end is seen. */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) {
        return 0;
    }
    memcpy(copy, data, size);
    enum err err = crypto_keyring_check(span_of(copy, size));
    if (err != E_OK && err != E_CORRUPT) {
        abort();
    }
    free(copy);
    return 0;
}
