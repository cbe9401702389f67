/* Training rounds: every event in every state does what the table says, the site's answers, and snapshots. Runs with
 * crashes and lies are in tests/sim/sim_round.c. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/round.h"
#include "proto/round_site.h"

static struct proto_round round_;
static struct proto_round_actions out;
static const uint64_t institutions[] = {0, 1, 2, 2};

static enum err give(struct proto_round_event event)
{
    enum err err = proto_round_step(&round_, &event, &out);
    assert_true(proto_round_valid(&round_));
    return err;
}

static void must(struct proto_round_event event)
{
    assert_int_equal(give(event), E_OK);
}

static size_t count_of(enum proto_round_action_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < out.count; i++) {
        count += out.items[i].kind == kind;
    }
    return count;
}

static const struct proto_round_action *find(enum proto_round_action_kind kind, size_t site)
{
    for (size_t i = 0; i < out.count; i++) {
        if (out.items[i].kind == kind && out.items[i].site == site) {
            return &out.items[i];
        }
    }
    fail_msg("no such action");
    return NULL;
}

static struct proto_round_event start_event(void)
{
    return (struct proto_round_event){.kind = PROTO_ROUND_START,
                                      .now_ms = 100,
                                      .institutions = institutions,
                                      .site_count = 4,
                                      .rounds = 2,
                                      .min_sites = 2,
                                      .timeout_ms = 5000,
                                      .retries = 1};
}

static void persisted(void)
{
    must((struct proto_round_event){
        .kind = PROTO_ROUND_PERSISTED, .now_ms = 100, .save = round_.save, .round = round_.round});
}

static struct proto_round_event update(size_t site, uint8_t byte)
{
    struct proto_round_event event = {.kind = PROTO_ROUND_SITE_UPDATED,
                                      .now_ms = 100,
                                      .site = site,
                                      .round = round_.asked_round,
                                      .term = round_.term};
    memset(event.hash, byte, sizeof event.hash);
    return event;
}

static struct proto_round_event of_site(enum proto_round_event_kind kind, size_t site,
                                        uint64_t number)
{
    return (struct proto_round_event){.kind = kind,
                                      .now_ms = 100,
                                      .site = site,
                                      .round = number,
                                      .term = round_.term,
                                      .weight = 5,
                                      .reason = "WHY"};
}

static void timer(void)
{
    must((struct proto_round_event){.kind = PROTO_ROUND_TIMER, .now_ms = round_.deadline_ms});
}

/* Brings the machine to STATE by the shortest way. */
static void reach(enum proto_round_state state)
{
    proto_round_init(&round_);
    if (state == PROTO_ROUND_IDLE) {
        return;
    }
    must(start_event());
    if (state == PROTO_ROUND_OPENING) {
        return;
    }
    if (state == PROTO_ROUND_ENDING || state == PROTO_ROUND_STOPPED) {
        must((struct proto_round_event){.kind = PROTO_ROUND_STOP});
        if (state == PROTO_ROUND_STOPPED) {
            persisted();
        }
        return;
    }
    persisted();
    if (state == PROTO_ROUND_PLANNING) {
        return;
    }
    for (size_t i = 0; i < 4; i++) {
        must(of_site(state == PROTO_ROUND_FAILED ? PROTO_ROUND_SITE_REFUSED
                                                 : PROTO_ROUND_SITE_ADMITTED,
                     i, 0));
    }
    if (state == PROTO_ROUND_FAILED) {
        persisted();
        return;
    }
    if (state == PROTO_ROUND_ASKING) {
        return;
    }
    if (state == PROTO_ROUND_WAITING) {
        timer();
        timer();
        persisted();
        return;
    }
    for (int number = 0; number < 2; number++) {
        for (size_t i = 0; i < 4; i++) {
            must(update(i, (uint8_t)(10 + i)));
        }
        if (state == PROTO_ROUND_CLOSING) {
            return;
        }
        persisted();
    }
}

