#include "config.h"
#include "home.h"

#include "store/egress.h"

#include "store/ledger_row.h"
#include "store/witness.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

static struct home home;

static int setup(void **state)
{
    (void)state;
    home_make(&home);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    home_remove(&home);
    return 0;
}

static struct store_account account(const char *dataset)
{
    struct store_account account;
    assert_int_equal(dataset ? store_ledger_get(&home.store, dataset, &account, NULL)
                             : store_ledger_domain_get(&home.store, "", &account, NULL),
                     E_OK);
    return account;
}

static uint64_t head_seq(void)
{
    struct store_audit_head head;
    return store_audit_head(&home.store, &head) ? 0 : head.seq;
}

static void reopen(void)
{
    store_close(&home.store);
    home_try_open(&home, E_OK);
}

static enum err reserve(uint8_t id, const char *dataset, uint64_t nano)
{
    struct store_charge charge = home_charge(id, dataset, nano);
    return store_ledger_reserve(&home.store, &charge, NULL, NULL);
}

static enum err release(uint8_t id, struct span answer, const uint8_t key[32])
{
    struct store_release release = {.id = (uint8_t[16]){id},
                                    .answer = answer,
                                    .replay_key = key,
                                    .audit_body = BODY,
                                    .now = NOW};
    return store_ledger_release(&home.store, &release, NULL);
}

static void test_arithmetic(void **state)
{
    (void)state;
    home_dataset(&home, "d", 100);
    struct store_account after;
    struct store_charge charge = home_charge(1, "d", 60);
    assert_int_equal(store_ledger_reserve(&home.store, &charge, &after, NULL), E_OK);
    assert_int_equal(after.spent_nano, 60);
    assert_int_equal(after.left_nano, 40);
    assert_int_equal(reserve(1, "d", 1), E_EXISTS);
    assert_int_equal(reserve(2, "d", 41), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve(2, "other", 1), E_NOT_FOUND);
    assert_int_equal(reserve(2, "d", 0), E_INVALID);
    assert_int_equal(reserve(2, "d", UINT64_MAX), E_INVALID);
    assert_int_equal(reserve(2, "d", STORE_NANO_MAX), E_INVALID); /* 60 + INT64_MAX overflows */
    assert_int_equal(reserve(2, "d", 40), E_OK);
    assert_int_equal(reserve(3, "d", 1), E_BUDGET_EXHAUSTED);
    assert_int_equal(account("d").spent_nano, 100);
    assert_int_equal(account(NULL).spent_nano, 100);
    struct store_charge train = home_charge(4, "d", 1);
    train.kind = STORE_CHARGE_TRAIN;
    train.nano = UINT64_C(1) << 40;
    train.steps = UINT64_C(1) << 40;
    assert_int_equal(store_ledger_reserve(&home.store, &train, NULL, NULL), E_INVALID);
    /* Raising adds only the difference. */
    assert_int_equal(home_account(&home, "d", 110, 4.5), E_OK);
    assert_int_equal(account("d").left_nano, 10);
    assert_int_equal(home_account(&home, "d", 50, 4.5), E_OK);
    assert_int_equal(account("d").left_nano, 0);
    assert_int_equal(account("d").spent_nano, 100);
    reopen();
    assert_int_equal(account("d").spent_nano, 100);
}

static void test_refusal_changes_nothing(void **state)
{
    (void)state;
    struct buf before;
    struct buf after;
    home_dataset(&home, "d", 100);
    assert_int_equal(reserve(1, "d", 99), E_OK);
    home_file(home.mdb, &before);
    assert_int_equal(reserve(2, "d", 2), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve(1, "d", 1), E_EXISTS);
    struct store_charge probe = home_charge(3, "d", 1);
    assert_int_equal(store_ledger_probe(&home.store, &probe, NULL, NULL), E_OK);
    home_file(home.mdb, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.ptr, after.ptr, before.len);
    buf_fini(&before);
    buf_fini(&after);
}

