/* For tests only: opens the keyring HOME/keyring with the key file FILE and prints every data key in hexadecimal, one a line, so that
 * a test can search a core file for them. The product has no way to show a key. */
#include "config.h"

#include "crypto/keyring.h"
#include "crypto/provider.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct crypto_keyring *keyring = NULL;
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = argc > 2 ? argv[2] : ""};
    struct err_info info = {0};
    char path[4096];
    char hex[65];
    const char *name;
    snprintf(path, sizeof path, "%s/keyring", argc > 1 ? argv[1] : ".");
    if (crypto_init(&info) || crypto_keyring_open(path, &unlock, &keyring, &info)) {
        fprintf(stderr, "%s\n", info.text);
        return 1;
    }
    for (size_t i = 0; (name = crypto_keyring_name(keyring, i)); i++) {
        const struct crypto_key *key = NULL;
        if (crypto_keyring_get(keyring, name, &key)) {
            return 1;
        }
        span_to_hex(span_of(key->bytes, sizeof key->bytes), hex);
        printf("%s %s\n", name, hex);
    }
    crypto_keyring_close(keyring);
    return 0;
}