static void test_reach(void **unused)
{
    (void)unused;
    for (int state = 0; state < PROTO_ROUND_STATES; state++) {
        reach((enum proto_round_state)state);
        assert_int_equal(round_.state, state);
    }
}

/* Written out once more, so that a change of the table is seen: n refused, . ignored, x does something. */
static const char *const expected[PROTO_ROUND_STATES] = {
    /* S A R U F T P S R */
    "xnnnnnnnn", /* idle */
    "n.....xxn", /* opening */
    "nxx.xx.xn", /* planning */
    "nxxxxx.xn", /* asking */
    "nxxx..xxn", /* closing */
    "n.....xxn", /* ending */
    "n......xx", /* waiting */
    "n......nn", /* failed */
    "n.......x", /* stopped */
    "n......nn", /* done */
};

static struct proto_round_event plain(enum proto_round_event_kind kind)
{
    struct proto_round_event event =
        of_site(kind, 0, kind == PROTO_ROUND_SITE_UPDATED ? round_.asked_round : 0);
    if (kind == PROTO_ROUND_START) {
        return start_event();
    }
    event.save = round_.save;
    if (kind == PROTO_ROUND_PERSISTED) {
        event.round = round_.round;
    }
    return event;
}

static void test_every_event_in_every_state(void **unused)
{
    (void)unused;
    for (int state = 0; state < PROTO_ROUND_STATES; state++) {
        for (int kind = 0; kind < PROTO_ROUND_EVENTS; kind++) {
            reach((enum proto_round_state)state);
            static struct proto_round before;
            before = round_;
            enum err err = give(plain((enum proto_round_event_kind)kind));
            char wanted = expected[state][kind];
            assert_int_equal(err, wanted == 'n' ? E_INVALID : E_OK);
            if (wanted != 'x') {
                assert_memory_equal(&before, &round_, sizeof before);
                assert_int_equal(out.count, 0);
            }
        }
        assert_int_equal(give((struct proto_round_event){.kind = PROTO_ROUND_EVENTS}), E_INVALID);
    }
}

static void test_malformed_events(void **unused)
{
    (void)unused;
    struct proto_round_event bad[9];
    for (size_t i = 0; i < 9; i++) {
        bad[i] = start_event();
    }
    static const uint64_t too_high[] = {0, 256, 1, 2};
    bad[0].rounds = 0;
    bad[1].site_count = 0;
    bad[2].site_count = PROTO_ROUND_SITES + 1;
    bad[3].min_sites = 4; /* four sites, three institutions */
    bad[4].min_sites = 0;
    bad[5].timeout_ms = 0;
    bad[6].institutions = too_high;
    bad[7].retries = PROTO_ROUND_RETRIES_MAX + 1;
    bad[8].plan_retries = PROTO_ROUND_RETRIES_MAX + 1;
    for (size_t i = 0; i < 9; i++) {
        proto_round_init(&round_);
        assert_int_equal(give(bad[i]), E_LIMIT);
        assert_int_equal(round_.state, PROTO_ROUND_IDLE);
    }
    char long_reason[PROTO_ROUND_REASON + 1];
    memset(long_reason, 'x', PROTO_ROUND_REASON);
    long_reason[PROTO_ROUND_REASON] = 0;
    reach(PROTO_ROUND_PLANNING);
    struct proto_round_event event = of_site(PROTO_ROUND_SITE_REFUSED, 0, 0);
    const char *const reasons[] = {NULL, "", long_reason, "\xff"};
    for (size_t i = 0; i < 4; i++) {
        event.reason = reasons[i];
        assert_int_equal(give(event), E_INVALID);
    }
    assert_int_equal(give(of_site(PROTO_ROUND_SITE_ADMITTED, 4, 0)), E_INVALID);
    event = of_site(PROTO_ROUND_SITE_ADMITTED, 0, 0);
    event.weight = 0;
    assert_int_equal(give(event), E_LIMIT);
}