static void test_caps(void **state)
{
    (void)state;
    home_dataset(&home, "d", 100);
    home_dataset(&home, "small", 10);
    struct store_charge charge = home_charge(1, "d", 50);
    charge.caps.institution = (struct store_cap){true, 50, 0};
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_OK);
    charge.id[0] = 2;
    charge.nano = 1;
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_BUDGET_EXHAUSTED);
    charge.institution = "hospital-c";
    charge.caps.person = (struct store_cap){true, 50, 0};
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_BUDGET_EXHAUSTED);
    charge.person = "bob";
    charge.caps.project = (struct store_cap){true, 50, 0};
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_BUDGET_EXHAUSTED);
    charge.project = "lung";
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_OK);
    /* The domain binds all datasets: 51 of 100 are gone, whatever "small" was promised. */
    assert_int_equal(reserve(3, "d", 45), E_OK);
    assert_int_equal(reserve(4, "small", 5), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve(4, "small", 4), E_OK);
    assert_int_equal(account("small").left_nano, 0);
    assert_int_equal(account("small").spent_nano, 4);
    reopen();
}

static void test_release_and_replay(void **state)
{
    (void)state;
    static const uint8_t key[32] = {7};
    struct span answer = span_str("planted-answer-in-clear");
    struct buf got = {.max = 1024};
    uint8_t id[16];
    home_dataset(&home, "d", 100);
    assert_int_equal(store_ledger_answer(&home.store, key, &got, NULL, NULL), E_NOT_FOUND);
    assert_int_equal(reserve(1, "d", 10), E_OK);
    assert_int_equal(reserve(2, "d", 10), E_OK);
    assert_int_equal(release(9, answer, key), E_NOT_FOUND);
    assert_int_equal(release(1, answer, key), E_OK);
    assert_int_equal(release(1, answer, key), E_INVALID);
    assert_int_equal(release(2, span_str("x"), key), E_EXISTS);
    reopen();
    assert_int_equal(store_ledger_answer(&home.store, key, &got, id, NULL), E_OK);
    assert_true(span_equal(buf_span(&got), answer));
    assert_int_equal(id[0], 1);
    struct store_charge replay = home_charge(3, "d", 5);
    assert_int_equal(store_ledger_replayed(&home.store, &replay, NULL), E_OK);
    assert_int_equal(account("d").spent_nano, 20);
    /* Shredding makes the answer unreadable, a new key for the same name does not bring it back, spent stays. */
    assert_int_equal(crypto_keyring_shred(home.keyring, "dataset/d", NULL), E_OK);
    assert_int_equal(store_ledger_answer(&home.store, key, &got, NULL, NULL), E_NOT_FOUND);
    assert_int_equal(reserve(4, "d", 1), E_OK);
    assert_int_equal(release(4, answer, key), E_NOT_FOUND);
    assert_int_equal(crypto_keyring_add(home.keyring, "dataset/d", NULL), E_OK);
    assert_int_equal(store_ledger_answer(&home.store, key, &got, NULL, NULL), E_NOT_FOUND);
    assert_int_equal(release(4, answer, key), E_OK);
    assert_int_equal(account("d").spent_nano, 21);
    buf_fini(&got);
}

static enum err count_states(void *user, const struct store_ledger_row *row)
{
    int *states = user;
    states[row->state]++;
    assert_string_equal(row->person, "ada-planted-person");
    return E_OK;
}

static void test_training(void **state)
{
    (void)state;
    int states[5] = {0};
    uint64_t started = 0;
    home_dataset(&home, "d", 1000);
    struct store_charge train = home_charge(1, "d", 10);
    train.kind = STORE_CHARGE_TRAIN;
    train.steps = 100;
    train.nano_domain = 9;
    assert_int_equal(store_ledger_reserve(&home.store, &train, NULL, NULL), E_OK);
    assert_int_equal(account("d").spent_nano, 1000);
    assert_int_equal(account(NULL).spent_nano, 900);
    assert_int_equal(store_ledger_steps_start(&home.store, train.id, 101, NOW, NULL), E_INVALID);
    assert_int_equal(store_ledger_steps_start(&home.store, train.id, 30, NOW, NULL), E_OK);
    uint64_t seq = head_seq();
    assert_int_equal(store_ledger_steps_start(&home.store, train.id, 20, NOW, NULL), E_OK);
    assert_int_equal(head_seq(), seq);
    reopen();
    assert_int_equal(store_ledger_finish(&home.store, train.id, BODY, NOW, &started, NULL), E_OK);
    assert_int_equal(started, 30);
    assert_int_equal(account("d").spent_nano, 300);
    assert_int_equal(account("d").train_nano, 300);
    assert_int_equal(account(NULL).spent_nano, 270);
    assert_int_equal(store_ledger_finish(&home.store, train.id, BODY, NOW, NULL, NULL), E_EXISTS);
    assert_int_equal(store_ledger_steps_start(&home.store, train.id, 40, NOW, NULL), E_INVALID);
    assert_int_equal(reserve(2, "d", 5), E_OK);
    assert_int_equal(store_ledger_finish(&home.store, (uint8_t[16]){2}, BODY, NOW, NULL, NULL),
                     E_INVALID);
    assert_int_equal(home_account(&home, "d", 2000, 3.5), E_INVALID);
    assert_int_equal(home_account(&home, "d", 2000, 4.5), E_OK);
    reopen();
    assert_int_equal(store_ledger_each(&home.store, 0, count_states, states, NULL), E_OK);
    assert_int_equal(states[STORE_CHARGE_FINISHED], 1);
    assert_int_equal(states[STORE_CHARGE_RESERVED], 1);
}

