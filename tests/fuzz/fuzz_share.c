/* One recovery share as a person typed it; the checksum stands before everything, so the corpus holds good ones. */
#include "config.h"
#include "crypto/provider.h"
#include "crypto/shares.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready && crypto_init(NULL) != E_OK) {
        abort();
    }
    ready = true;
    char *copy = malloc(size + 1);
    if (!copy) {
        return 0;
    }
    memcpy(copy, data, size);
    copy[size] = '\0';
    enum err whole = crypto_share_check(span_of(copy, size));
    const char *texts[2] = {copy, copy};
    struct crypto_key secret;
    enum err err = crypto_shares_combine(texts, 2, &secret, NULL);
    /* One share is never enough, however often it comes. */
    if ((whole != E_OK && whole != E_INVALID) || (err != E_INVALID && err != E_USAGE)) {
        abort();
    }
    free(copy);
    return 0;
}
