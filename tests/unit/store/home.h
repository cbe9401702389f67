/* A throw-away home with real keys for the tests of the store. */
#ifndef CONCORDAT_TESTS_UNIT_STORE_HOME_H
#define CONCORDAT_TESTS_UNIT_STORE_HOME_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/envelope.h"
#include "crypto/keyring.h"
#include "crypto/provider.h"
#include "proto/body.h"
#include "store/audit.h"
#include "store/file.h"
#include "store/ledger.h"
#include "store/records.h"
#include "store/store.h"

#include <ftw.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW  INT64_C(1790000000)
#define BODY span_str("{}")

struct home {
    char dir[64];
    char mdb[96];
    struct crypto_keyring *keyring;
    struct crypto_identity *identity;
    uint8_t node_id[16];
    uint8_t fed[16];
    struct store store;
};

static inline void home_try_open(struct home *home, enum err expected)
{
    struct err_info info = {0};
    enum err err = store_open(home->dir, home->keyring, home->node_id, &home->store, &info);
    if (!err) {
        err = store_identity(&home->store, home->identity, home->fed, NULL, &info);
        if (err) {
            store_close(&home->store);
        }
    }
    if (err != expected) {
        print_error("open: %s: %s\n", proto_err_name(err), info.text);
    }
    assert_int_equal(err, expected);
}

/* FOLDER: where it is to be; the process may be killed there, so a file system in memory is as good as a disk. */
static inline void home_make_in(struct home *home, const char *folder)
{
    char path[128];
    memset(home, 0, sizeof *home);
    snprintf(home->dir, sizeof home->dir, "%s/concordat-store-XXXXXX", folder);
    assert_non_null(mkdtemp(home->dir));
    snprintf(home->mdb, sizeof home->mdb, "%s/node.mdb", home->dir);
    snprintf(path, sizeof path, "%s/unlock.key", home->dir);
    memset(home->fed, 0xFE, 16);
    assert_int_equal(crypto_init(NULL), E_OK);
    assert_int_equal(crypto_identity_generate(&home->identity), E_OK);
    crypto_identity_node_id(crypto_identity_point(home->identity), home->node_id);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = path};
    char ring[128];
    snprintf(ring, sizeof ring, "%s/keyring", home->dir);
    assert_int_equal(crypto_keyring_create(ring, &unlock, home->node_id, &home->keyring, NULL),
                     E_OK);
    const struct crypto_key *dek = NULL;
    snprintf(path, sizeof path, "%s/identity.key", home->dir);
    assert_int_equal(crypto_keyring_add(home->keyring, "identity", NULL), E_OK);
    assert_int_equal(crypto_keyring_get(home->keyring, "identity", &dek), E_OK);
    assert_int_equal(crypto_identity_save(home->identity, path, dek, NULL), E_OK);
    home_try_open(home, E_OK);
}

static inline void home_make(struct home *home)
{
    home_make_in(home, "/tmp");
}

/* Opens HOME, which the parent has closed, in a child after fork: keys do not cross a fork, so they are read again. */
static inline bool home_child(const struct home *home, struct home *ret)
{
    char ring[128];
    char key[128];
    const struct crypto_key *dek = NULL;
    *ret = *home;
    memset(&ret->store, 0, sizeof ret->store);
    snprintf(ring, sizeof ring, "%s/keyring", home->dir);
    snprintf(key, sizeof key, "%s/unlock.key", home->dir);
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_KEYFILE, .path = key};
    if (crypto_keyring_open(ring, &unlock, &ret->keyring, NULL) ||
        crypto_keyring_get(ret->keyring, "identity", &dek)) {
        return false;
    }
    snprintf(key, sizeof key, "%s/identity.key", home->dir);
    return !crypto_identity_load(key, dek, &ret->identity, NULL) &&
           !store_open(ret->dir, ret->keyring, ret->node_id, &ret->store, NULL) &&
           !store_identity(&ret->store, ret->identity, ret->fed, NULL, NULL);
}

