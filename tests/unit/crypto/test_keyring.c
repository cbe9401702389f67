/* The keyring file: what is written comes back, every byte is authenticated, and shredding leaves nothing. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/keyring.h"
#include "proto/alloc.h"
#include "crypto/provider.h"
#include "tests/unit/crypto/common.h"

#include <sys/stat.h>

static struct common_dir dir;
static char ring_path[256];
static char key_path[256];
static const uint8_t node_id[16] = "0123456789abcde";
static const char *const files[] = {"keyring", "unlock.key",  "other.key",
                                    "copy",    "keyring.new", NULL};

static struct crypto_unlock by_file(const char *path)
{
    return (struct crypto_unlock){.how = CRYPTO_UNLOCK_KEYFILE, .path = path};
}

static int start(void **state)
{
    (void)state;
    if (!common_dir_make(&dir)) {
        return -1;
    }
    common_path(&dir, "keyring", ring_path);
    common_path(&dir, "unlock.key", key_path);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    common_dir_remove(&dir, files);
    return 0;
}

static struct crypto_keyring *made(void)
{
    struct crypto_keyring *keyring = NULL;
    struct crypto_unlock unlock = by_file(key_path);
    struct err_info info = {0};
    if (crypto_keyring_create(ring_path, &unlock, node_id, &keyring, &info) != E_OK) {
        fail_msg("%s", info.text);
    }
    return keyring;
}

static void test_life(void **state)
{
    (void)state;
    struct crypto_keyring *keyring = made();
    struct crypto_unlock unlock = by_file(key_path);
    const struct crypto_key *a = NULL;
    const struct crypto_key *b = NULL;
    struct crypto_key copy;
    struct stat st;
    assert_int_equal(crypto_keyring_get(keyring, "node", &a), E_NOT_FOUND);
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "dataset/flchain", NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_EXISTS);
    assert_int_equal(crypto_keyring_get(keyring, "node", &a), E_OK);
    assert_int_equal(crypto_keyring_get(keyring, "dataset/flchain", &b), E_OK);
    assert_memory_not_equal(a->bytes, b->bytes, 32);
    copy = *a;
    crypto_keyring_close(keyring);
    assert_int_equal(stat(ring_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(key_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 32);
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, NULL), E_EXISTS);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_OK);
    assert_memory_equal(crypto_keyring_node_id(keyring), node_id, 16);
    assert_string_equal(crypto_keyring_name(keyring, 0), "node");
    assert_string_equal(crypto_keyring_name(keyring, 1), "dataset/flchain");
    assert_null(crypto_keyring_name(keyring, 2));
    assert_int_equal(crypto_keyring_get(keyring, "node", &a), E_OK);
    assert_memory_equal(a->bytes, copy.bytes, 32);
    crypto_keyring_close(keyring);
}

static void test_names(void **state)
{
    (void)state;
    struct crypto_keyring *keyring = made();
    char name[CRYPTO_KEYRING_NAME + 2];
    memset(name, 'n', sizeof name);
    name[CRYPTO_KEYRING_NAME + 1] = '\0';
    assert_int_equal(crypto_keyring_add(keyring, name, NULL), E_INVALID);
    name[CRYPTO_KEYRING_NAME] = '\0';
    assert_int_equal(crypto_keyring_add(keyring, name, NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "", NULL), E_INVALID);
    assert_int_equal(crypto_keyring_add(keyring, "a b", NULL), E_INVALID);
    assert_int_equal(crypto_keyring_add(keyring, "a\xc3\xa9", NULL), E_INVALID);
    assert_int_equal(crypto_keyring_shred(keyring, "nothing", NULL), E_NOT_FOUND);
    crypto_keyring_close(keyring);
}

static void test_wrong_keys(void **state)
{
    (void)state;
    char other[256];
    struct crypto_keyring *keyring = made();
    uint8_t secret[1025];
    crypto_keyring_close(keyring);
    common_path(&dir, "other.key", other);
    common_fill(secret, sizeof secret);
    struct crypto_unlock unlock = by_file(other);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_NOT_FOUND);
    assert_true(common_write(other, secret, 32));
    assert_int_equal(chmod(other, 0640), 0);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_REFUSED);
    assert_int_equal(chmod(other, 0604), 0);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_REFUSED);
    assert_int_equal(chmod(other, 0600), 0);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_AUTH);
    assert_true(common_write(other, secret, 31));
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_INVALID);
    assert_true(common_write(other, secret, sizeof secret));
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_LIMIT);
    unlock = (struct crypto_unlock){.how = CRYPTO_UNLOCK_PASSPHRASE,
                                    .passphrase = span_str("correct horse")};
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_AUTH);
    unlock.passphrase = SPAN_NONE;
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_USAGE);
    unlock = by_file(key_path);
    assert_int_equal(chmod(key_path, 0644), 0);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_REFUSED);
    assert_int_equal(chmod(key_path, 0400), 0);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_OK);
    crypto_keyring_close(keyring);
    common_path(&dir, "copy", other);
    assert_int_equal(crypto_keyring_open(other, &unlock, &keyring, NULL), E_NOT_FOUND);
}

static void test_every_byte_counts(void **state)
{
    (void)state;
    static uint8_t file[4096];
    struct crypto_keyring *keyring = made();
    struct crypto_unlock unlock = by_file(key_path);
    char copy[256];
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "dataset/x", NULL), E_OK);
    crypto_keyring_close(keyring);
    common_path(&dir, "copy", copy);
    size_t len = common_read(ring_path, file, sizeof file);
    assert_true(len > 100);
    for (size_t i = 0; i < len; i++) {
        uint8_t bit = (uint8_t)(1u << common_next() % 8);
        file[i] ^= bit;
        assert_true(common_write(copy, file, len));
        enum err err = crypto_keyring_open(copy, &unlock, &keyring, NULL);
        if (err != E_CORRUPT && err != E_AUTH) {
            fail_msg("byte %zu of %zu, bit %02x: %s", i, len, bit, proto_err_name(err));
        }
        file[i] ^= bit;
    }
    for (size_t cut = 0; cut < len; cut++) {
        assert_true(common_write(copy, file, cut));
        assert_int_equal(crypto_keyring_open(copy, &unlock, &keyring, NULL), E_CORRUPT);
        assert_int_equal(crypto_keyring_check(span_of(file, cut)), E_CORRUPT);
    }
    file[len] = 0;
    assert_true(common_write(copy, file, len + 1));
    assert_int_equal(crypto_keyring_open(copy, &unlock, &keyring, NULL), E_CORRUPT);
    assert_int_equal(crypto_keyring_check(span_of(file, len)), E_OK);
    assert_true(common_write(copy, file, len));
    assert_int_equal(crypto_keyring_open(copy, &unlock, &keyring, NULL), E_OK);
    crypto_keyring_close(keyring);
}

/* Neither the wrapped nor the plain key of a shredded name is in the file; the other names still open. */
static void test_shred(void **state)
{
    (void)state;
    static uint8_t before[4096];
    static uint8_t after[4096];
    static const char *const names[] = {"node", "dataset/gone", "dataset/kept"};
    struct crypto_keyring *keyring = made();
    struct crypto_unlock unlock = by_file(key_path);
    const struct crypto_key *key = NULL;
    struct crypto_key gone;
    struct crypto_key kept;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(crypto_keyring_add(keyring, names[i], NULL), E_OK);
    }
    assert_int_equal(crypto_keyring_get(keyring, "dataset/gone", &key), E_OK);
    gone = *key;
    assert_int_equal(crypto_keyring_get(keyring, "dataset/kept", &key), E_OK);
    kept = *key;
    size_t before_len = common_read(ring_path, before, sizeof before);
    uint8_t *entry = memmem(before, before_len, "dataset/gone", 12);
    assert_non_null(entry);
    uint8_t wrapped[60];
    memcpy(wrapped, entry + 12 + 4, sizeof wrapped);
    FILE *old = fopen(
        ring_path, "rb"); /* keeps the old inode readable, as its blocks on the device would be */
    assert_non_null(old);
    assert_int_equal(crypto_keyring_shred(keyring, "dataset/gone", NULL), E_OK);
    assert_int_equal(crypto_keyring_get(keyring, "dataset/gone", &key), E_NOT_FOUND);
    size_t after_len = common_read(ring_path, after, sizeof after);
    struct span file = span_of(after, after_len);
    assert_false(common_contains(file, span_str("gone")));
    assert_false(common_contains(file, span_of(wrapped, 12)));
    assert_false(common_contains(file, span_of(wrapped + 12, 32)));
    assert_false(common_contains(file, span_of(wrapped + 44, 16)));
    assert_false(common_contains(file, span_of(gone.bytes, 32)));
    assert_false(common_contains(span_of(before, before_len), span_of(gone.bytes, 32)));
    assert_int_equal(fread(before, 1, sizeof before, old), before_len);
    assert_false(common_contains(span_of(before, before_len), span_of(wrapped + 12, 32)));
    fclose(old);
    crypto_keyring_close(keyring);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_OK);
    assert_int_equal(crypto_keyring_get(keyring, "dataset/kept", &key), E_OK);
    assert_memory_equal(key->bytes, kept.bytes, 32);
    assert_int_equal(crypto_keyring_get(keyring, "dataset/gone", &key), E_NOT_FOUND);
    assert_int_equal(crypto_keyring_add(keyring, "dataset/gone", NULL), E_OK);
    assert_int_equal(crypto_keyring_get(keyring, "dataset/gone", &key), E_OK);
    assert_memory_not_equal(key->bytes, gone.bytes,
                            32); /* the same name never brings the old key back */
    crypto_keyring_close(keyring);
}

