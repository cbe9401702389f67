/* A keyring slot of a token: SoftHSM with a token in a folder of this test. What the key in it sealed comes back, and nothing else
 * opens it. Skipped where PKCS #11 or Debian's softhsm2 is missing. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/keyring.h"
#include "crypto/provider.h"
#include "tests/unit/crypto/common.h"

#ifdef HAVE_PKCS11

#include <dlfcn.h>
#include <ftw.h>
#include <p11-kit/pkcs11.h>
#include <sys/stat.h>

#define MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define PIN    "271828"

static struct common_dir dir;
static char ring_path[256];
static char pin_path[256];
static const uint8_t node_id[16] = "0123456789abcde";
static CK_FUNCTION_LIST *call;
static CK_BBOOL yes = CK_TRUE;
static CK_BBOOL no = CK_FALSE;

/* --- a token --------------------------------------------------------------------------------------------------------- */

static void done_well(CK_RV rv)
{
    assert_int_equal(rv, CKR_OK);
}

static CK_SESSION_HANDLE begin(CK_SLOT_ID slot, CK_USER_TYPE who, const char *pin)
{
    CK_SESSION_HANDLE session;
    unsigned char text[16];
    memcpy(text, pin, strlen(pin));
    done_well(call->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    done_well(call->C_Login(session, who, text, strlen(pin)));
    return session;
}

/* A fresh token in the slot that is free, which SoftHSM always has as its last. */
static void make_token(const char *label)
{
    CK_SLOT_ID slots[8];
    CK_ULONG count = 8;
    unsigned char padded[32];
    unsigned char pin[] = PIN;
    memset(padded, ' ', sizeof padded);
    memcpy(padded, label, strlen(label));
    done_well(call->C_Initialize(NULL));
    done_well(call->C_GetSlotList(CK_TRUE, slots, &count));
    CK_SLOT_ID slot = slots[count - 1];
    done_well(call->C_InitToken(slot, pin, sizeof pin - 1, padded));
    CK_SESSION_HANDLE session = begin(slot, CKU_SO, PIN);
    done_well(call->C_InitPIN(session, pin, sizeof pin - 1));
    done_well(call->C_Finalize(NULL));
}

/* The user's session in the only token. */
static CK_SESSION_HANDLE enter(void)
{
    CK_SLOT_ID slots[8];
    CK_ULONG count = 8;
    done_well(call->C_Initialize(NULL));
    done_well(call->C_GetSlotList(CK_TRUE, slots, &count));
    return begin(slots[0], CKU_USER, PIN);
}

static void leave(void)
{
    done_well(call->C_Finalize(NULL));
}

static void make_aes(const char *label, bool leaves)
{
    CK_SESSION_HANDLE session = enter();
    CK_OBJECT_HANDLE key;
    CK_ULONG bytes = 32;
    char name[32];
    memcpy(name, label, strlen(label));
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE attributes[] = {
        {CKA_TOKEN, &yes, sizeof yes},         {CKA_ENCRYPT, &yes, sizeof yes},
        {CKA_DECRYPT, &yes, sizeof yes},       {CKA_EXTRACTABLE, leaves ? &yes : &no, sizeof yes},
        {CKA_VALUE_LEN, &bytes, sizeof bytes}, {CKA_LABEL, name, strlen(label)}};
    done_well(call->C_GenerateKey(session, &mechanism, attributes, 6, &key));
    leave();
}

static void make_rsa(const char *label, CK_ULONG bits)
{
    CK_SESSION_HANDLE session = enter();
    CK_OBJECT_HANDLE public, private;
    unsigned char exponent[] = {1, 0, 1};
    char name[32];
    memcpy(name, label, strlen(label));
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_ATTRIBUTE of_public[] = {{CKA_TOKEN, &yes, sizeof yes},
                                {CKA_ENCRYPT, &yes, sizeof yes},
                                {CKA_MODULUS_BITS, &bits, sizeof bits},
                                {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
                                {CKA_LABEL, name, strlen(label)}};
    CK_ATTRIBUTE of_private[] = {
        {CKA_TOKEN, &yes, sizeof yes},     {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_DECRYPT, &yes, sizeof yes},   {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no}, {CKA_LABEL, name, strlen(label)}};
    done_well(call->C_GenerateKeyPair(session, &mechanism, of_public, 5, of_private, 6, &public,
                                      &private));
    leave();
}

/* Removes the secret key LABEL; its label can then be that of another. */
static void destroy_aes(const char *label)
{
    CK_SESSION_HANDLE session = enter();
    CK_OBJECT_HANDLE key;
    CK_ULONG count = 0;
    char name[32];
    memcpy(name, label, strlen(label));
    CK_ATTRIBUTE wanted[] = {{CKA_LABEL, name, strlen(label)}};
    done_well(call->C_FindObjectsInit(session, wanted, 1));
    done_well(call->C_FindObjects(session, &key, 1, &count));
    done_well(call->C_FindObjectsFinal(session));
    assert_int_equal(count, 1);
    done_well(call->C_DestroyObject(session, key));
    leave();
}

static int start(void **state)
{
    (void)state;
    char path[256];
    char text[400];
    if (!common_dir_make(&dir)) {
        return -1;
    }
    common_path(&dir, "keyring", ring_path);
    common_path(&dir, "pin", pin_path);
    common_path(&dir, "tokens", path);
    int len = snprintf(text, sizeof text, "directories.tokendir = %s\nlog.level = ERROR\n", path);
    if (mkdir(path, 0700) != 0 || !common_write(common_path(&dir, "softhsm2.conf", path),
                                                (const uint8_t *)text, (size_t)len)) {
        return -1;
    }
    setenv("SOFTHSM2_CONF", path, 1);
    make_token("ward");
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int stop(void **state)
{
    (void)state;
    return nftw(dir.path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- slots ----------------------------------------------------------------------------------------------------------- */

static struct crypto_unlock by_token(const char *key)
{
    return (struct crypto_unlock){
        .how = CRYPTO_UNLOCK_PKCS11,
        .pkcs11 = {.module = MODULE, .token = "ward", .key = key, .pin = span_str(PIN)}};
}

static struct crypto_keyring *made(const char *key)
{
    struct crypto_keyring *keyring = NULL;
    struct crypto_unlock unlock = by_token(key);
    struct err_info info = {0};
    if (crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info) ||
        crypto_keyring_add(keyring, "node", &info)) {
        fail_msg("%s", info.text);
    }
    return keyring;
}

/* Opens and compares the key "node" with NODE. */
static enum err opens(const struct crypto_unlock *unlock, const struct crypto_key *node,
                      struct err_info *info)
{
    struct crypto_keyring *keyring = NULL;
    const struct crypto_key *key = NULL;
    memset(info, 0, sizeof *info);
    enum err err = crypto_keyring_open(ring_path, unlock, &keyring, info);
    if (!err) {
        assert_int_equal(crypto_keyring_get(keyring, "node", &key), E_OK);
        assert_memory_equal(key->bytes, node->bytes, sizeof key->bytes);
        crypto_keyring_close(keyring);
    }
    return err;
}

static struct crypto_key node_key(struct crypto_keyring *keyring)
{
    const struct crypto_key *key = NULL;
    assert_int_equal(crypto_keyring_get(keyring, "node", &key), E_OK);
    return *key;
}

/* The key is made in the token at the first use, and found at the next. */
static void test_aes(void **state)
{
    (void)state;
    struct err_info info;
    struct crypto_slot rows[CRYPTO_KEYRING_SLOTS];
    struct crypto_keyring *keyring = made("kek");
    struct crypto_key node = node_key(keyring);
    struct crypto_unlock unlock = by_token("kek");
    assert_int_equal(crypto_keyring_slots(keyring, rows), 1);
    assert_int_equal(rows[0].how, CRYPTO_UNLOCK_PKCS11);
    assert_string_equal(rows[0].token, "ward");
    assert_string_equal(rows[0].key, "kek");
    crypto_keyring_close(keyring);
    assert_int_equal(opens(&unlock, &node, &info), E_OK);

    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_OK);
    assert_int_equal(crypto_keyring_rotate(keyring, &unlock, NULL), E_OK);
    crypto_keyring_close(keyring);
    assert_int_equal(opens(&unlock, &node, &info), E_OK);
    destroy_aes("kek");
    assert_int_equal(opens(&unlock, &node, &info), E_NOT_FOUND);
    assert_non_null(strstr(info.text, "no AES key with the label kek"));
    make_aes("kek", false);
    assert_int_equal(opens(&unlock, &node, &info), E_AUTH);
    assert_non_null(strstr(info.text, "opens no slot"));
}

static void test_rsa(void **state)
{
    (void)state;
    struct err_info info;
    static uint8_t file[4096];
    make_rsa("card", 2048);
    struct crypto_keyring *keyring = made("card");
    struct crypto_key node = node_key(keyring);
    crypto_keyring_close(keyring);
    struct crypto_unlock unlock = by_token("card");
    assert_int_equal(opens(&unlock, &node, &info), E_OK);
    size_t len = common_read(ring_path, file, sizeof file);
    assert_true(len > 120 + 256);
    make_rsa("small", 1024);
    uint8_t id;
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_OK);
    struct crypto_unlock small = by_token("small");
    assert_int_equal(crypto_keyring_slot_add(keyring, &small, &id, &info), E_UNSUPPORTED);
    crypto_keyring_close(keyring);
}

/* Beside slots of other kinds, and format 1 again when it goes. */
static void test_beside_others(void **state)
{
    (void)state;
    static uint8_t file[4096];
    char key_path[256];
    struct err_info info;
    struct crypto_keyring *keyring = NULL;
    common_path(&dir, "unlock.key", key_path);
    struct crypto_unlock by_file = {.how = CRYPTO_UNLOCK_KEYFILE, .path = key_path};
    struct crypto_unlock unlock = by_token("kek");
    uint8_t id = 0;
    assert_int_equal(crypto_keyring_create(ring_path, &by_file, node_id, &keyring, NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    struct crypto_key node = node_key(keyring);
    assert_int_equal(opens(&unlock, &node, &info), E_AUTH);
    assert_int_equal(crypto_keyring_slot_add(keyring, &unlock, &id, NULL), E_OK);
    assert_int_equal(opens(&unlock, &node, &info), E_OK);
    assert_int_equal(opens(&by_file, &node, &info), E_OK);
    size_t len = common_read(ring_path, file, sizeof file);
    assert_int_equal(get_be16(file + 4), 2);
    for (size_t i = 0; i < len; i++) { /* every byte counts, those of the slot's tail as well */
        file[i] ^= 1;
        assert_true(common_write(ring_path, file, len));
        enum err err = opens(&by_file, &node, &info);
        assert_true(err == E_CORRUPT || err == E_AUTH);
        file[i] ^= 1;
    }
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(crypto_keyring_check(span_of(file, cut)), E_CORRUPT);
    }
    assert_int_equal(crypto_keyring_check(span_of(file, len)), E_OK);
    assert_true(common_write(ring_path, file, len));
    assert_int_equal(crypto_keyring_slot_remove(keyring, id, NULL), E_OK);
    crypto_keyring_close(keyring);
    assert_true(common_read(ring_path, file, sizeof file) < len);
    assert_int_equal(get_be16(file + 4), 1);
    assert_int_equal(opens(&by_file, &node, &info), E_OK);
}

static void test_pin(void **state)
{
    (void)state;
    struct err_info info;
    struct crypto_keyring *keyring = made("kek");
    struct crypto_key node = node_key(keyring);
    crypto_keyring_close(keyring);
    struct crypto_unlock unlock = by_token("kek");
    unlock.pkcs11.pin = span_str("314159");
    assert_int_equal(opens(&unlock, &node, &info), E_AUTH);
    assert_non_null(strstr(info.text, "the PIN is wrong"));
    assert_null(strstr(info.text, "314159"));
    unlock.pkcs11.pin = SPAN_NONE;
    assert_int_equal(opens(&unlock, &node, &info), E_AUTH);
    assert_non_null(strstr(info.text, "its PIN is missing"));
    unlock.pin_path = pin_path;
    assert_int_equal(opens(&unlock, &node, &info), E_NOT_FOUND);
    const char text[] = PIN "\r\nanother line\n";
    assert_true(common_write(pin_path, (const uint8_t *)text, sizeof text - 1));
    assert_int_equal(chmod(pin_path, 0640), 0);
    assert_int_equal(opens(&unlock, &node, &info), E_REFUSED);
    unlock.pin_credential = true; /* systemd may let its group read */
    assert_int_equal(opens(&unlock, &node, &info), E_OK);
    unlock.pin_credential = false;
    assert_int_equal(chmod(pin_path, 0600), 0);
    assert_int_equal(opens(&unlock, &node, &info), E_OK);
    assert_true(common_write(pin_path, (const uint8_t *)"\n", 1));
    assert_int_equal(opens(&unlock, &node, &info), E_INVALID);
}

static void test_what_is_not_there(void **state)
{
    (void)state;
    struct err_info info = {0};
    struct crypto_keyring *keyring = NULL;
    struct crypto_unlock unlock = by_token("kek");
    unlock.pkcs11.token = "bedside";
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info),
                     E_NOT_FOUND);
    assert_non_null(strstr(info.text, "no token with the label bedside"));
    unlock = by_token("kek");
    unlock.pkcs11.module = "/usr/lib/no-such-module.so";
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info),
                     E_NOT_FOUND);
    unlock.pkcs11.module = "libc.so.6";
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info),
                     E_INVALID);
    unlock.pkcs11.module = "/lib/x86_64-linux-gnu/libc.so.6";
    if (access(unlock.pkcs11.module, R_OK) == 0) {
        assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info),
                         E_INVALID);
    }
    unlock = by_token("a label that is longer than 32 bytes");
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info),
                     E_INVALID);
    make_aes("open", true);
    unlock = by_token("open");
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info),
                     E_REFUSED);
    assert_non_null(strstr(info.text, "can be taken out"));
    make_aes("twice", false);
    make_aes("twice", false);
    unlock = by_token("twice");
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info),
                     E_REFUSED);
    assert_int_equal(access(ring_path, F_OK), -1);
}

static int setup(void **state)
{
    (void)state;
    common_seed();
    return crypto_init(NULL) == E_OK ? 0 : -1;
}

int main(void)
{
    CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
    void *library = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void *symbol = library ? dlsym(library, "C_GetFunctionList") : NULL;
    memcpy(&get, &symbol, sizeof get);
    if (!get || get(&call) != CKR_OK) {
        puts("1..0 # SKIP Debian's softhsm2 is not installed");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_aes, start, stop),
        cmocka_unit_test_setup_teardown(test_rsa, start, stop),
        cmocka_unit_test_setup_teardown(test_beside_others, start, stop),
        cmocka_unit_test_setup_teardown(test_pin, start, stop),
        cmocka_unit_test_setup_teardown(test_what_is_not_there, start, stop),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}

#else

int main(void)
{
    puts("1..0 # SKIP built without PKCS #11");
    return 0;
}

#endif
