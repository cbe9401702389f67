#include "config.h"
#include "crypto/pkcs11.h"

#include "crypto/random.h"
#include "proto/codec.h"

#include <string.h>

#define BY_AES    1
#define BY_SHA256 2
#define BY_SHA1   3
#define IV        12
#define TAG       16
#define RSA_MIN   256 /* bytes of the modulus */
#define RSA_MAX   512

bool crypto_pkcs11_valid(struct span sealed)
{
    if (sealed.len == 0) {
        return false;
    }
    return sealed.ptr[0] == BY_AES ? sealed.len == 1 + IV + CRYPTO_KEY_SIZE + TAG
                                   : (sealed.ptr[0] == BY_SHA256 || sealed.ptr[0] == BY_SHA1) &&
                                         sealed.len > RSA_MIN && sealed.len <= 1 + RSA_MAX;
}

#ifdef HAVE_PKCS11

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t associated[] = "concordat/keyring/pkcs11/1";

struct session {
    const struct crypto_pkcs11 *want;
    CK_FUNCTION_LIST *call;
    CK_SESSION_HANDLE handle;
    bool initialised; /* by us, so that we end it */
    bool opened;
    bool logged_in;
};

/* --- errors ---------------------------------------------------------------------------------------------------------- */

static enum err failed(const struct session *session, const char *doing, CK_RV rv,
                       struct err_info *reterr)
{
    return proto_err_set(reterr, E_IO, "token %s: %s failed with PKCS #11 error 0x%lx",
                         session->want->token, doing, rv);
}

static enum err login_failed(const struct session *session, CK_RV rv, struct err_info *reterr)
{
    const char *token = session->want->token;
    switch (rv) {
    case CKR_PIN_INCORRECT:
    case CKR_PIN_INVALID:
    case CKR_PIN_LEN_RANGE:
        return proto_err_set(reterr, E_AUTH,
                             "token %s: the PIN is wrong; after a few more it locks itself", token);
    case CKR_PIN_LOCKED:
        return proto_err_set(reterr, E_AUTH,
                             "token %s: the PIN is locked; its security officer can set a new one",
                             token);
    case CKR_USER_PIN_NOT_INITIALIZED:
        return proto_err_set(reterr, E_AUTH, "token %s: no user PIN was set on it yet", token);
    default:
        return failed(session, "the login", rv, reterr);
    }
}

/* --- session --------------------------------------------------------------------------------------------------------- */

/* The module stays loaded, as it may have threads and handlers of its own. */
static enum err load(struct session *session, struct err_info *reterr)
{
    const char *path = session->want->module;
    CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
    if (path[0] != '/') {
        return proto_err_set(reterr, E_INVALID, "PKCS #11 module %s: give its whole path", path);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        return proto_err_set(reterr, E_NOT_FOUND, "PKCS #11 module: %s", dlerror());
    }
    /* What dlsym gives is data to C; POSIX grants that it is a function, copied as bytes. */
    void *symbol = dlsym(library, "C_GetFunctionList");
    memcpy(&get, &symbol, sizeof get);
    if (!symbol || get(&session->call) != CKR_OK || !session->call) {
        return proto_err_set(reterr, E_INVALID, "%s is no PKCS #11 module", path);
    }
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = session->call->C_Initialize(&args);
    session->initialised = rv == CKR_OK;
    return rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED
               ? E_OK
               : proto_err_set(reterr, E_IO,
                               "PKCS #11 module %s: it does not start (error 0x%lx); is its own "
                               "configuration there, and may this user read it?",
                               path, rv);
}

/* Labels in token information are padded with blanks and have no end. */
static bool label_is(const unsigned char padded[32], const char *label)
{
    size_t len = strlen(label);
    size_t end = 32;
    while (end > 0 && (padded[end - 1] == ' ' || padded[end - 1] == '\0')) {
        end--;
    }
    return len == end && memcmp(padded, label, len) == 0;
}

