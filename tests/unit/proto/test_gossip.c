/* The rules of the gossip core one by one; what many cores do together is tests/sim/sim_gossip.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/gossip.h"
#include "tests/lib/fake_hash.h"

#define WALL UINT64_C(1790000000000)

struct rig {
    struct proto_gossip *core;
    struct proto_gossip_actions *out;
    uint64_t now;
};

static struct rig rig_new(uint32_t records, uint32_t issuer_per_min)
{
    struct proto_gossip_config config = {.hash = &fake_hash,
                                         .seed = 7,
                                         .links = 4,
                                         .records = records,
                                         .issuers = 8,
                                         .issuer_per_min = issuer_per_min};
    struct rig rig = {proto_gossip_new(&config), proto_gossip_actions_new(), 1000};
    assert_non_null(rig.core);
    assert_non_null(rig.out);
    return rig;
}

static void rig_free(struct rig *rig)
{
    assert_true(proto_gossip_valid(rig->core));
    proto_gossip_free(rig->core);
    proto_gossip_actions_free(rig->out);
}

static void step(struct rig *rig, struct proto_gossip_event event)
{
    event.now_ms = rig->now;
    event.wall_ms = WALL + rig->now;
    proto_gossip_step(rig->core, &event, rig->out);
}

static const struct proto_gossip_action *find(const struct rig *rig,
                                              enum proto_gossip_action_kind kind)
{
    for (size_t i = 0; i < rig->out->count; i++) {
        if (rig->out->items[i].kind == kind) {
            return &rig->out->items[i];
        }
    }
    return NULL;
}

struct version {
    uint8_t issuer, key;
    uint64_t kind, seq, hlc, flags;
    const char *body;
};

static void record_make(struct version v, struct buf *out)
{
    uint8_t issuer[16], key[16], sig[64] = {1};
    struct buf envelope = {.max = PROTO_RECORD_MAX};
    memset(issuer, v.issuer, 16);
    memset(key, v.key, 16);
    struct proto_envelope fields = {.version = 1,
                                    .kind = v.kind ? v.kind : PROTO_RECORD_LICENCE,
                                    .issuer = span_of(issuer, 16),
                                    .key = span_of(key, 16),
                                    .seq = v.seq,
                                    .hlc = v.hlc,
                                    .flags = v.flags,
                                    .body = span_str(v.body ? v.body : "x")};
    assert_int_equal(proto_record_encode(&fields, &envelope, NULL), E_OK);
    assert_int_equal(proto_record_seal(buf_span(&envelope), sig, out), E_OK);
    buf_fini(&envelope);
}

static void push(struct rig *rig, uint32_t link, struct version v)
{
    struct buf record = {.max = PROTO_RECORD_MAX}, message = {.max = PROTO_GOSSIP_MESSAGE_MAX};
    record_make(v, &record);
    assert_true(proto_gossip_push_add(&message, buf_span(&record)));
    step(rig, (struct proto_gossip_event){
                  .kind = PROTO_GOSSIP_MSG, .link = link, .bytes = buf_span(&message)});
    buf_fini(&record);
    buf_fini(&message);
}

/* Pushes, verifies with VERDICT, stores; true: it is in the set now. */
static bool take(struct rig *rig, uint32_t link, struct version v,
                 enum proto_gossip_verdict verdict)
{
    push(rig, link, v);
    const struct proto_gossip_action *action = find(rig, PROTO_GOSSIP_VERIFY);
    if (!action) {
        return false;
    }
    uint32_t job = action->job;
    step(rig, (struct proto_gossip_event){
                  .kind = PROTO_GOSSIP_VERIFIED, .job = job, .verdict = verdict});
    if (!find(rig, PROTO_GOSSIP_STORE)) {
        assert_non_null(find(rig, PROTO_GOSSIP_DONE));
        return false;
    }
    step(rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_STORED, .job = job, .ok = true});
    assert_non_null(find(rig, PROTO_GOSSIP_DONE));
    return find(rig, PROTO_GOSSIP_DONE)->ok;
}

static uint64_t count(const struct rig *rig)
{
    uint8_t root[16];
    return proto_gossip_root(rig->core, root);
}