static inline int home_unlink(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static inline void home_remove(struct home *home)
{
    store_close(&home->store);
    crypto_keyring_close(home->keyring);
    crypto_identity_free(home->identity);
    nftw(home->dir, home_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline enum err home_account(struct home *home, const char *name, uint64_t cap, double order)
{
    struct store_budget budget = {.cap_nano = cap, .delta_e12 = 1000000, .order = order};
    return store_ledger_account(&home->store, name, &budget, NOW, NULL);
}

static inline void home_dataset(struct home *home, const char *name, uint64_t cap)
{
    char dek[96];
    snprintf(dek, sizeof dek, "dataset/%s", name);
    assert_int_equal(crypto_keyring_add(home->keyring, dek, NULL), E_OK);
    assert_int_equal(home_account(home, name, cap, 4.5), E_OK);
}

static inline struct store_charge home_charge(uint8_t id, const char *dataset, uint64_t nano)
{
    return (struct store_charge){
        .id = {id},
        .dataset = dataset,
        .person = "ada-planted-person",
        .project = "heart",
        .institution = "hospital-b",
        .node = "beta",
        .kind = STORE_CHARGE_QUERY,
        .nano = nano,
        .steps = 1,
        .now = NOW,
        .audit_body = BODY,
    };
}

static inline void home_file(const char *path, struct buf *ret)
{
    *ret = (struct buf){.max = (size_t)1 << 28};
    assert_int_equal(store_file_read(path, ret, NULL), E_OK);
}

static inline void home_write(const char *path, struct span bytes)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.ptr, 1, bytes.len, file), bytes.len);
    assert_int_equal(fclose(file), 0);
}

/* Signs and stores a record of this home. */
static inline void home_record(struct home *home, uint64_t kind, const char *name, uint64_t seq,
                               struct span body, enum err expected)
{
    uint8_t key[16];
    uint8_t sig[64];
    struct buf envelope = {.max = PROTO_RECORD_MAX};
    struct buf record = {.max = PROTO_RECORD_MAX};
    proto_record_key(&crypto_proto_hash, name, key);
    struct proto_envelope fields = {.version = 1,
                                    .kind = kind,
                                    .issuer = span_of(home->node_id, 16),
                                    .key = span_of(key, 16),
                                    .seq = seq,
                                    .hlc = 1,
                                    .expires = 2000000000,
                                    .body = body};
    assert_int_equal(proto_record_encode(&fields, &envelope, NULL), E_OK);
    assert_int_equal(crypto_envelope_sign(home->identity, PROTO_RECORD_DOMAIN, home->fed,
                                          buf_span(&envelope), sig),
                     E_OK);
    assert_int_equal(proto_record_seal(buf_span(&envelope), sig, &record), E_OK);
    assert_int_equal(store_records_put(&home->store, buf_span(&record), NULL), expected);
    buf_fini(&envelope);
    buf_fini(&record);
}

/* A charter whose only seat is this node, and this node's MEMBER record signed by it. */
static inline void home_federate(struct home *home)
{
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    struct buf to_sign = {.max = PROTO_RECORD_BODY_MAX};
    struct proto_council_seat seat = {span_of(home->node_id, 16),
                                      span_of(crypto_identity_point(home->identity), 65)};
    struct proto_charter charter = {.v = 1,
                                    .federation = span_str("fed"),
                                    .federation_id = span_of(home->fed, 16),
                                    .root_der = span_str("root certificate"),
                                    .council = {&seat, 1},
                                    .threshold = 1};
    struct err_info info = {0};
    if (proto_charter_encode(&charter, &body, &info)) {
        fail_msg("charter: %s", info.text);
    }
    home_record(home, PROTO_RECORD_CHARTER, "fed", 1, buf_span(&body), E_OK);
    struct proto_text role = {span_str("node")};
    struct proto_member member = {.v = 1,
                                  .node_id = span_of(home->node_id, 16),
                                  .name = span_str("alpha"),
                                  .identity_point = seat.point,
                                  .tls_spki = span_str("0123456789abcdef0123456789abcdef"),
                                  .org = span_str("alpha"),
                                  .org_type = span_str("nonprofit"),
                                  .country = span_str("DE"),
                                  .roles = {&role, 1},
                                  .not_before = 1,
                                  .expires = 2000000000};
    uint8_t sig[64];
    assert_int_equal(proto_member_signed(&member, &to_sign, NULL), E_OK);
    assert_int_equal(crypto_envelope_sign(home->identity, PROTO_MEMBER_DOMAIN, home->fed,
                                          buf_span(&to_sign), sig),
                     E_OK);
    struct proto_signature signature = {span_of(home->node_id, 16), span_of(sig, 64)};
    member.signatures = (struct proto_list){&signature, 1};
    body.len = 0;
    if (proto_member_encode(&member, &body, &info)) {
        fail_msg("member: %s", info.text);
    }
    home_record(home, PROTO_RECORD_MEMBER, "alpha", 1, buf_span(&body), E_OK);
    buf_fini(&body);
    buf_fini(&to_sign);
}

#endif