static enum err find_token(const struct session *session, CK_SLOT_ID *ret, CK_FLAGS *ret_flags,
                           struct err_info *reterr)
{
    CK_SLOT_ID slots[CRYPTO_PKCS11_SLOTS];
    CK_ULONG count = CRYPTO_PKCS11_SLOTS;
    size_t found = 0;
    CK_RV rv = session->call->C_GetSlotList(CK_TRUE, slots, &count);
    if (rv != CKR_OK) {
        return failed(session, "listing slots", rv, reterr);
    }
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (session->call->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            (info.flags & CKF_TOKEN_INITIALIZED) && label_is(info.label, session->want->token)) {
            *ret = slots[i];
            *ret_flags = info.flags;
            found++;
        }
    }
    if (found == 1) {
        return E_OK;
    }
    return found ? proto_err_set(reterr, E_REFUSED, "there are %zu tokens with the label %s", found,
                                 session->want->token)
                 : proto_err_set(reterr, E_NOT_FOUND,
                                 "no token with the label %s is there (%lu are); is it plugged in?",
                                 session->want->token, count);
}

static enum err login(struct session *session, CK_FLAGS flags, struct err_info *reterr)
{
    unsigned char pin[CRYPTO_PKCS11_PIN_MAX];
    struct span given = session->want->pin;
    if (!(flags & CKF_LOGIN_REQUIRED)) {
        return E_OK;
    }
    if (flags & CKF_USER_PIN_LOCKED) {
        return login_failed(session, CKR_PIN_LOCKED, reterr);
    }
    if (given.len == 0 && !(flags & CKF_PROTECTED_AUTHENTICATION_PATH)) {
        return proto_err_set(reterr, E_AUTH,
                             "token %s: its PIN is missing; give it in a file (pin-source) or as a "
                             "passphrase is given",
                             session->want->token);
    }
    if (given.len > sizeof pin) {
        return login_failed(session, CKR_PIN_LEN_RANGE, reterr);
    }
    if (given.len > 0) {
        memcpy(pin, given.ptr, given.len);
    }
    CK_RV rv = session->call->C_Login(session->handle, CKU_USER, given.len ? pin : NULL, given.len);
    crypto_wipe(pin, sizeof pin);
    session->logged_in = rv == CKR_OK;
    return rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN ? E_OK
                                                            : login_failed(session, rv, reterr);
}

static bool label_valid(const char *label)
{
    return label && label[0] && strlen(label) <= CRYPTO_PKCS11_LABEL_MAX &&
           proto_utf8_valid(span_str(label));
}

static enum err session_open(struct session *session, bool writing, struct err_info *reterr)
{
    CK_SLOT_ID slot = 0;
    CK_FLAGS flags = 0;
    if (!session->want->module || !label_valid(session->want->token) ||
        !label_valid(session->want->key)) {
        return proto_err_set(
            reterr, E_INVALID,
            "PKCS #11: module, token and key are named, labels with 1 to %d bytes of UTF-8",
            CRYPTO_PKCS11_LABEL_MAX);
    }
    enum err err = load(session, reterr);
    err = err ? err : find_token(session, &slot, &flags, reterr);
    if (err) {
        return err;
    }
    CK_RV rv = session->call->C_OpenSession(
        slot, CKF_SERIAL_SESSION | (writing ? CKF_RW_SESSION : 0), NULL, NULL, &session->handle);
    if (rv != CKR_OK) {
        return failed(session, "opening a session", rv, reterr);
    }
    session->opened = true;
    return login(session, flags, reterr);
}

static void session_close(struct session *session)
{
    if (session->logged_in) {
        (void)session->call->C_Logout(session->handle);
    }
    if (session->opened) {
        (void)session->call->C_CloseSession(session->handle);
    }
    if (session->initialised) {
        (void)session->call->C_Finalize(NULL);
    }
}

/* --- keys ------------------------------------------------------------------------------------------------------------ */

