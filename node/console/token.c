#include "config.h"
#include "node/console/token.h"

#include "crypto/memory.h"
#include "crypto/random.h"
#include "node/config/home.h"
#include "store/file.h"

#include <string.h>

enum err console_token_make(const char *home, const char *name, char ret[CONSOLE_TOKEN_SIZE + 1],
                            struct err_info *reterr)
{
    uint8_t random[CONSOLE_TOKEN_SIZE / 2];
    char path[HOME_PATH_MAX];
    enum err err = crypto_random(random, sizeof random);
    if (err || !config_home_path(home, name, path)) {
        return err ? err : E_INVALID;
    }
    span_to_hex(span_of(random, sizeof random), ret);
    crypto_wipe(random, sizeof random);
    return store_file_write(path, span_of(ret, CONSOLE_TOKEN_SIZE), reterr);
}

bool console_token_shown(const char token[CONSOLE_TOKEN_SIZE + 1], const char *authorization)
{
    static const char scheme[] = "Bearer ";
    return authorization && strncmp(authorization, scheme, sizeof scheme - 1) == 0 &&
           strlen(authorization) == sizeof scheme - 1 + CONSOLE_TOKEN_SIZE &&
           crypto_equal(authorization + sizeof scheme - 1, token, CONSOLE_TOKEN_SIZE);
}