/* A job that was stopped goes on: what went back is taken again, what was started is not. */
static void test_reopen(void **state)
{
    (void)state;
    home_dataset(&home, "d", 1000);
    struct store_charge train = home_charge(1, "d", 10);
    train.kind = STORE_CHARGE_TRAIN;
    train.steps = 90;
    train.nano_domain = 9;
    assert_int_equal(store_ledger_reopen(&home.store, &train, NULL, NULL), E_NOT_FOUND);
    assert_int_equal(store_ledger_reserve(&home.store, &train, NULL, NULL), E_OK);
    assert_int_equal(store_ledger_reopen(&home.store, &train, NULL, NULL), E_EXISTS);
    assert_int_equal(store_ledger_steps_start(&home.store, train.id, 30, NOW, NULL), E_OK);
    assert_int_equal(store_ledger_finish(&home.store, train.id, BODY, NOW, NULL, NULL), E_OK);
    assert_int_equal(account("d").spent_nano, 300);
    struct store_charge other = train;
    other.steps = 91;
    assert_int_equal(store_ledger_reopen(&home.store, &other, NULL, NULL), E_INVALID);
    other = train;
    other.nano = 9;
    assert_int_equal(store_ledger_reopen(&home.store, &other, NULL, NULL), E_INVALID);
    struct store_account after;
    assert_int_equal(store_ledger_reopen(&home.store, &train, &after, NULL), E_OK);
    assert_int_equal(after.spent_nano, 900);
    assert_int_equal(account("d").spent_nano, 900);
    assert_int_equal(account("d").train_nano, 900);
    assert_int_equal(account(NULL).spent_nano, 810);
    reopen();
    assert_int_equal(store_ledger_steps_start(&home.store, train.id, 91, NOW, NULL), E_INVALID);
    assert_int_equal(store_ledger_steps_start(&home.store, train.id, 40, NOW, NULL), E_OK);
    assert_int_equal(store_ledger_finish(&home.store, train.id, BODY, NOW, NULL, NULL), E_OK);
    assert_int_equal(account("d").spent_nano, 400);
    /* Others have spent it in between: nothing changes, and it may be tried again. */
    assert_int_equal(reserve(2, "d", 101), E_OK);
    assert_int_equal(store_ledger_reopen(&home.store, &train, NULL, NULL), E_BUDGET_EXHAUSTED);
    assert_int_equal(account("d").spent_nano, 501);
    assert_int_equal(home_account(&home, "d", 1001, 4.5), E_OK);
    assert_int_equal(store_ledger_reopen(&home.store, &train, NULL, NULL), E_OK);
    assert_int_equal(account("d").spent_nano, 1001);
    reopen();
}

/* A child reserves and dies by SIGKILL before it can release any of POINT charges. */
static void crash_child(int point)
{
    struct home child;
    struct err_info info = {0};
    if (!home_child(&home, &child)) {
        _exit(3);
    }
    for (int i = 0; i < point; i++) {
        struct store_charge charge = home_charge((uint8_t)(10 + i), "d", 10);
        if (store_ledger_reserve(&child.store, &charge, NULL, &info)) {
            _exit(4);
        }
    }
    kill(getpid(), SIGKILL);
}

static void test_crash_between_reserve_and_release(void **state)
{
    (void)state;
    home_dataset(&home, "d", 1000);
    store_close(&home.store);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        crash_child(3);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    home_try_open(&home, E_OK);
    assert_int_equal(account("d").spent_nano, 30);
    assert_int_equal(reserve(10, "d", 1), E_EXISTS);
    assert_int_equal(reserve(13, "d", 971), E_BUDGET_EXHAUSTED);
}

struct racer {
    pthread_t thread;
    uint8_t id;
    enum err err;
};