/* E_NOT_FOUND without a text: the caller knows what that means. */
static enum err find_key(const struct session *session, CK_OBJECT_CLASS class, CK_KEY_TYPE type,
                         CK_OBJECT_HANDLE *ret, struct err_info *reterr)
{
    char label[CRYPTO_PKCS11_LABEL_MAX];
    CK_OBJECT_HANDLE found[2];
    CK_ULONG count = 0;
    size_t len = strlen(session->want->key);
    memcpy(label, session->want->key, len);
    CK_ATTRIBUTE wanted[] = {{CKA_CLASS, &class, sizeof class},
                             {CKA_KEY_TYPE, &type, sizeof type},
                             {CKA_LABEL, label, len}};
    CK_RV rv = session->call->C_FindObjectsInit(session->handle, wanted, 3);
    if (rv == CKR_OK) {
        rv = session->call->C_FindObjects(session->handle, found, 2, &count);
        (void)session->call->C_FindObjectsFinal(session->handle);
    }
    if (rv != CKR_OK) {
        return failed(session, "looking for the key", rv, reterr);
    }
    if (count > 1) {
        return proto_err_set(reterr, E_REFUSED, "token %s has several keys with the label %s",
                             session->want->token, session->want->key);
    }
    *ret = count ? found[0] : CK_INVALID_HANDLE;
    return count ? E_OK : E_NOT_FOUND;
}

/* A key that somebody can take out of the token protects no more than a key file. */
static enum err key_stays(const struct session *session, CK_OBJECT_HANDLE key,
                          struct err_info *reterr)
{
    CK_BBOOL leaves = CK_TRUE;
    CK_BBOOL hidden = CK_FALSE;
    CK_ATTRIBUTE asked[] = {{CKA_EXTRACTABLE, &leaves, sizeof leaves},
                            {CKA_SENSITIVE, &hidden, sizeof hidden}};
    CK_RV rv = session->call->C_GetAttributeValue(session->handle, key, asked, 2);
    if (rv != CKR_OK) {
        return failed(session, "reading the key's attributes", rv, reterr);
    }
    return !leaves && hidden
               ? E_OK
               : proto_err_set(reterr, E_REFUSED,
                               "token %s: the key %s can be taken out; use one that is sensitive "
                               "and not extractable",
                               session->want->token, session->want->key);
}

static enum err make_key(const struct session *session, CK_OBJECT_HANDLE *ret,
                         struct err_info *reterr)
{
    CK_BBOOL yes = CK_TRUE;
    CK_BBOOL no = CK_FALSE;
    CK_ULONG bytes = CRYPTO_KEY_SIZE;
    char label[CRYPTO_PKCS11_LABEL_MAX];
    size_t len = strlen(session->want->key);
    memcpy(label, session->want->key, len);
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE attributes[] = {
        {CKA_TOKEN, &yes, sizeof yes},         {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},     {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_ENCRYPT, &yes, sizeof yes},       {CKA_DECRYPT, &yes, sizeof yes},
        {CKA_VALUE_LEN, &bytes, sizeof bytes}, {CKA_LABEL, label, len}};
    CK_RV rv = session->call->C_GenerateKey(session->handle, &mechanism, attributes,
                                            sizeof attributes / sizeof *attributes, ret);
    return rv == CKR_OK ? E_OK : failed(session, "making the key", rv, reterr);
}

/* --- mechanisms ------------------------------------------------------------------------------------------------------ */

/* What a mechanism's parameters point into. */
struct mechanism {
    CK_MECHANISM mechanism;
    CK_GCM_PARAMS gcm;
    CK_RSA_PKCS_OAEP_PARAMS oaep;
};

/* IV stays with the caller until the call. The fields stand in the standard's order; their names differ between headers. */
static void mechanism_set(struct mechanism *m, uint8_t by, uint8_t iv[IV])
{
    memset(m, 0, sizeof *m);
    if (by == BY_AES) {
        m->gcm = (CK_GCM_PARAMS){iv, IV, IV * 8, associated, sizeof associated, TAG * 8};
        m->mechanism = (CK_MECHANISM){CKM_AES_GCM, &m->gcm, sizeof m->gcm};
        return;
    }
    m->oaep = (CK_RSA_PKCS_OAEP_PARAMS){by == BY_SHA256 ? CKM_SHA256 : CKM_SHA_1,
                                        by == BY_SHA256 ? CKG_MGF1_SHA256 : CKG_MGF1_SHA1,
                                        1 /* CKZ_DATA_SPECIFIED: an empty label */, NULL, 0};
    m->mechanism = (CK_MECHANISM){CKM_RSA_PKCS_OAEP, &m->oaep, sizeof m->oaep};
}