static void test_merge(void **state)
{
    (void)state;
    struct rig rig = rig_new(64, 0);
    assert_true(take(&rig, 0, (struct version){1, 1, .seq = 2}, PROTO_GOSSIP_ACCEPT));
    assert_false(take(&rig, 1, (struct version){1, 1, .seq = 2}, PROTO_GOSSIP_ACCEPT)); /* known */
    assert_false(take(&rig, 0, (struct version){1, 1, .seq = 1}, PROTO_GOSSIP_ACCEPT)); /* older */
    assert_true(take(&rig, 0, (struct version){1, 1, .seq = 3}, PROTO_GOSSIP_ACCEPT));
    assert_int_equal(count(&rig), 1);
    assert_true(take(&rig, 0, (struct version){1, 1, .seq = 1, .flags = PROTO_RECORD_FINAL},
                     PROTO_GOSSIP_ACCEPT));
    assert_false(
        take(&rig, 0, (struct version){1, 1, .seq = 9}, PROTO_GOSSIP_ACCEPT)); /* final is final */
    assert_true(take(&rig, 0, (struct version){1, 1, .kind = PROTO_RECORD_MODEL, .seq = 1},
                     PROTO_GOSSIP_ACCEPT));
    assert_true(take(&rig, 0, (struct version){2, 1, .seq = 1}, PROTO_GOSSIP_ACCEPT));
    assert_int_equal(count(&rig), 3);
    rig_free(&rig);
}

/* Whatever the order, the two smallest ids of one seq stay, and the root is the same. */
static void test_equivocation(void **state)
{
    (void)state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const char *const bodies[] = {"a", "b", "c"};
    uint8_t first[16], root[16];
    for (int o = 0; o < 6; o++) {
        struct rig rig = rig_new(64, 0);
        for (int i = 0; i < 3; i++) {
            take(&rig, 0, (struct version){1, 1, .seq = 1, .body = bodies[orders[o][i]]},
                 PROTO_GOSSIP_ACCEPT);
        }
        assert_int_equal(proto_gossip_root(rig.core, o ? root : first), 2);
        if (o) {
            assert_memory_equal(first, root, 16);
        }
        struct proto_gossip_counters counters;
        proto_gossip_counters(rig.core, &counters);
        assert_int_equal(counters.forked, 1);
        rig_free(&rig);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct rig rig = rig_new(700, 1);
    /* a record from the future waits; nobody is blamed */
    assert_false(take(&rig, 0, (struct version){1, 9, .seq = 1, .hlc = (WALL + 3600000) << 16},
                      PROTO_GOSSIP_ACCEPT));
    assert_true(
        take(&rig, 0, (struct version){1, 9, .seq = 1, .hlc = WALL << 16}, PROTO_GOSSIP_ACCEPT));
    /* burst of ten versions for one issuer; a bad signature costs the issuer nothing */
    assert_false(take(&rig, 0, (struct version){1, 9, .seq = 50}, PROTO_GOSSIP_REJECT));
    for (uint64_t seq = 2; seq <= 10; seq++) {
        assert_true(take(&rig, 1, (struct version){1, 9, .seq = seq}, PROTO_GOSSIP_ACCEPT));
    }
    assert_false(take(&rig, 1, (struct version){1, 9, .seq = 11}, PROTO_GOSSIP_ACCEPT));
    assert_true(
        take(&rig, 1, (struct version){2, 9, .seq = 11}, PROTO_GOSSIP_ACCEPT)); /* others go on */
    rig.now += 61000;
    assert_true(take(&rig, 1, (struct version){1, 9, .seq = 11}, PROTO_GOSSIP_ACCEPT));
    rig_free(&rig);
    rig = rig_new(2, 0);
    assert_true(take(&rig, 0, (struct version){1, 1, .seq = 1}, PROTO_GOSSIP_ACCEPT));
    assert_true(take(&rig, 0, (struct version){1, 2, .seq = 1}, PROTO_GOSSIP_ACCEPT));
    assert_false(take(&rig, 0, (struct version){1, 3, .seq = 1}, PROTO_GOSSIP_ACCEPT)); /* full */
    assert_true(take(&rig, 0, (struct version){1, 2, .seq = 2}, PROTO_GOSSIP_ACCEPT));
    rig_free(&rig);
}

static void test_unknown_kinds(void **state)
{
    (void)state;
    struct rig rig = rig_new(64, 0);
    assert_false(take(&rig, 0, (struct version){1, 1, .kind = 20, .seq = 1}, PROTO_GOSSIP_ACCEPT));
    assert_true(take(
        &rig, 0, (struct version){1, 1, .kind = 20, .seq = 1, .flags = PROTO_RECORD_RELAY_UNKNOWN},
        PROTO_GOSSIP_ACCEPT));
    rig_free(&rig);
}

static void test_nonsense_is_closed(void **state)
{
    (void)state;
    struct rig rig = rig_new(64, 0);
    int tries = 0;
    step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_LINK_UP, .link = 2});
    do {
        static const uint8_t push_of_nothing[] = {PROTO_GOSSIP_PUSH, 1, 0xff, 0xff};
        step(&rig, (struct proto_gossip_event){
                       .kind = PROTO_GOSSIP_MSG, .link = 2, .bytes = span_of(push_of_nothing, 4)});
    } while (!find(&rig, PROTO_GOSSIP_CLOSE) && ++tries < 20);
    assert_int_equal(tries, 5); /* the sixth */
    /* a message type of a later version is no offence */
    struct proto_gossip_link_view before, after;
    proto_gossip_link(rig.core, 1, &before);
    step(&rig, (struct proto_gossip_event){
                   .kind = PROTO_GOSSIP_MSG, .link = 1, .bytes = span_of("\x40\x01hello", 7)});
    proto_gossip_link(rig.core, 1, &after);
    assert_int_equal(before.score, after.score);
    rig_free(&rig);
}

