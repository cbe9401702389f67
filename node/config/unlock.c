#include "config.h"
#include "node/config/unlock.h"

#include <stdlib.h>
#include <string.h>

#define SHAPES                                                                                     \
    "keyfile:PATH, passphrase, credential:NAME or "                                                \
    "pkcs11:token=LABEL;object=LABEL?module-path=/FILE"

/* --- PKCS #11 URIs, RFC 7512 ----------------------------------------------------------------------------------------- */

struct uri {
    char token[CRYPTO_PKCS11_LABEL_MAX + 1];
    char object[CRYPTO_PKCS11_LABEL_MAX + 1];
    char module[HOME_PATH_MAX];
    char pin[HOME_PATH_MAX];
};

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* LEN bytes of TEXT without their percent signs; false when they do not fit, or hold a zero or half a sign. */
static bool unescape(const char *text, size_t len, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        int c = (unsigned char)text[i];
        if (c == '%') {
            int high = i + 2 < len ? hex(text[i + 1]) : -1;
            int low = i + 2 < len ? hex(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = high * 16 + low;
            i += 2;
        }
        if (c == 0 || used + 1 >= size) {
            return false;
        }
        to[used++] = (char)c;
    }
    to[used] = '\0';
    return used > 0;
}

/* One NAME=VALUE of LEN bytes. */
static enum err uri_attribute(const char *text, size_t len, bool query, struct uri *uri,
                              struct err_info *reterr)
{
    const struct {
        const char *name;
        bool query;
        char *to;
        size_t size;
    } known[] = {{"token", false, uri->token, sizeof uri->token},
                 {"object", false, uri->object, sizeof uri->object},
                 {"module-path", true, uri->module, sizeof uri->module},
                 {"pin-source", true, uri->pin, sizeof uri->pin}};
    const char *equals = memchr(text, '=', len);
    size_t name = equals ? (size_t)(equals - text) : len;
    if (name == 9 && memcmp(text, "pin-value", 9) == 0) {
        return proto_err_set(reterr, E_INVALID,
                             "unlock: a PIN does not stand here; give pin-source=file:PATH");
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (query != known[i].query || strlen(known[i].name) != name ||
            memcmp(text, known[i].name, name) != 0) {
            continue;
        }
        return equals && !known[i].to[0] &&
                       unescape(equals + 1, len - name - 1, known[i].to, known[i].size)
                   ? E_OK
                   : proto_err_set(
                         reterr, E_INVALID,
                         "unlock: pkcs11: %s is empty, too long, escaped wrongly or there "
                         "twice",
                         known[i].name);
    }
    return proto_err_set(reterr, E_INVALID,
                         "unlock: pkcs11: only token and object, and behind ? module-path and "
                         "pin-source are known here");
}

static enum err uri_read(const char *text, struct uri *ret, struct err_info *reterr)
{
    bool query = false;
    memset(ret, 0, sizeof *ret);
    for (text += strlen("pkcs11:"); *text;) {
        size_t len = strcspn(text, query ? "&" : ";?");
        enum err err = uri_attribute(text, len, query, ret, reterr);
        if (err) {
            return err;
        }
        query |= text[len] == '?';
        text += len + (text[len] ? 1 : 0);
    }
    if (!ret->token[0] || !ret->object[0] || ret->module[0] != '/') {
        return proto_err_set(reterr, E_INVALID,
                             "unlock: pkcs11 needs token, object and a module-path from / on");
    }
    return !ret->pin[0] || (strncmp(ret->pin, "file:", 5) == 0 && ret->pin[5]) ||
                   (strncmp(ret->pin, "credential:", 11) == 0 && ret->pin[11])
               ? E_OK
               : proto_err_set(reterr, E_INVALID,
                               "unlock: pkcs11: pin-source is file:PATH or credential:NAME");
}

/* --- all shapes ------------------------------------------------------------------------------------------------------ */

enum err config_unlock_check(const char *text, struct err_info *reterr)
{
    struct uri uri;
    bool plain = true;
    for (const char *c = text; *c; c++) {
        plain = plain && (unsigned char)*c >= 0x20 && *c != 0x7f;
    }
    if (plain && strncmp(text, "pkcs11:", 7) == 0) {
        return uri_read(text, &uri, reterr);
    }
    return plain && (strcmp(text, "passphrase") == 0 ||
                     (strncmp(text, "keyfile:", 8) == 0 && text[8]) ||
                     (strncmp(text, "credential:", 11) == 0 && text[11]))
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "unlock: must be " SHAPES);
}

static enum err credential_path(const char *name, char path[HOME_PATH_MAX], bool *ret_fits,
                                struct err_info *reterr)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    if (!directory) {
        return proto_err_set(reterr, E_AUTH,
                             "unlock: credential needs systemd's LoadCredential; "
                             "CREDENTIALS_DIRECTORY is not set");
    }
    *ret_fits = config_home_path(directory, name, path);
    return E_OK;
}

static enum err read_token(const char *home, const char *text, struct span pin,
                           struct config_unlock *ret, bool *ret_fits, struct err_info *reterr)
{
    struct uri uri;
    enum err err = uri_read(text, &uri, reterr);
    if (err) {
        return err;
    }
    memcpy(ret->path, uri.module, sizeof ret->path);
    memcpy(ret->token, uri.token, sizeof ret->token);
    memcpy(ret->key, uri.object, sizeof ret->key);
    ret->how.how = CRYPTO_UNLOCK_PKCS11;
    ret->how.pkcs11 = (struct crypto_pkcs11){
        .module = ret->path, .token = ret->token, .key = ret->key, .pin = pin};
    if (!uri.pin[0]) {
        return E_OK;
    }
    ret->how.pin_path = ret->pin_path;
    ret->how.pin_credential = uri.pin[0] == 'c';
    if (ret->how.pin_credential) {
        return credential_path(uri.pin + 11, ret->pin_path, ret_fits, reterr);
    }
    const char *path = uri.pin + 5;
    *ret_fits =
        config_home_path(home, path + (strncmp(path, "///", 3) == 0 ? 2 : 0), ret->pin_path);
    return E_OK;
}

enum err config_unlock_read(const char *home, const char *text, struct span passphrase,
                            struct config_unlock *ret, struct err_info *reterr)
{
    bool fits = true;
    memset(ret, 0, sizeof *ret);
    ret->how.path = ret->path;
    enum err err = config_unlock_check(text, reterr);
    if (err) {
        return err;
    }
    if (strncmp(text, "keyfile:", 8) == 0) {
        ret->how.how = CRYPTO_UNLOCK_KEYFILE;
        fits = config_home_path(home, text + 8, ret->path);
    } else if (strncmp(text, "credential:", 11) == 0) {
        ret->how.how = CRYPTO_UNLOCK_CREDENTIAL;
        err = credential_path(text + 11, ret->path, &fits, reterr);
    } else if (strncmp(text, "pkcs11:", 7) == 0) {
        err = read_token(home, text, passphrase, ret, &fits, reterr);
    } else {
        if (passphrase.len == 0) {
            return proto_err_set(reterr, E_AUTH, "unlock: the passphrase is missing");
        }
        ret->how.how = CRYPTO_UNLOCK_PASSPHRASE;
        ret->how.passphrase = passphrase;
    }
    return err ? err : fits ? E_OK : proto_err_set(reterr, E_INVALID, "the key's path is too long");
}