/* Too few because people have not decided yet: the job waits, and RESUME offers the plan again; a plain no fails it. */
static void test_held_waits(void **unused)
{
    (void)unused;
    for (int held = 0; held < 2; held++) {
        reach(PROTO_ROUND_PLANNING);
        for (size_t i = 0; i < round_.site_count; i++) {
            struct proto_round_event event = of_site(PROTO_ROUND_SITE_REFUSED, i, 0);
            event.reason = "HOLD";
            event.held = held && i == 0;
            if (round_.state == PROTO_ROUND_PLANNING) {
                must(event);
            }
        }
        must((struct proto_round_event){.kind = PROTO_ROUND_PERSISTED, .save = round_.save});
        assert_int_equal(round_.state, held ? PROTO_ROUND_WAITING : PROTO_ROUND_FAILED);
    }
}

/* One site admits, one refuses, one is silent, one is away: who is named how, and when. */
static void test_names_everybody(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_PLANNING);
    must(of_site(PROTO_ROUND_SITE_ADMITTED, 0, 0));
    must(of_site(PROTO_ROUND_SITE_ADMITTED, 1, 0));
    must(of_site(PROTO_ROUND_SITE_REFUSED, 2, 0));
    assert_int_equal(out.count, 0);
    timer();
    assert_int_equal(round_.state, PROTO_ROUND_ASKING);
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), 2);
    assert_int_equal(find(PROTO_ROUND_SEND_PLAN, 3)->term, 1);
    must(update(0, 1));
    must(update(1, 1));
    assert_int_equal(
        round_.state,
        PROTO_ROUND_CLOSING); /* a site that has not answered the plan holds nobody up */
    assert_string_equal(find(PROTO_ROUND_NAME_ABSENT, 2)->reason, "WHY");
    assert_string_equal(find(PROTO_ROUND_NAME_ABSENT, 3)->reason, PROTO_ROUND_REASON_NO_ANSWER);
    assert_true(proto_round_took_part(&out, 0) && proto_round_took_part(&out, 1) &&
                !proto_round_took_part(&out, 2));
    assert_int_equal(count_of(PROTO_ROUND_PERSIST), 1);
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), 0); /* not before it is on disk */
    persisted();
    assert_int_equal(find(PROTO_ROUND_SEND_ROUND, 1)->round, 2);
    must(of_site(PROTO_ROUND_SITE_ADMITTED, 3, 0)); /* late, and joins at once */
    assert_int_equal(find(PROTO_ROUND_SEND_ROUND, 3)->round, 2);
    must(of_site(PROTO_ROUND_SITE_REFUSED, 0,
                 1)); /* late, and of the round before: says nothing now */
    assert_int_equal(round_.sites[0].standing, PROTO_ROUND_ADMITTED);
    must(of_site(PROTO_ROUND_SITE_FAILED, 1, 2));
    must(update(3, 1));
    must(update(0, 2));
    assert_string_equal(find(PROTO_ROUND_NAME_ABSENT, 1)->reason, "WHY");
    assert_int_equal(count_of(PROTO_ROUND_NAME_ABSENT), 2);
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_DONE);
    assert_int_equal(count_of(PROTO_ROUND_SEND_STOP), 4);
    assert_int_equal(find(PROTO_ROUND_FINISH, 0)->state, PROTO_ROUND_DONE);
}

static void test_two_hashes(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_ASKING);
    must(update(0, 1));
    must(update(0, 1)); /* the same again is fine */
    assert_int_equal(round_.sites[0].standing, PROTO_ROUND_ADMITTED);
    must(update(0, 2));
    assert_int_equal(round_.sites[0].standing, PROTO_ROUND_EQUIVOCATED);
    must(update(1, 1));
    must(update(2, 1));
    must(update(3, 1));
    assert_string_equal(find(PROTO_ROUND_NAME_ABSENT, 0)->reason, PROTO_ROUND_REASON_EQUIVOCATED);
    assert_false(proto_round_took_part(&out, 0));
    must(update(3, 9)); /* after the close: the round stands, the site is out */
    assert_int_equal(round_.sites[3].standing, PROTO_ROUND_EQUIVOCATED);
    persisted();
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), 2);
}