static void test_passphrase(void **state)
{
    (void)state;
    struct crypto_keyring *keyring = NULL;
    const struct crypto_key *key = NULL;
    struct crypto_key copy;
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_PASSPHRASE,
                                   .passphrase = span_str("correct horse"),
                                   .memory_kib = CRYPTO_KEYRING_MEMORY_MIN - 1};
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, NULL), E_LIMIT);
    unlock.memory_kib = CRYPTO_KEYRING_MEMORY_MIN;
    assert_int_equal(crypto_keyring_create(ring_path, &unlock, node_id, &keyring, NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    assert_int_equal(crypto_keyring_get(keyring, "node", &key), E_OK);
    copy = *key;
    crypto_keyring_close(keyring);
    struct crypto_unlock wrong = unlock;
    wrong.passphrase = span_str("correct horsf");
    assert_int_equal(crypto_keyring_open(ring_path, &wrong, &keyring, NULL), E_AUTH);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_OK);
    struct crypto_unlock file = by_file(key_path);
    assert_int_equal(crypto_keyring_rewrap(keyring, &file, NULL), E_OK);
    crypto_keyring_close(keyring);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_AUTH);
    assert_int_equal(crypto_keyring_open(ring_path, &file, &keyring, NULL), E_OK);
    assert_int_equal(crypto_keyring_get(keyring, "node", &key), E_OK);
    assert_memory_equal(key->bytes, copy.bytes, 32);
    crypto_keyring_close(keyring);
}