static void *race(void *arg)
{
    struct racer *racer = arg;
    struct store_charge charge = home_charge(racer->id, "d", 60);
    racer->err = store_ledger_reserve(&home.store, &charge, NULL, NULL);
    return NULL;
}

static void test_last_budget_has_one_winner(void **state)
{
    (void)state;
    enum {
        RACERS = 8
    };
    struct racer racers[RACERS] = {0};
    int won = 0;
    home_dataset(&home, "d", 100);
    for (int i = 0; i < RACERS; i++) {
        racers[i].id = (uint8_t)(i + 1);
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < RACERS; i++) {
        pthread_join(racers[i].thread, NULL);
        won += racers[i].err == E_OK;
        assert_true(racers[i].err == E_OK || racers[i].err == E_BUDGET_EXHAUSTED);
    }
    assert_int_equal(won, 1);
    assert_int_equal(account("d").spent_nano, 60);
    reopen();
}

static enum err add_answer_bytes(void *user, const struct store_egress *row)
{
    if (strcmp(row->peer, "planted-peer") == 0 && strcmp(row->kind, "answer") == 0 &&
        strlen(row->id) == 32) {
        *(uint64_t *)user += row->bytes;
    }
    return E_OK;
}

static void test_nothing_in_clear(void **state)
{
    (void)state;
    static const uint8_t key[32] = {3};
    struct buf file;
    home_dataset(&home, "planted-dataset", 100);
    struct store_charge charge = home_charge(1, "planted-dataset", 10);
    charge.audit_body = span_str("{\"q\":\"planted-question\"}");
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_OK);
    struct store_release planted = {.id = charge.id,
                                    .answer = span_str("planted-answer"),
                                    .replay_key = key,
                                    .audit_body = span_str("planted-body"),
                                    .leaves_to = "planted-peer",
                                    .now = NOW};
    assert_int_equal(store_ledger_release(&home.store, &planted, NULL), E_OK);
    uint64_t listed = 0;
    assert_int_equal(store_egress_each(&home.store, 0, add_answer_bytes, &listed, NULL), E_OK);
    assert_int_equal(listed, strlen("planted-answer"));
    home_file(home.mdb, &file);
    assert_null(memmem(file.ptr, file.len, "planted", 7));
    assert_non_null(
        memmem(file.ptr, file.len, "query.release", 13)); /* the search does find what is there */
    buf_fini(&file);
}