/* Two sites of one institution are one; a retry asks only for what is missing; then the job waits. */
static void test_too_few(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_ASKING);
    must(update(2, 1));
    must(update(3, 1));
    timer();
    assert_int_equal(round_.state, PROTO_ROUND_ASKING);
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), 2);
    timer();
    assert_int_equal(round_.state, PROTO_ROUND_ENDING);
    persisted();
    assert_int_equal(find(PROTO_ROUND_FINISH, 0)->state, PROTO_ROUND_WAITING);
    assert_int_equal(count_of(PROTO_ROUND_SEND_STOP), 0);
    /* After RESUME an old term's update counts where it is the known one, and nothing else of it does. */
    must((struct proto_round_event){.kind = PROTO_ROUND_RESUME, .now_ms = 5});
    assert_int_equal(round_.term, 2);
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_ASKING);
    struct proto_round_event event = update(0, 1);
    event.term = 1;
    must(event);
    assert_false(round_.sites[0].answered);
    event = update(2, 1);
    event.term = 1;
    must(event);
    assert_true(round_.sites[2].answered);
    event = update(3, 2);
    event.term = 1;
    must(event);
    assert_int_equal(round_.sites[3].standing, PROTO_ROUND_EQUIVOCATED);
    event = update(1, 1);
    event.term = 3;
    must(event);
    event = update(1, 1);
    event.round = 2;
    must(event);
    event = of_site(PROTO_ROUND_SITE_REFUSED, 1, 1);
    event.term = 1;
    must(event);
    assert_false(round_.sites[1].answered);
    assert_int_equal(round_.sites[1].standing, PROTO_ROUND_ADMITTED);
}

/* Nothing outstanding: a short pause and the next try, not the deadline. */
static void test_nobody_left(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_ASKING);
    must(update(0, 1));
    for (size_t i = 1; i < 4; i++) {
        must(of_site(PROTO_ROUND_SITE_FAILED, i, 1));
    }
    assert_int_equal(round_.state, PROTO_ROUND_ASKING);
    assert_int_equal(find(PROTO_ROUND_SET_TIMER, 0)->at_ms, 100 + PROTO_ROUND_PAUSE_MS);
    timer();
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), 3);
    for (size_t i = 1; i < 4; i++) {
        must(of_site(PROTO_ROUND_SITE_FAILED, i, 1));
    }
    assert_int_equal(round_.state, PROTO_ROUND_ENDING); /* that was the last try */
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_WAITING);
    /* The plan: no other try was asked for. The second life waits where the first fails. */
    reach(PROTO_ROUND_PLANNING);
    for (size_t i = 0; i < 4; i++) {
        must(of_site(PROTO_ROUND_SITE_FAILED, i, 0));
    }
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_FAILED);
    reach(PROTO_ROUND_WAITING);
    for (size_t i = 0; i < 4; i++) {
        round_.sites[i] = (struct proto_round_party){.institution = institutions[i]};
    }
    must((struct proto_round_event){.kind = PROTO_ROUND_RESUME, .now_ms = 5});
    persisted();
    for (size_t i = 0; i < 4; i++) {
        must(of_site(PROTO_ROUND_SITE_FAILED, i, 0));
    }
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_WAITING);
}

/* A refusal of a round is for that round. */
static void test_refused_round(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_ASKING);
    must(of_site(PROTO_ROUND_SITE_REFUSED, 0, 1));
    must(update(1, 1));
    must(of_site(PROTO_ROUND_SITE_REFUSED, 1, 1)); /* after its update: the update stands */
    assert_true(round_.sites[1].answered);
    must(update(2, 1));
    must(update(3, 1));
    assert_string_equal(find(PROTO_ROUND_NAME_ABSENT, 0)->reason, "WHY");
    assert_int_equal(count_of(PROTO_ROUND_NAME_ABSENT), 1);
    persisted();
    assert_int_equal(find(PROTO_ROUND_SEND_ROUND, 0)->round, 2);
    must(of_site(PROTO_ROUND_SITE_REFUSED, 0, 2));
    must(of_site(PROTO_ROUND_SITE_REFUSED, 1, 2));
    assert_int_equal(round_.state, PROTO_ROUND_ENDING); /* one institution is left */
    persisted();
    must((struct proto_round_event){.kind = PROTO_ROUND_RESUME, .now_ms = 5});
    persisted();
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), 4);
}