static CK_RV encrypt(const struct session *session, uint8_t by, CK_OBJECT_HANDLE key,
                     const struct crypto_key *secret, uint8_t ret[CRYPTO_PKCS11_SEALED],
                     size_t *ret_len)
{
    struct mechanism m;
    uint8_t plain[CRYPTO_KEY_SIZE];
    size_t head = by == BY_AES ? 1 + IV : 1;
    CK_ULONG len = CRYPTO_PKCS11_SEALED - head;
    mechanism_set(&m, by, ret + 1);
    CK_RV rv = session->call->C_EncryptInit(session->handle, &m.mechanism, key);
    if (rv == CKR_OK) {
        memcpy(plain, secret->bytes, sizeof plain);
        rv = session->call->C_Encrypt(session->handle, plain, sizeof plain, ret + head, &len);
        crypto_wipe(plain, sizeof plain);
    }
    ret[0] = by;
    *ret_len = head + len;
    return rv;
}

static CK_RV decrypt(const struct session *session, struct span sealed, CK_OBJECT_HANDLE key,
                     struct crypto_key *ret)
{
    struct mechanism m;
    uint8_t copy[CRYPTO_PKCS11_SEALED];  /* PKCS #11 knows no const */
    uint8_t plain[CRYPTO_PKCS11_SEALED]; /* some modules want room for as much as they are given */
    CK_ULONG len = sizeof plain;
    memcpy(copy, sealed.ptr, sealed.len);
    size_t head = copy[0] == BY_AES ? 1 + IV : 1;
    mechanism_set(&m, copy[0], copy + 1);
    CK_RV rv = session->call->C_DecryptInit(session->handle, &m.mechanism, key);
    if (rv == CKR_OK) {
        rv = session->call->C_Decrypt(session->handle, copy + head, sealed.len - head, plain, &len);
    }
    if (rv == CKR_OK && len != CRYPTO_KEY_SIZE) {
        rv = CKR_ENCRYPTED_DATA_INVALID;
    }
    if (rv == CKR_OK) {
        memcpy(ret->bytes, plain, CRYPTO_KEY_SIZE);
    }
    crypto_wipe(plain, sizeof plain);
    return rv;
}

/* Seals, and opens again: a token that does only one half of a mechanism would lock the node out. */
static enum err try_mechanism(const struct session *session, uint8_t by, CK_OBJECT_HANDLE seals,
                              CK_OBJECT_HANDLE opens, const struct crypto_key *secret,
                              uint8_t ret[CRYPTO_PKCS11_SEALED], size_t *ret_len,
                              struct err_info *reterr)
{
    struct crypto_key *again = crypto_key_new();
    enum err err = again ? crypto_random(ret + 1, IV) : E_NO_MEMORY;
    CK_RV rv = err ? CKR_OK : encrypt(session, by, seals, secret, ret, ret_len);
    bool sealed = !err && rv == CKR_OK && crypto_pkcs11_valid(span_of(ret, *ret_len));
    rv = sealed ? decrypt(session, span_of(ret, *ret_len), opens, again) : rv;
    if (!err && !(sealed && rv == CKR_OK &&
                  crypto_equal(again->bytes, secret->bytes, sizeof again->bytes))) {
        err =
            proto_err_set(reterr, E_UNSUPPORTED,
                          "token %s: with the key %s it does neither AES-GCM nor RSA-OAEP of 2048 "
                          "to 4096 bits (error 0x%lx)",
                          session->want->token, session->want->key, rv);
    }
    crypto_key_free(again);
    return err;
}

