#include "config.h"
#include "node/config/unlock.h"

#include <stdlib.h>
#include <string.h>

enum err config_unlock_read(const char *home, const char *text, struct span passphrase,
                            struct config_unlock *ret, struct err_info *reterr)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    bool fits = true;
    memset(ret, 0, sizeof *ret);
    ret->how.path = ret->path;
    if (strncmp(text, "keyfile:", 8) == 0 && text[8]) {
        ret->how.how = CRYPTO_UNLOCK_KEYFILE;
        fits = config_home_path(home, text + 8, ret->path);
    } else if (strncmp(text, "credential:", 11) == 0 && text[11]) {
        if (!directory) {
            return proto_err_set(reterr, E_AUTH,
                                 "unlock: credential needs systemd's LoadCredential; "
                                 "CREDENTIALS_DIRECTORY is not set");
        }
        ret->how.how = CRYPTO_UNLOCK_CREDENTIAL;
        fits = config_home_path(directory, text + 11, ret->path);
    } else if (strcmp(text, "passphrase") == 0) {
        if (passphrase.len == 0) {
            return proto_err_set(reterr, E_AUTH, "unlock: the passphrase is missing");
        }
        ret->how.how = CRYPTO_UNLOCK_PASSPHRASE;
        ret->how.passphrase = passphrase;
    } else {
        return proto_err_set(reterr, E_INVALID,
                             "unlock: keyfile:PATH, passphrase or credential:NAME");
    }
    return fits ? E_OK : proto_err_set(reterr, E_INVALID, "the key's path is too long");
}