static struct proto_round_event spent(size_t site_number, uint64_t number)
{
    struct proto_round_event event = of_site(PROTO_ROUND_SITE_REFUSED, site_number, number);
    event.reason = PROTO_ROUND_REASON_STEPS;
    return event;
}

/* Whose steps are spent has none for a later round either: the job is what its rounds on disk are, and no wait helps. */
static void test_steps_used_up(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_ASKING); /* the first round: nothing is on disk to end with */
    must(spent(0, 1));
    must(spent(1, 1));
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_WAITING);

    reach(PROTO_ROUND_CLOSING);
    persisted();
    assert_int_equal(round_.asked_round, 2);
    must(spent(0, 2));
    assert_int_equal(round_.state, PROTO_ROUND_ASKING); /* two institutions are left */
    must(of_site(PROTO_ROUND_SITE_REFUSED, 1, 2));
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_WAITING); /* the other refusal may be taken back */
    must((struct proto_round_event){.kind = PROTO_ROUND_RESUME, .now_ms = 5});
    persisted();
    must(spent(0, 2));
    must(spent(1, 2));
    assert_int_equal(round_.state, PROTO_ROUND_ENDING);
    struct buf bytes = {.max = PROTO_ROUND_SNAPSHOT};
    assert_int_equal(proto_round_encode(&round_, &bytes, NULL), E_OK);
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_DONE);
    assert_int_equal(round_.round, 1);
    assert_int_equal(count_of(PROTO_ROUND_SEND_STOP), 4);
    /* Killed before it was announced: the next life ends the same way. */
    assert_int_equal(proto_round_decode(buf_span(&bytes), &round_, NULL), E_OK);
    must((struct proto_round_event){.kind = PROTO_ROUND_RESUME, .now_ms = 6});
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_DONE);
    buf_fini(&bytes);
}

static void test_old_writes_and_early_end(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_CLOSING);
    uint64_t before = round_.save;
    must((struct proto_round_event){.kind = PROTO_ROUND_STOP});
    must((struct proto_round_event){.kind = PROTO_ROUND_PERSISTED, .save = before, .round = 1});
    assert_int_equal(round_.state,
                     PROTO_ROUND_ENDING); /* that was the round's write, not the end's */
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_STOPPED);
    reach(PROTO_ROUND_CLOSING);
    assert_int_equal(
        give((struct proto_round_event){
            .kind = PROTO_ROUND_PERSISTED, .save = round_.save, .round = 1, .next = 1}),
        E_INVALID);
    must((struct proto_round_event){
        .kind = PROTO_ROUND_PERSISTED, .save = round_.save, .round = 1, .next = 3});
    assert_int_equal(round_.state, PROTO_ROUND_DONE);
}

static void test_stopped_goes_on(void **unused)
{
    (void)unused;
    reach(PROTO_ROUND_CLOSING);
    persisted();
    must(update(0, 10));
    must((struct proto_round_event){.kind = PROTO_ROUND_STOP});
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_STOPPED);
    assert_int_equal(count_of(PROTO_ROUND_SEND_STOP), 4);
    must((struct proto_round_event){.kind = PROTO_ROUND_RESUME, .now_ms = 6});
    assert_int_equal(round_.term, 2);
    persisted();
    assert_int_equal(round_.state, PROTO_ROUND_PLANNING);
    assert_int_equal(count_of(PROTO_ROUND_SEND_PLAN), 4); /* they have ended their parts */
    struct proto_round_event late = of_site(PROTO_ROUND_SITE_ADMITTED, 0, 0);
    late.term = 1; /* it was taken back by the stop */
    must(late);
    assert_int_equal(round_.sites[0].standing, PROTO_ROUND_INVITED);
    must(of_site(PROTO_ROUND_SITE_ADMITTED, 0, 0));
    must(of_site(PROTO_ROUND_SITE_REFUSED, 1, 0));
    must(of_site(PROTO_ROUND_SITE_ADMITTED, 2, 0));
    must(of_site(PROTO_ROUND_SITE_ADMITTED, 3, 0));
    assert_int_equal(round_.state, PROTO_ROUND_ASKING);
    assert_int_equal(round_.round, 1); /* the one on disk stands, the open one is asked for again */
    assert_int_equal(round_.asked_round, 2);
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), 3);
}