/* The cost that a file asks for is bounded before it is paid: a flipped header cannot make us fill the memory. */
static void test_cost_bounds(void **state)
{
    (void)state;
    static uint8_t file[512];
    crypto_keyring_close(made());
    size_t len = common_read(ring_path, file, sizeof file);
    file[32] = 2; /* the slot's kind: passphrase */
    put_be32(file + 40, 3);
    put_be32(file + 36, CRYPTO_KEYRING_MEMORY_MAX + 1);
    assert_int_equal(crypto_keyring_check(span_of(file, len)), E_CORRUPT);
    put_be32(file + 36, CRYPTO_KEYRING_MEMORY_MIN - 1);
    assert_int_equal(crypto_keyring_check(span_of(file, len)), E_CORRUPT);
    put_be32(file + 36, CRYPTO_KEYRING_MEMORY_MIN);
    assert_int_equal(crypto_keyring_check(span_of(file, len)), E_OK);
    put_be32(file + 40, CRYPTO_KEYRING_PASSES_MAX + 1);
    assert_int_equal(crypto_keyring_check(span_of(file, len)), E_CORRUPT);
}

/* Each allocation fails once: an error comes back, the file on disk stays good, and nothing leaks (sanitizers look). */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct crypto_unlock unlock = by_file(key_path);
    struct crypto_keyring *keyring = made();
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    crypto_keyring_close(keyring);
    bool succeeded = false;
    for (uint64_t nth = 1; nth < 60 && !succeeded; nth++) {
        keyring = NULL;
        proto_alloc_fail_at(nth);
        enum err err = crypto_keyring_open(ring_path, &unlock, &keyring, NULL);
        if (!err) {
            err = crypto_keyring_add(keyring, "extra", NULL);
            succeeded = !err;
        }
        proto_alloc_fail_at(0);
        assert_true(err == E_OK || err == E_NO_MEMORY);
        crypto_keyring_close(keyring);
    }
    assert_true(succeeded);
    assert_int_equal(crypto_keyring_open(ring_path, &unlock, &keyring, NULL), E_OK);
    assert_string_equal(crypto_keyring_name(keyring, 1), "extra");
    crypto_keyring_close(keyring);
}

