#include "config.h"
#include "crypto/random.h"

#include "crypto/memory.h"

#include <errno.h>
#include <sys/random.h>

enum err crypto_random(void *to, size_t len)
{
    uint8_t *p = to;
    size_t done = 0;
    while (done < len) {
        ssize_t n = getrandom(p + done, len - done, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            crypto_wipe(to, len);
            return E_IO;
        }
        done += (size_t)n;
    }
    return E_OK;
}