static void test_snapshots(void **unused)
{
    (void)unused;
    static struct proto_round again;
    for (int state = 1; state < PROTO_ROUND_STATES; state++) {
        struct buf first = {.max = PROTO_ROUND_SNAPSHOT}, second = {.max = PROTO_ROUND_SNAPSHOT};
        reach((enum proto_round_state)state);
        assert_int_equal(proto_round_encode(&round_, &first, NULL), E_OK);
        memset(&again, 0xee, sizeof again);
        assert_int_equal(proto_round_decode(buf_span(&first), &again, NULL), E_OK);
        assert_true(proto_round_valid(&again) && !again.live);
        assert_int_equal(proto_round_encode(&again, &second, NULL), E_OK);
        assert_true(span_equal(buf_span(&first), buf_span(&second)));
        for (size_t len = 0; len < first.len; len++) {
            assert_int_not_equal(proto_round_decode(span_of(first.ptr, len), &again, NULL), E_OK);
        }
        /* Nothing but RESUME and STOP moves it; an end other than a stop stays one. */
        round_ = again;
        bool over = state == PROTO_ROUND_DONE || state == PROTO_ROUND_FAILED;
        bool still = over || state == PROTO_ROUND_STOPPED;
        assert_int_equal(give(plain(PROTO_ROUND_TIMER)), still ? E_OK : E_INVALID);
        assert_int_equal(give(plain(PROTO_ROUND_RESUME)), over ? E_INVALID : E_OK);
        if (!over) {
            assert_int_equal(round_.state, state == PROTO_ROUND_ENDING ? PROTO_ROUND_ENDING
                                                                       : PROTO_ROUND_OPENING);
            assert_int_equal(round_.term, state == PROTO_ROUND_ENDING ? 1 : 2);
            assert_int_equal(count_of(PROTO_ROUND_PERSIST), 1);
            assert_int_equal(out.count, 1);
        }
        buf_fini(&first);
        buf_fini(&second);
    }
}

static void test_largest_snapshot_fits(void **unused)
{
    (void)unused;
    static uint64_t each[PROTO_ROUND_SITES];
    struct proto_round_event start = start_event();
    struct buf bytes = {.max = PROTO_ROUND_SNAPSHOT};
    char reason[PROTO_ROUND_REASON] = {0};
    memset(reason, 'r', PROTO_ROUND_REASON - 1);
    for (size_t i = 0; i < PROTO_ROUND_SITES; i++) {
        each[i] = i;
    }
    start.institutions = each;
    start.site_count = start.min_sites = PROTO_ROUND_SITES;
    start.min_sites = 1;
    start.timeout_ms = PROTO_ROUND_TIMEOUT_MAX;
    proto_round_init(&round_);
    must(start);
    persisted();
    for (size_t i = 0; i < PROTO_ROUND_SITES; i++) {
        struct proto_round_event event = of_site(PROTO_ROUND_SITE_ADMITTED, i, 0);
        event.weight = PROTO_ROUND_WEIGHT_MAX;
        must(event);
    }
    assert_int_equal(count_of(PROTO_ROUND_SEND_ROUND), PROTO_ROUND_SITES);
    for (size_t i = 0; i + 1 < PROTO_ROUND_SITES; i++) {
        must(update(i, 7));
    }
    /* Cut off and taken up: the hashes are known, and all but one now refuse the round. */
    assert_int_equal(proto_round_encode(&round_, &bytes, NULL), E_OK);
    assert_int_equal(proto_round_decode(buf_span(&bytes), &round_, NULL), E_OK);
    bytes.len = 0;
    must((struct proto_round_event){.kind = PROTO_ROUND_RESUME, .now_ms = 5});
    persisted();
    for (size_t i = 0; i + 1 < PROTO_ROUND_SITES; i++) {
        struct proto_round_event event = of_site(PROTO_ROUND_SITE_REFUSED, i, 1);
        event.reason = reason;
        must(event);
    }
    assert_int_equal(round_.state, PROTO_ROUND_ASKING);
    assert_int_equal(proto_round_encode(&round_, &bytes, NULL), E_OK);
    assert_true(bytes.len > PROTO_ROUND_SITES * 100);
    buf_fini(&bytes);
}