static void test_disk_full(void **state)
{
    (void)state;
    home_dataset(&home, "d", 100);
    assert_int_equal(reserve(1, "d", 10), E_OK);
    uint64_t seq = head_seq();
    struct stat st;
    assert_int_equal(stat(home.mdb, &st), 0);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit tight = {(rlim_t)st.st_size, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    uint8_t *big = calloc(1, 1 << 20);
    struct err_info info = {0};
    struct store_release large = {.id = (uint8_t[16]){1},
                                  .answer = span_of(big, 1 << 20),
                                  .replay_key = (uint8_t[32]){1},
                                  .audit_body = BODY,
                                  .now = NOW};
    enum err err = store_ledger_release(&home.store, &large, &info);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    free(big);
    assert_true(err == E_DISK_FULL || err == E_IO);
    assert_true(strlen(info.text) > 0);
    struct buf none = {.max = 64};
    assert_int_equal(store_ledger_answer(&home.store, (uint8_t[32]){1}, &none, NULL, NULL),
                     E_NOT_FOUND);
    assert_int_equal(head_seq(), seq);
    assert_int_equal(account("d").spent_nano, 10);
    reopen();
    assert_int_equal(release(1, BODY, (uint8_t[32]){1}), E_OK);
}

/* An older node.mdb with the newer head put in by hand, and a value flipped in place. */
static void test_tampering_is_refused(void **state)
{
    (void)state;
    struct buf file;
    home_dataset(&home, "d", 100);
    assert_int_equal(reserve(1, "d", 10), E_OK);
    store_close(&home.store);
    home_file(home.mdb, &file);
    int seen = 0;
    for (size_t at = 0; at + 64 < file.len;
         at++) { /* every sealed value and copy of one: flip a byte of its cipher */
        if (memcmp(file.ptr + at, "CCK1", 4) == 0) {
            file.ptr[at + 33] ^= 1;
            seen++;
        }
    }
    assert_true(seen > 3);
    home_write(home.mdb, buf_span(&file));
    home_try_open(&home, E_CORRUPT);
    buf_fini(&file);
    unlink(home.mdb);
    home_try_open(&home, E_ROLLBACK);
}

/* A bit of a table's name: it would be made anew, and empty. */
static void test_a_table_that_lost_its_name_is_missed(void **state)
{
    (void)state;
    struct buf file;
    home_dataset(&home, "d", 100);
    assert_int_equal(reserve(1, "d", 10), E_OK);
    store_close(&home.store);
    home_file(home.mdb, &file);
    for (int t = 0; t < STORE_TABLE_COUNT; t++) {
        const char *name = store_table_name((enum store_table)t);
        size_t len = strlen(name);
        uint8_t node[66] = {0}; /* LMDB's: of a table's record, what stands around the name */
        uint8_t *at = file.ptr;
        size_t found = 0;
        node[0] = 0x02; /* F_SUBDATA, in the machine's order */
        node[2] = (uint8_t)len;
        memcpy(node + 4, name, len);
        while ((at = memmem(at, (size_t)(file.ptr + file.len - at), node, 4 + len)) != NULL) {
            at[4] ^= 0x80;
            at += 4;
            found++;
        }
        assert_true(found > 0);
        home_write(home.mdb, buf_span(&file));
        home_try_open(&home, E_CORRUPT);
        for (at = file.ptr; found--;) {
            node[4] = (uint8_t)(name[0] ^ 0x80);
            at = memmem(at, (size_t)(file.ptr + file.len - at), node, 4 + len);
            assert_non_null(at);
            at[4] ^= 0x80;
        }
    }
    home_write(home.mdb, buf_span(&file));
    buf_fini(&file);
    home_try_open(&home, E_OK);
}

/* An older node.mdb is put back. A witness's head shows it; once the operator accepts, what is missing is spent, for datasets
 * that open later too, and the next entry's number is above everything that others saw. */
static void test_restored(void **state)
{
    (void)state;
    struct buf old;
    struct store_audit_head shown;
    struct store_audit_head before;
    struct store_audit_head after;
    struct store_account account;
    struct store_lost lost;
    struct err_info info = {0};
    home_dataset(&home, "d", 1000);
    home_dataset(&home, "e", 1000);
    assert_int_equal(reserve(1, "d", 10), E_OK);
    store_close(&home.store);
    home_file(home.mdb, &old);
    home_try_open(&home, E_OK);
    assert_int_equal(reserve(2, "d", 20), E_OK);
    assert_int_equal(reserve(3, "e", 25), E_OK);
    assert_int_equal(store_audit_head(&home.store, &shown), E_OK);
    assert_int_equal(store_witness_compare(&home.store, &shown, &info), E_OK);
    store_close(&home.store);
    FILE *file = fopen(home.mdb, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(old.ptr, 1, old.len, file), old.len);
    assert_int_equal(fclose(file), 0);
    buf_fini(&old);
    home_try_open(&home, E_OK);
    assert_int_equal(store_audit_head(&home.store, &before), E_OK);
    assert_true(before.seq < shown.seq);
    assert_int_equal(store_witness_compare(&home.store, &shown, &info), E_ROLLBACK);
    struct store_audit_head forged = shown;
    forged.spent_nano++;
    assert_int_equal(store_ledger_accept(&home.store, &forged, NOW, &lost, &info), E_AUTH);
    assert_int_equal(store_ledger_accept(&home.store, &shown, NOW, &lost, &info), E_OK);
    assert_int_equal(lost.nano, 45);
    assert_int_equal(lost.from_seq, before.seq);
    assert_int_equal(lost.entries, shown.seq - before.seq);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(store_audit_head(&home.store, &after), E_OK);
        assert_int_equal(after.seq, shown.seq + 1);
        assert_int_equal(after.spent_nano, 55);
        assert_int_equal(store_witness_compare(&home.store, &shown, &info), E_OK);
        assert_int_equal(store_ledger_get(&home.store, "d", &account, &info), E_OK);
        assert_int_equal(account.spent_nano, 55);
        assert_int_equal(store_ledger_get(&home.store, "e", &account, &info), E_OK);
        assert_int_equal(account.spent_nano, 45);
        assert_int_equal(store_ledger_domain_get(&home.store, "", &account, &info), E_OK);
        assert_int_equal(account.spent_nano, 55);
        store_close(&home.store);
        home_try_open(&home, E_OK); /* chain and ledger add up */
    }
    home_dataset(&home, "f", 1000);
    assert_int_equal(store_ledger_get(&home.store, "f", &account, &info), E_OK);
    assert_int_equal(account.spent_nano, 45);
    assert_int_equal(store_ledger_domain_get(&home.store, "", &account, &info), E_OK);
    assert_int_equal(account.spent_nano, 55);
    store_close(&home.store);
    home_try_open(&home, E_OK);
    /* A head from before the loss that is not in the chain is still proof. */
    struct store_audit_head other = before;
    other.hash[0] ^= 1;
    uint8_t body[STORE_AUDIT_HEAD_BODY];
    uint8_t bytes[STORE_AUDIT_HEAD_SIZE];
    store_audit_head_encode(&other, bytes);
    memcpy(body, bytes, sizeof body);
    assert_int_equal(crypto_envelope_sign(home.identity, STORE_AUDIT_DOMAIN, home.fed,
                                          span_of(body, sizeof body), other.signature),
                     E_OK);
    assert_int_equal(store_witness_compare(&home.store, &other, &info), E_ROLLBACK);
}

