/* What node.yaml's `unlock:` and the options of that shape mean: keyfile:PATH, passphrase, credential:NAME.
 *
 *     struct config_unlock unlock;
 *     err = config_unlock_read(home, config.unlock, span_str(passphrase), &unlock, &info);
 *     err = crypto_keyring_open(keyring, &unlock.how, ...);
 *
 * Threads: any; reads the environment. UNLOCK must not be moved, as its path points into itself. */
#ifndef CONCORDAT_NODE_CONFIG_UNLOCK_H
#define CONCORDAT_NODE_CONFIG_UNLOCK_H

#include "crypto/keyring.h"
#include "node/config/home.h"

struct config_unlock {
    struct crypto_unlock how;
    char path[HOME_PATH_MAX];
};

/* PASSPHRASE is borrowed by RET; SPAN_NONE when there is none.
 * Errors: E_AUTH the passphrase or systemd's CREDENTIALS_DIRECTORY is missing; E_INVALID the text. */
MUST_CHECK enum err config_unlock_read(const char *home, const char *text, struct span passphrase,
                                       struct config_unlock *ret, struct err_info *reterr);

#endif