/* Opens the ring by UNLOCK and compares the key "node" with WANT. */
static enum err opens(const struct crypto_unlock *unlock, const struct crypto_key *want)
{
    struct crypto_keyring *keyring = NULL;
    const struct crypto_key *got = NULL;
    enum err err = crypto_keyring_open(ring_path, unlock, &keyring, NULL);
    if (!err) {
        assert_int_equal(crypto_keyring_get(keyring, "node", &got), E_OK);
        assert_memory_equal(got->bytes, want->bytes, 32);
    }
    crypto_keyring_close(keyring);
    return err;
}

static struct crypto_key node_key(struct crypto_keyring *keyring)
{
    const struct crypto_key *key = NULL;
    assert_int_equal(crypto_keyring_get(keyring, "node", &key), E_OK);
    return *key;
}

/* All four kinds side by side: each opens, each can go, the last one stays. */
static void test_slots(void **state)
{
    (void)state;
    struct crypto_keyring *keyring = made();
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    struct crypto_key node = node_key(keyring);
    char other_path[256];
    common_path(&dir, "other.key", other_path);
    struct crypto_unlock file = by_file(key_path);
    struct crypto_unlock other = by_file(other_path);
    struct crypto_unlock phrase = {.how = CRYPTO_UNLOCK_PASSPHRASE,
                                   .passphrase = span_str("correct horse"),
                                   .memory_kib = CRYPTO_KEYRING_MEMORY_MIN};
    struct crypto_unlock credential = {.how = CRYPTO_UNLOCK_CREDENTIAL, .path = other_path};
    char shares[5][CRYPTO_SHARE_TEXT];
    uint8_t phrase_id = 0;
    uint8_t share_id = 0;
    uint8_t credential_id = 0;
    uint64_t generation = crypto_keyring_generation(keyring);
    assert_int_equal(crypto_keyring_slot_add(keyring, &credential, &credential_id, NULL),
                     E_NOT_FOUND); /* systemd makes it, not we */
    assert_int_equal(crypto_keyring_slot_add(keyring, &phrase, &phrase_id, NULL), E_OK);
    assert_int_equal(crypto_keyring_slot_recovery(keyring, 6, 5, shares, &share_id, NULL), E_USAGE);
    assert_int_equal(crypto_keyring_slot_recovery(keyring, 3, 5, shares, &share_id, NULL), E_OK);
    assert_int_equal(crypto_keyring_generation(keyring), generation + 2);
    struct crypto_unlock none = {.how = CRYPTO_UNLOCK_RECOVERY};
    assert_int_equal(crypto_keyring_slot_add(keyring, &none, &credential_id, NULL), E_USAGE);
    assert_int_equal(crypto_keyring_slot_replace(keyring, phrase_id, &other, NULL), E_OK);
    assert_int_equal(chmod(other_path, 0440), 0); /* as systemd's access list shows */
    assert_int_equal(crypto_keyring_slot_add(keyring, &credential, &credential_id, NULL), E_OK);
    struct crypto_slot rows[CRYPTO_KEYRING_SLOTS];
    assert_int_equal(crypto_keyring_slots(keyring, rows), 4);
    assert_int_equal(rows[2].how, CRYPTO_UNLOCK_RECOVERY);
    assert_int_equal(rows[2].k, 3);
    assert_int_equal(rows[2].n, 5);
    assert_true(rows[0].opened && !rows[1].opened);
    crypto_keyring_close(keyring);

    const char *some[] = {shares[4], shares[0], shares[2]};
    struct crypto_unlock recovery = {
        .how = CRYPTO_UNLOCK_RECOVERY, .shares = some, .share_count = 3};
    assert_int_equal(opens(&file, &node), E_OK);
    assert_int_equal(opens(&phrase, &node), E_AUTH);   /* it was replaced */
    assert_int_equal(opens(&other, &node), E_REFUSED); /* a key file that a group can read */
    assert_int_equal(opens(&credential, &node), E_OK);
    assert_int_equal(opens(&recovery, &node), E_OK);
    recovery.share_count = 2;
    assert_int_equal(opens(&recovery, &node), E_USAGE);
    recovery.share_count = 3;

    assert_int_equal(crypto_keyring_open(ring_path, &recovery, &keyring, NULL), E_OK);
    assert_int_equal(crypto_keyring_slot_remove(keyring, 99, NULL), E_NOT_FOUND);
    assert_int_equal(crypto_keyring_slot_remove(keyring, 0, NULL), E_OK);
    assert_int_equal(crypto_keyring_slot_remove(keyring, phrase_id, NULL), E_OK);
    assert_int_equal(crypto_keyring_slot_remove(keyring, credential_id, NULL), E_OK);
    assert_int_equal(crypto_keyring_slot_remove(keyring, share_id, NULL), E_REFUSED);
    crypto_keyring_close(keyring);
    assert_int_equal(opens(&file, &node), E_AUTH);
    assert_int_equal(opens(&credential, &node), E_AUTH);
    assert_int_equal(opens(&recovery, &node), E_OK);
}