/* Everything that was known was lost: the first dataset that opens pays, for the domain as well. */
static void test_restored_empty(void **state)
{
    (void)state;
    struct store_audit_head shown = {.seq = 7, .spent_nano = 30, .time = NOW};
    struct store_account account;
    struct store_lost lost;
    uint8_t bytes[STORE_AUDIT_HEAD_SIZE];
    memcpy(shown.node_id, home.node_id, 16);
    store_audit_head_encode(&shown, bytes);
    assert_int_equal(crypto_envelope_sign(home.identity, STORE_AUDIT_DOMAIN, home.fed,
                                          span_of(bytes, STORE_AUDIT_HEAD_BODY), shown.signature),
                     E_OK);
    assert_int_equal(store_ledger_accept(&home.store, &shown, NOW, &lost, NULL), E_OK);
    assert_int_equal(lost.nano, 30);
    home_dataset(&home, "d", 1000);
    home_dataset(&home, "e", 1000);
    assert_int_equal(store_ledger_domain_get(&home.store, "", &account, NULL), E_OK);
    assert_int_equal(account.spent_nano, 30);
    assert_int_equal(store_ledger_get(&home.store, "e", &account, NULL), E_OK);
    assert_int_equal(account.spent_nano, 30);
    store_close(&home.store);
    home_try_open(&home, E_OK);
}

static void test_format(void **state)
{
    (void)state;
    char path[96];
    store_close(&home.store);
    snprintf(path, sizeof path, "%s/format", home.dir);
    assert_int_equal(store_file_write(path, span_str("3\n"), NULL), E_OK);
    home_try_open(&home, E_CORRUPT);
    assert_int_equal(store_file_write(path, span_str("one\n"), NULL), E_OK);
    home_try_open(&home, E_CORRUPT);
    assert_int_equal(unlink(path), 0);
    home_try_open(&home, E_CORRUPT);
    assert_int_equal(store_file_write(path, span_str("2\n"), NULL), E_OK);
    char stale[96];
    snprintf(stale, sizeof stale, "%s/partitions/ab.mdb.new", home.dir);
    assert_int_equal(store_file_write(stale, span_str("half"), NULL), E_OK);
    home_try_open(&home, E_OK);
    assert_false(store_file_exists(stale));
    /* The one before is made into this one, after a copy. */
    store_close(&home.store);
    struct buf number = {.max = 16};
    assert_int_equal(store_file_write(path, span_str("1\n"), NULL), E_OK);
    home_try_open(&home, E_OK);
    snprintf(stale, sizeof stale, "%s/node.mdb.format1", home.dir);
    assert_true(store_file_exists(stale));
    assert_int_equal(store_file_read(path, &number, NULL), E_OK);
    assert_true(span_equal(buf_span(&number), span_str("2\n")));
    buf_fini(&number);
}