/* Anything that leaves for a link after the last step: pushed, announced or asked for. */
static bool is_sent(const struct rig *rig, uint32_t link)
{
    for (size_t i = 0; i < rig->out->count; i++) {
        const struct proto_gossip_action *action = &rig->out->items[i];
        bool sends =
            action->kind == PROTO_GOSSIP_SEND_RECORDS ||
            (action->kind == PROTO_GOSSIP_SEND && action->bytes.ptr[0] == PROTO_GOSSIP_IHAVE);
        if (sends && action->link == link) {
            return true;
        }
    }
    return false;
}

static int32_t score(const struct rig *rig, uint32_t link)
{
    struct proto_gossip_link_view view;
    proto_gossip_link(rig->core, link, &view);
    return view.score;
}

/* A record that somebody answers for is refused, counted against its sender and never relayed; one that is only old is
 * dropped before its signature is looked at, and costs nothing. */
static void test_bad_records(void **state)
{
    (void)state;
    struct rig rig = rig_new(64, 0);
    struct proto_gossip_counters counters;
    step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_LINK_UP, .link = 0});
    step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_LINK_UP, .link = 1});
    /* A good one, so that there is something to compare with: it is relayed. */
    assert_true(take(&rig, 0, (struct version){1, 1, .seq = 5}, PROTO_GOSSIP_ACCEPT));
    push(&rig, 0, (struct version){1, 2, .seq = 1});
    uint32_t job = find(&rig, PROTO_GOSSIP_VERIFY)->job;
    step(&rig, (struct proto_gossip_event){
                   .kind = PROTO_GOSSIP_VERIFIED, .job = job, .verdict = PROTO_GOSSIP_ACCEPT});
    step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_STORED, .job = job, .ok = true});
    assert_true(is_sent(&rig, 1));
    /* A bad signature, or a signature of somebody who may not write this key. */
    int32_t before = score(&rig, 0);
    push(&rig, 0, (struct version){1, 3, .seq = 1});
    job = find(&rig, PROTO_GOSSIP_VERIFY)->job;
    assert_false(is_sent(&rig, 1)); /* nothing before the signature was checked */
    step(&rig, (struct proto_gossip_event){
                   .kind = PROTO_GOSSIP_VERIFIED, .job = job, .verdict = PROTO_GOSSIP_REJECT});
    assert_null(find(&rig, PROTO_GOSSIP_STORE));
    assert_false(find(&rig, PROTO_GOSSIP_DONE)->ok);
    assert_false(is_sent(&rig, 1));
    assert_true(score(&rig, 0) <= before - 20000);
    proto_gossip_counters(rig.core, &counters);
    assert_int_equal(counters.rejected, 1);
    /* An envelope that does not decode, and one that is longer than any record. */
    uint8_t push_bytes[4 + PROTO_RECORD_MAX + 1] = {PROTO_GOSSIP_PUSH, 1, 0, 40};
    static const size_t lengths[] = {40, PROTO_RECORD_MAX + 1};
    for (size_t i = 0; i < 2; i++) {
        before = score(&rig, 1);
        put_be16(push_bytes + 2, (uint16_t)lengths[i]);
        step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_MSG,
                                               .link = 1,
                                               .bytes = span_of(push_bytes, 4 + lengths[i])});
        assert_null(find(&rig, PROTO_GOSSIP_VERIFY));
        assert_false(is_sent(&rig, 0));
        assert_true(score(&rig, 1) < before);
    }
    proto_gossip_counters(rig.core, &counters);
    assert_int_equal(counters.malformed, 2);
    /* An older version of a key: no signature check, no score. */
    before = score(&rig, 0);
    push(&rig, 0, (struct version){1, 1, .seq = 4});
    assert_null(find(&rig, PROTO_GOSSIP_VERIFY));
    assert_false(is_sent(&rig, 1));
    assert_int_equal(score(&rig, 0), before);
    proto_gossip_counters(rig.core, &counters);
    assert_int_equal(counters.stale, 1);
    rig_free(&rig);
}