static void test_slot_limit(void **state)
{
    (void)state;
    struct crypto_keyring *keyring = made();
    struct crypto_unlock file = by_file(key_path);
    uint8_t id = 0;
    for (int i = 1; i < CRYPTO_KEYRING_SLOTS; i++) {
        assert_int_equal(crypto_keyring_slot_add(keyring, &file, &id, NULL), E_OK);
        assert_int_equal(id, i);
    }
    assert_int_equal(crypto_keyring_slot_add(keyring, &file, &id, NULL), E_LIMIT);
    assert_int_equal(crypto_keyring_slot_remove(keyring, 3, NULL), E_OK);
    assert_int_equal(crypto_keyring_slot_add(keyring, &file, &id, NULL), E_OK);
    assert_int_equal(id, 3);
    crypto_keyring_close(keyring);
}

/* A new KEK: no byte of a wrapped key is the same, the old file opens nothing new, other slots are gone. */
static void test_rotate(void **state)
{
    (void)state;
    static uint8_t before[4096];
    static uint8_t after[4096];
    struct crypto_keyring *keyring = made();
    struct crypto_unlock file = by_file(key_path);
    struct crypto_unlock wrong = {.how = CRYPTO_UNLOCK_PASSPHRASE,
                                  .passphrase = span_str("x"),
                                  .memory_kib = CRYPTO_KEYRING_MEMORY_MIN};
    uint8_t id = 0;
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "dataset/a", NULL), E_OK);
    assert_int_equal(crypto_keyring_slot_add(keyring, &wrong, &id, NULL), E_OK);
    struct crypto_key node = node_key(keyring);
    size_t len = common_read(ring_path, before, sizeof before);
    struct crypto_unlock stranger = {.how = CRYPTO_UNLOCK_PASSPHRASE, .passphrase = span_str("y")};
    assert_int_equal(crypto_keyring_rotate(keyring, &stranger, NULL), E_AUTH);
    assert_int_equal(common_read(ring_path, after, sizeof after), len);
    assert_memory_equal(before, after, len);
    assert_int_equal(crypto_keyring_rotate(keyring, &file, NULL), E_OK);
    size_t now = common_read(ring_path, after, sizeof after);
    assert_true(now < len);
    for (size_t i = 32; i + 16 <= len; i++) {
        /* Only names, versions and constants may be in both: no run of 16 of the old file is in the new one. */
        assert_null(memmem(after + 32, now - 32, before + i, 16));
    }
    crypto_keyring_close(keyring);
    assert_int_equal(opens(&file, &node), E_OK);
    assert_int_equal(opens(&wrong, &node), E_AUTH);
}