/* A row as homes of format 1 hold it: the first eight fields of an account, which knew of one domain only. */
static void test_older_rows(void **state)
{
    (void)state;
    static const struct proto_field fields[] = {
        PROTO_FIELD(struct store_ledger_account, scope, PROTO_U64, 0, 4),
        PROTO_FIELD(struct store_ledger_account, dataset, PROTO_STR, 0, 64),
        PROTO_FIELD(struct store_ledger_account, name, PROTO_STR, 0, 128),
        PROTO_FIELD(struct store_ledger_account, cap, PROTO_U64, 0, INT64_MAX),
        PROTO_FIELD(struct store_ledger_account, spent, PROTO_U64, 0, INT64_MAX),
        PROTO_FIELD(struct store_ledger_account, train, PROTO_U64, 0, INT64_MAX),
        PROTO_FIELD(struct store_ledger_account, delta_e12, PROTO_U64, 0, INT64_MAX),
        PROTO_FIELD(struct store_ledger_account, order, PROTO_F64, 0, 0),
    };
    static const struct proto_message older =
        PROTO_MESSAGE("account", struct store_ledger_account, fields);
    const struct store_ledger_account account = {.scope = STORE_SCOPE_DATASET,
                                                 .dataset = span_str("d"),
                                                 .name = span_str(""),
                                                 .cap = 100,
                                                 .spent = 7,
                                                 .delta_e12 = 1000,
                                                 .order = 4.5};
    struct store_ledger_account got;
    struct arena arena = {0};
    struct buf bytes = {.max = 256};
    assert_int_equal(proto_codec_encode(&older, &account, &bytes, NULL), E_OK);
    assert_int_equal(
        store_ledger_row_decode(STORE_TABLE_ACCOUNTS, buf_span(&bytes), &arena, &got, NULL), E_OK);
    assert_int_equal(got.cap, 100);
    assert_int_equal(got.spent, 7);
    assert_int_equal(got.domain.len, 0);
    assert_int_equal(got.delta0 + got.delta0_spent + got.window_s, 0);
    bytes.len--;
    assert_int_equal(
        store_ledger_row_decode(STORE_TABLE_ACCOUNTS, buf_span(&bytes), &arena, &got, NULL),
        E_CORRUPT);
    arena_fini(&arena);
    buf_fini(&bytes);
}

static enum err set(const char *dataset, struct store_budget budget)
{
    budget.delta_e12 = budget.delta_e12 ? budget.delta_e12 : 1000000;
    budget.order = budget.order > 0 ? budget.order : 4.5;
    return store_ledger_account(&home.store, dataset, &budget, NOW, NULL);
}

static enum err reserve_delta0(uint8_t id, const char *dataset, uint64_t delta0)
{
    struct store_charge charge = home_charge(id, dataset, 1);
    charge.delta0_e18 = delta0;
    return store_ledger_reserve(&home.store, &charge, NULL, NULL);
}

/* Thresholds have a sum of their own, which is bounded apart from rho in every scope. */
static void test_delta0(void **state)
{
    (void)state;
    home_dataset(&home, "plain", 1000);
    home_dataset(&home, "keys", 1000);
    assert_int_equal(set("keys", (struct store_budget){.cap_nano = 1000, .delta0_e18 = 100}), E_OK);
    assert_int_equal(reserve_delta0(1, "plain", 1), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve_delta0(1, "keys", 60), E_OK);
    assert_int_equal(reserve_delta0(2, "keys", 41), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve_delta0(2, "keys", UINT64_MAX), E_INVALID);
    assert_int_equal(account("keys").delta0_spent_e18, 60);
    assert_int_equal(account("keys").spent_nano, 1);
    assert_int_equal(account(NULL).delta0_spent_e18, 60);
    struct store_charge charge = home_charge(3, "keys", 1);
    charge.delta0_e18 = 30;
    charge.caps.institution = (struct store_cap){true, 500, 80};
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_BUDGET_EXHAUSTED);
    charge.delta0_e18 = 20;
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_OK);
    /* What is left converts rho; a training has no thresholds. */
    struct store_account keys = account("keys");
    assert_int_equal(store_account_conversion_e12(&keys), 999999);
    charge = home_charge(4, "keys", 1);
    charge.kind = STORE_CHARGE_TRAIN;
    charge.delta0_e18 = 1;
    assert_int_equal(store_ledger_reserve(&home.store, &charge, NULL, NULL), E_INVALID);
    reopen();
    assert_int_equal(account("keys").delta0_spent_e18, 80);
    assert_int_equal(reserve(5, "keys", 1), E_OK);
}

static struct store_account domain(const char *name)
{
    struct store_account account;
    assert_int_equal(store_ledger_domain_get(&home.store, name, &account, NULL), E_OK);
    return account;
}