/* --- the site ---------------------------------------------------------------------------------------------------------- */

static struct proto_round_site site;

static struct proto_round_site_reply ask(struct proto_round_site_event event)
{
    struct proto_round_site_reply reply;
    event.permitted = !event.permitted; /* so that permitted is what is not said */
    proto_round_site_step(&site, &event, &reply);
    assert_true(proto_round_site_valid(&site));
    return reply;
}

static struct proto_round_site_event request(uint64_t number, uint64_t term)
{
    return (struct proto_round_site_event){
        .kind = PROTO_ROUND_SITE_ROUND, .round = number, .term = term};
}

static void refused(struct proto_round_site_event event, const char *reason)
{
    struct proto_round_site_reply reply = ask(event);
    assert_int_equal(reply.answer, PROTO_ROUND_SITE_REFUSE);
    assert_string_equal(reply.reason, reason);
}

static void test_site(void **unused)
{
    (void)unused;
    struct proto_round_site_event plan = {
        .kind = PROTO_ROUND_SITE_PLAN, .rounds = 4, .steps_per_round = 5, .steps = 17};
    struct proto_round_site_event event, stop = {.kind = PROTO_ROUND_SITE_STOP, .term = 3};
    memset(&site, 0, sizeof site);
    refused(request(1, 1), "NO_PLAN");
    event = plan;
    event.permitted = true; /* turned round by ask() */
    event.reason = "COUNTRY";
    refused(event, "COUNTRY");
    assert_int_equal(ask(plan).answer, PROTO_ROUND_SITE_ACCEPT);
    assert_int_equal(ask(plan).answer, PROTO_ROUND_SITE_ACCEPT); /* again: the answer was lost */
    assert_int_equal(site.steps_left, 17);
    event = plan;
    event.plan_hash[0] = 1;
    refused(event, "OTHER_PLAN");
    event = request(1, 1);
    event.plan_hash[0] = 1;
    refused(event, "OTHER_PLAN");
    refused(request(0, 1), "NO_SUCH_ROUND");
    refused(request(5, 1), "NO_SUCH_ROUND");

    struct proto_round_site_reply reply = ask(request(1, 1));
    assert_int_equal(reply.answer, PROTO_ROUND_SITE_COMPUTE);
    assert_int_equal(reply.steps, 5);
    assert_int_equal(site.state, PROTO_ROUND_SITE_ACTIVE);
    assert_int_equal(ask(request(1, 1)).answer, PROTO_ROUND_SITE_BUSY);
    assert_int_equal(
        ask((struct proto_round_site_event){.kind = PROTO_ROUND_SITE_STORED, .round = 1}).answer,
        PROTO_ROUND_SITE_NOTED);
    event = request(1, 3);
    event.stored = true;
    assert_int_equal(ask(event).answer, PROTO_ROUND_SITE_RESEND);
    event.term = 1; /* the same bytes go to whoever asks again */
    assert_int_equal(ask(event).answer, PROTO_ROUND_SITE_RESEND);
    event.permitted = true;
    event.reason = "WITHDRAWN"; /* but not against the licence */
    refused(event, "WITHDRAWN");
    refused(request(2, 2), "OLD_TERM");
    assert_int_equal(ask(request(3, 3)).steps, 5); /* of 12 for two rounds */
    (void)ask((struct proto_round_site_event){.kind = PROTO_ROUND_SITE_GAVE_UP, .round = 3});
    refused(request(2, 3), "ROUND_PASSED");
    assert_int_equal(ask(request(3, 3)).steps, 4); /* what the broken try left, for two rounds */
    (void)ask((struct proto_round_site_event){.kind = PROTO_ROUND_SITE_GAVE_UP, .round = 3});
    assert_int_equal(ask(request(3, 3)).steps, 2);
    (void)ask((struct proto_round_site_event){.kind = PROTO_ROUND_SITE_GAVE_UP, .round = 3});
    assert_int_equal(ask(request(4, 3)).steps, 1);
    (void)ask((struct proto_round_site_event){.kind = PROTO_ROUND_SITE_GAVE_UP, .round = 4});
    refused(request(4, 3), "STEPS_USED_UP");
    event = stop;
    event.term = 2;
    refused(event, "OLD_TERM");
    assert_int_equal(ask(stop).answer, PROTO_ROUND_SITE_ACCEPT);
    assert_int_equal(ask(stop).answer, PROTO_ROUND_SITE_ACCEPT);
    refused(request(3, 3), "ENDED");
    refused(plan, "ENDED");
}