/* A rotated data key takes its place in one write. */
static void test_promote(void **state)
{
    (void)state;
    struct crypto_keyring *keyring = made();
    struct crypto_unlock file = by_file(key_path);
    const struct crypto_key *key = NULL;
    assert_int_equal(crypto_keyring_add(keyring, "node", NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "dataset/a", NULL), E_OK);
    assert_int_equal(crypto_keyring_add(keyring, "rotate/a", NULL), E_OK);
    struct crypto_key node = node_key(keyring);
    assert_int_equal(crypto_keyring_get(keyring, "rotate/a", &key), E_OK);
    struct crypto_key fresh = *key;
    assert_int_equal(crypto_keyring_promote(keyring, "rotate/b", "dataset/a", NULL), E_NOT_FOUND);
    assert_int_equal(crypto_keyring_promote(keyring, "rotate/a", "dataset a", NULL), E_INVALID);
    assert_int_equal(crypto_keyring_promote(keyring, "rotate/a", "dataset/a", NULL), E_OK);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(crypto_keyring_get(keyring, "rotate/a", &key), E_NOT_FOUND);
        assert_int_equal(crypto_keyring_get(keyring, "dataset/a", &key), E_OK);
        assert_memory_equal(key->bytes, fresh.bytes, 32);
        crypto_keyring_close(keyring);
        assert_int_equal(crypto_keyring_open(ring_path, &file, &keyring, NULL), E_OK);
    }
    crypto_keyring_close(keyring);
    assert_int_equal(opens(&file, &node), E_OK);
}

static int setup(void **state)
{
    (void)state;
    common_seed();
    return crypto_init(NULL) == E_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, start, stop),
        cmocka_unit_test_setup_teardown(test_names, start, stop),
        cmocka_unit_test_setup_teardown(test_wrong_keys, start, stop),
        cmocka_unit_test_setup_teardown(test_every_byte_counts, start, stop),
        cmocka_unit_test_setup_teardown(test_shred, start, stop),
        cmocka_unit_test_setup_teardown(test_passphrase, start, stop),
        cmocka_unit_test_setup_teardown(test_cost_bounds, start, stop),
        cmocka_unit_test_setup_teardown(test_slots, start, stop),
        cmocka_unit_test_setup_teardown(test_slot_limit, start, stop),
        cmocka_unit_test_setup_teardown(test_rotate, start, stop),
        cmocka_unit_test_setup_teardown(test_promote, start, stop),
        cmocka_unit_test_setup_teardown(test_out_of_memory, start, stop),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