/* A domain binds all its datasets and no other; declared, it binds more than any of them says. */
static void test_domains(void **state)
{
    (void)state;
    struct store_budget declared = {.cap_nano = 70, .delta_e12 = 2000000, .order = 4.5};
    struct store_audit_head head;
    home_dataset(&home, "d", 100);
    home_dataset(&home, "staff", 100);
    assert_int_equal(set("staff", (struct store_budget){.cap_nano = 100, .domain = "staff"}), E_OK);
    assert_int_equal(reserve(1, "d", 60), E_OK);
    assert_int_equal(reserve(2, "staff", 90), E_OK); /* other people */
    assert_int_equal(domain("").spent_nano, 60);
    assert_int_equal(domain("staff").spent_nano, 90);
    assert_int_equal(store_audit_head(&home.store, &head), E_OK);
    assert_int_equal(head.spent_nano, 150);
    /* What was charged binds a dataset to its domain. */
    assert_int_equal(set("staff", (struct store_budget){.cap_nano = 100}), E_EXISTS);
    assert_int_equal(store_ledger_domain(&home.store, "", &declared, NOW, NULL), E_OK);
    assert_true(domain("").declared);
    assert_int_equal(reserve(3, "d", 11), E_BUDGET_EXHAUSTED);
    assert_int_equal(set("d", (struct store_budget){.cap_nano = 1000}), E_OK);
    assert_int_equal(account("d").left_nano, 10);
    assert_int_equal(reserve(3, "d", 10), E_OK);
    uint64_t seq = head_seq();
    assert_int_equal(store_ledger_domain(&home.store, "", &declared, NOW, NULL), E_OK);
    assert_int_equal(head_seq(), seq);
    assert_int_equal(store_ledger_domain(&home.store, "none", NULL, NOW, NULL), E_NOT_FOUND);
    assert_int_equal(store_ledger_domain(&home.store, "", NULL, NOW, NULL), E_OK);
    assert_int_equal(domain("").cap_nano, 1000);
    assert_int_equal(domain("").spent_nano, 70);
    reopen();
    assert_int_equal(domain("staff").spent_nano, 90);
    assert_int_equal(reserve(4, "d", 930), E_OK);
    assert_int_equal(reserve(5, "d", 1), E_BUDGET_EXHAUSTED);
}

static enum err reserve_at(uint8_t id, uint64_t nano, int64_t now, struct err_info *info)
{
    struct store_charge charge = home_charge(id, "d", nano);
    charge.now = now;
    return store_ledger_reserve(&home.store, &charge, NULL, info);
}

/* A window delays and never adds; a clock that is set back opens none. */
static void test_windows(void **state)
{
    (void)state;
    struct err_info info = {0};
    int64_t day = 86400;
    int64_t start = 20000 * day;
    home_dataset(&home, "d", 100);
    struct store_budget budget = {.cap_nano = 100, .window_s = (uint64_t)day, .window_nano = 40};
    assert_int_equal(set("d", budget), E_OK);
    assert_int_equal(reserve_at(1, 30, start + 5, &info), E_OK);
    assert_int_equal(reserve_at(2, 11, start + day - 1, &info), E_BUDGET_EXHAUSTED);
    assert_non_null(strstr(info.text, "opens at 2024-10-05T00:00:00Z"));
    assert_int_equal(reserve_at(2, 41, start + day, &info), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve_at(2, 40, start + day, &info), E_OK);
    assert_int_equal(reserve_at(3, 1, start + 5, &info), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve_at(3, 31, start + 9 * day, &info), E_BUDGET_EXHAUSTED);
    assert_int_equal(reserve_at(3, 30, start + 9 * day, &info), E_OK);
    assert_int_equal(reserve_at(4, 1, start + 99 * day, &info), E_BUDGET_EXHAUSTED);
    assert_int_equal(account("d").spent_nano, 100);
    reopen();
    struct store_account now = account("d");
    int64_t opens;
    assert_int_equal(store_account_window_left(&now, start + 9 * day, &opens), 10);
    assert_int_equal(opens, start + 10 * day);
    assert_int_equal(store_account_window_left(&now, start + 10 * day, &opens), 40);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_arithmetic),
        T(test_refusal_changes_nothing),
        T(test_caps),
        T(test_release_and_replay),
        T(test_training),
        T(test_reopen),
        T(test_crash_between_reserve_and_release),
        T(test_last_budget_has_one_winner),
        T(test_nothing_in_clear),
        T(test_disk_full),
        T(test_tampering_is_refused),
        T(test_a_table_that_lost_its_name_is_missed),
        T(test_restored),
        T(test_restored_empty),
        T(test_format),
        T(test_older_rows),
        T(test_delta0),
        T(test_domains),
        T(test_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