static enum err seal(struct session *session, const struct crypto_key *secret,
                     uint8_t ret[CRYPTO_PKCS11_SEALED], size_t *ret_len, struct err_info *reterr)
{
    CK_OBJECT_HANDLE aes = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE private = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE public = CK_INVALID_HANDLE;
    enum err err = find_key(session, CKO_SECRET_KEY, CKK_AES, &aes, reterr);
    enum err rsa =
        err == E_NOT_FOUND ? find_key(session, CKO_PRIVATE_KEY, CKK_RSA, &private, reterr) : err;
    if (err == E_NOT_FOUND && rsa == E_NOT_FOUND) {
        err = make_key(session, &aes, reterr);
        rsa = err;
    }
    if (!err) {
        err = key_stays(session, aes, reterr);
        return err ? err : try_mechanism(session, BY_AES, aes, aes, secret, ret, ret_len, reterr);
    }
    if (rsa) {
        return rsa;
    }
    err = find_key(session, CKO_PUBLIC_KEY, CKK_RSA, &public, reterr);
    if (err == E_NOT_FOUND) {
        return proto_err_set(reterr, err, "token %s: of the key %s only the private half is there",
                             session->want->token, session->want->key);
    }
    err = err ? err : key_stays(session, private, reterr);
    if (err) {
        return err;
    }
    err = try_mechanism(session, BY_SHA256, public, private, secret, ret, ret_len, reterr);
    return err == E_UNSUPPORTED
               ? try_mechanism(session, BY_SHA1, public, private, secret, ret, ret_len, reterr)
               : err;
}

static enum err open_sealed(struct session *session, struct span sealed, struct crypto_key *ret,
                            struct err_info *reterr)
{
    CK_OBJECT_HANDLE key;
    bool aes = sealed.ptr[0] == BY_AES;
    enum err err = find_key(session, aes ? CKO_SECRET_KEY : CKO_PRIVATE_KEY,
                            aes ? CKK_AES : CKK_RSA, &key, reterr);
    if (err) {
        return err != E_NOT_FOUND
                   ? err
                   : proto_err_set(reterr, err, "token %s has no %s key with the label %s",
                                   session->want->token, aes ? "AES" : "RSA", session->want->key);
    }
    CK_RV rv = decrypt(session, sealed, key, ret);
    return rv == CKR_OK ? E_OK
                        : proto_err_set(reterr, E_CORRUPT,
                                        "token %s: its key %s does not open this keyring's slot "
                                        "(error 0x%lx)",
                                        session->want->token, session->want->key, rv);
}

enum err crypto_pkcs11_seal(const struct crypto_pkcs11 *key, const struct crypto_key *secret,
                            uint8_t ret_sealed[CRYPTO_PKCS11_SEALED], size_t *ret_len,
                            struct err_info *reterr)
{
    struct session session = {.want = key};
    pthread_mutex_lock(&lock);
    enum err err = session_open(&session, true, reterr);
    err = err ? err : seal(&session, secret, ret_sealed, ret_len, reterr);
    session_close(&session);
    pthread_mutex_unlock(&lock);
    return err;
}

enum err crypto_pkcs11_open(const struct crypto_pkcs11 *key, struct span sealed,
                            struct crypto_key *ret, struct err_info *reterr)
{
    struct session session = {.want = key};
    if (!crypto_pkcs11_valid(sealed)) {
        return proto_err_set(reterr, E_CORRUPT, "PKCS #11: what was sealed is damaged");
    }
    pthread_mutex_lock(&lock);
    enum err err = session_open(&session, false, reterr);
    err = err ? err : open_sealed(&session, sealed, ret, reterr);
    session_close(&session);
    pthread_mutex_unlock(&lock);
    return err;
}

#else

static enum err absent(struct err_info *reterr)
{
    return proto_err_set(reterr, E_UNSUPPORTED,
                         "this program was built without PKCS #11 (Debian: libp11-kit-dev)");
}

enum err crypto_pkcs11_seal(const struct crypto_pkcs11 *key, const struct crypto_key *secret,
                            uint8_t ret_sealed[CRYPTO_PKCS11_SEALED], size_t *ret_len,
                            struct err_info *reterr)
{
    (void)key;
    (void)secret;
    (void)ret_sealed;
    (void)ret_len;
    return absent(reterr);
}

enum err crypto_pkcs11_open(const struct crypto_pkcs11 *key, struct span sealed,
                            struct crypto_key *ret, struct err_info *reterr)
{
    (void)key;
    (void)sealed;
    (void)ret;
    return absent(reterr);
}

#endif