/* How far a peer's clock is ahead comes with its pings; a liar's year cannot overflow. */
static void test_clocks(void **state)
{
    (void)state;
    struct rig rig = rig_new(64, 0);
    struct proto_gossip_link_view view;
    uint8_t ping[34] = {PROTO_GOSSIP_PING, 1};
    static const int64_t ahead[] = {0, 3600000, -7200000};
    step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_LINK_UP, .link = 1});
    proto_gossip_link(rig.core, 1, &view);
    assert_false(view.clock_known);
    for (size_t i = 0; i < 3; i++) {
        put_be64(ping + 26, (uint64_t)((int64_t)(WALL + rig.now) + ahead[i]));
        step(&rig, (struct proto_gossip_event){
                       .kind = PROTO_GOSSIP_MSG, .link = 1, .bytes = span_of(ping, 34)});
        proto_gossip_link(rig.core, 1, &view);
        assert_true(view.clock_known);
        assert_int_equal(view.clock_ahead_ms, ahead[i]);
    }
    put_be64(ping + 26, UINT64_MAX);
    step(&rig, (struct proto_gossip_event){
                   .kind = PROTO_GOSSIP_MSG, .link = 1, .bytes = span_of(ping, 34)});
    proto_gossip_link(rig.core, 1, &view);
    assert_false(view.clock_known);
    rig_free(&rig);
}

static void test_liveness(void **state)
{
    (void)state;
    static const enum proto_gossip_liveness expected[] = {PROTO_GOSSIP_SUSPECT,
                                                          PROTO_GOSSIP_SUSPECT, PROTO_GOSSIP_DEAD};
    struct rig rig = rig_new(64, 0);
    struct proto_gossip_link_view view;
    step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_LINK_UP, .link = 0});
    step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_TIMER});
    assert_non_null(find(&rig, PROTO_GOSSIP_SEND));
    for (size_t i = 0; i < 3; i++) {
        rig.now += 3000;
        step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_TIMER});
        proto_gossip_link(rig.core, 0, &view);
        assert_int_equal(view.liveness, expected[i]);
    }
    step(&rig, (struct proto_gossip_event){
                   .kind = PROTO_GOSSIP_MSG, .link = 0, .bytes = span_of("\x40\x01", 2)});
    proto_gossip_link(rig.core, 0, &view);
    assert_int_equal(view.liveness, PROTO_GOSSIP_UP);
    rig_free(&rig);
}

/* An own record goes to every link at once, a record of others not back to whom it came from. */
static void test_spread(void **state)
{
    (void)state;
    struct rig rig = rig_new(64, 0);
    struct buf record = {.max = PROTO_RECORD_MAX};
    for (uint32_t i = 0; i < 4; i++) {
        step(&rig, (struct proto_gossip_event){.kind = PROTO_GOSSIP_LINK_UP, .link = i});
    }
    record_make((struct version){1, 1, .seq = 1}, &record);
    step(&rig, (struct proto_gossip_event){
                   .kind = PROTO_GOSSIP_ADD, .own = true, .bytes = buf_span(&record)});
    unsigned links = 0;
    for (size_t i = 0; i < rig.out->count; i++) {
        if (rig.out->items[i].kind == PROTO_GOSSIP_SEND_RECORDS) {
            links |= 1u << rig.out->items[i].link;
        }
    }
    assert_int_equal(links, 15);
    assert_true(take(&rig, 2, (struct version){3, 1, .seq = 1}, PROTO_GOSSIP_ACCEPT));
    for (size_t i = 0; i < rig.out->count; i++) {
        if (rig.out->items[i].kind == PROTO_GOSSIP_SEND_RECORDS) {
            assert_int_not_equal(rig.out->items[i].link, 2);
            links &= ~(1u << rig.out->items[i].link);
        }
    }
    assert_int_equal(links, 1u << 2);
    buf_fini(&record);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_equivocation),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_unknown_kinds),
        cmocka_unit_test(test_nonsense_is_closed),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_liveness),
        cmocka_unit_test(test_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
