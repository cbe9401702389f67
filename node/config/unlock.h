/* What node.yaml's `unlock:` and the options of that shape mean: keyfile:PATH, passphrase, credential:NAME, or a key in a token
 * as a PKCS #11 URI (RFC 7512): pkcs11:token=LABEL;object=LABEL?module-path=/MODULE.so&pin-source=file:PATH. Its pin-source may be
 * credential:NAME, too; without one the PIN is what a passphrase would be. pin-value is refused: secrets stand in no
 * configuration and no argument.
 *
 *     struct config_unlock unlock;
 *     err = config_unlock_read(home, config.unlock, span_str(passphrase), &unlock, &info);
 *     err = crypto_keyring_open(keyring, &unlock.how, ...);
 *
 * Threads: any; reads the environment. UNLOCK must not be moved, as it points into itself. */
#ifndef CONCORDAT_NODE_CONFIG_UNLOCK_H
#define CONCORDAT_NODE_CONFIG_UNLOCK_H

#include "crypto/keyring.h"
#include "node/config/home.h"

struct config_unlock {
    struct crypto_unlock how;
    char path[HOME_PATH_MAX]; /* of the key file, the credential or the module */
    char token[CRYPTO_PKCS11_LABEL_MAX + 1], key[CRYPTO_PKCS11_LABEL_MAX + 1];
    char pin_path[HOME_PATH_MAX];
};

#define CONFIG_UNLOCK_SECRET_MAX 1024

/* What TEXT needs beside what it names (a passphrase, or a PIN without pin-source): CONCORDAT_PASSPHRASE, else asked for where
 * standard input is a terminal, TWICE when it is to be a new one. SPAN_NONE: it needs none, nobody can be asked, or the two
 * differed. Borrowed from the environment or ASKED, which the caller wipes. */
struct span config_unlock_secret(const char *text, bool twice,
                                 char asked[CONFIG_UNLOCK_SECRET_MAX + 1]);
/* Whether TEXT has one of these shapes, whatever is there on this machine. Errors: E_INVALID. */
MUST_CHECK enum err config_unlock_check(const char *text, struct err_info *reterr);
/* PASSPHRASE is borrowed by RET; SPAN_NONE when there is none.
 * Errors: E_AUTH the passphrase or systemd's CREDENTIALS_DIRECTORY is missing; E_INVALID the text. */
MUST_CHECK enum err config_unlock_read(const char *home, const char *text, struct span passphrase,
                                       struct config_unlock *ret, struct err_info *reterr);

#endif