static void test_site_goes_on(void **unused)
{
    (void)unused;
    struct proto_round_site_event stop = {.kind = PROTO_ROUND_SITE_STOP, .term = 1};
    struct proto_round_site_event event,
        plan = {.kind = PROTO_ROUND_SITE_PLAN, .rounds = 4, .steps_per_round = 5, .steps = 20};
    memset(&site, 0, sizeof site);
    assert_int_equal(ask(plan).answer, PROTO_ROUND_SITE_ACCEPT);
    assert_int_equal(ask(request(1, 1)).steps, 5);
    assert_int_equal(ask(stop).answer, PROTO_ROUND_SITE_ACCEPT);
    plan.reopened = true;
    plan.term = 1;
    assert_int_equal(ask(plan).answer, PROTO_ROUND_SITE_ACCEPT);
    assert_int_equal(ask(stop).answer, PROTO_ROUND_SITE_ACCEPT);
    plan.term = 2;
    event = plan;
    event.plan_hash[0] = 1;
    refused(event, "ENDED");
    event = plan;
    event.permitted = true; /* turned round by ask() */
    event.reason = "COUNTRY";
    refused(event, "COUNTRY");
    refused(request(2, 2), "ENDED");
    assert_int_equal(ask(plan).answer, PROTO_ROUND_SITE_ACCEPT);
    assert_int_equal(site.state, PROTO_ROUND_SITE_ACTIVE);
    assert_int_equal(site.steps_left, 15); /* what was taken stays taken */
    assert_int_equal(ask(plan).answer, PROTO_ROUND_SITE_ACCEPT);
    assert_int_equal(site.steps_left, 15);
    refused(stop, "OLD_TERM"); /* of the life before, late */
    plan.term = 3;
    assert_int_equal(ask(plan).answer,
                     PROTO_ROUND_SITE_ACCEPT); /* the stop never came, and comes now */
    stop.term = 2;
    refused(stop, "OLD_TERM");
    assert_int_equal(ask(request(2, 3)).answer, PROTO_ROUND_SITE_COMPUTE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_every_event_in_every_state),
        cmocka_unit_test(test_malformed_events),
        cmocka_unit_test(test_held_waits),
        cmocka_unit_test(test_names_everybody),
        cmocka_unit_test(test_two_hashes),
        cmocka_unit_test(test_too_few),
        cmocka_unit_test(test_nobody_left),
        cmocka_unit_test(test_refused_round),
        cmocka_unit_test(test_steps_used_up),
        cmocka_unit_test(test_old_writes_and_early_end),
        cmocka_unit_test(test_stopped_goes_on),
        cmocka_unit_test(test_snapshots),
        cmocka_unit_test(test_largest_snapshot_fits),
        cmocka_unit_test(test_site),
        cmocka_unit_test(test_site_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
