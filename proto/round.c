#include "config.h"
#include "proto/round.h"

#include "proto/codec.h"

#include <assert.h>

/*                          START
 *   IDLE ------------------------------------> OPENING <---------------- RESUME ------------------- WAITING, STOPPED
 *                                                | PERSISTED                                           ^
 *               all rounds were on disk          v                                                     |
 *        +------------------------------------ PLANNING --all answered or time is up, enough admit--+  |
 *        |                                     ^  | |                                               |  |
 *        |                     time is up, too |  | |  too few, no try is left; too many refused    |  |
 *        |                     few, tries left +--+ +----------------------+                        v  |
 *        |                                                                 |  same        +----> ASKING --+
 *        v             PERSISTED, it was the last round                    v   +----------|--------+   |  | again
 *      DONE <----------------------------------- CLOSING                 ENDING <---------+        ^---|--+
 *                                                  | ^                     | PERSISTED             |   |
 *                                                  | +--- enough updates --|-----------------------|---+
 *                                                  +----- PERSISTED -------|-----------------------+
 *   STOP, in any state but IDLE and the ends ------------------------------+---> WAITING, FAILED, STOPPED or DONE
 */
#define TO(state) (1u << PROTO_ROUND_##state)
static const uint16_t leads_to[PROTO_ROUND_STATES] = {
    [PROTO_ROUND_IDLE] = TO(OPENING),
    [PROTO_ROUND_OPENING] = TO(PLANNING) | TO(DONE) | TO(ENDING) | TO(OPENING),
    [PROTO_ROUND_PLANNING] = TO(ASKING) | TO(ENDING) | TO(OPENING),
    [PROTO_ROUND_ASKING] = TO(CLOSING) | TO(ENDING) | TO(OPENING),
    [PROTO_ROUND_CLOSING] = TO(ASKING) | TO(DONE) | TO(ENDING) | TO(OPENING),
    [PROTO_ROUND_ENDING] =
        TO(WAITING) | TO(FAILED) | TO(STOPPED) | TO(DONE) | TO(ENDING) | TO(OPENING),
    [PROTO_ROUND_WAITING] = TO(OPENING) | TO(ENDING),
    [PROTO_ROUND_FAILED] = 0,
    [PROTO_ROUND_STOPPED] = TO(OPENING),
    [PROTO_ROUND_DONE] = 0,
};
#undef TO

/* What an event means: DO it, ignore it as late or repeated (-), or refuse it as a fault of the driver (NO). */
enum rule {
    NO,
    LATE,
    DO,
};
static const enum rule rules[PROTO_ROUND_STATES][PROTO_ROUND_EVENTS] = {
    /*                        START ADMITTED REFUSED UPDATED FAILED TIMER PERSISTED STOP  RESUME */
    [PROTO_ROUND_IDLE] = {DO, NO, NO, NO, NO, NO, NO, NO, NO},
    [PROTO_ROUND_OPENING] = {NO, LATE, LATE, LATE, LATE, LATE, DO, DO, NO},
    [PROTO_ROUND_PLANNING] = {NO, DO, DO, LATE, DO, DO, LATE, DO, NO},
    [PROTO_ROUND_ASKING] = {NO, DO, DO, DO, DO, DO, LATE, DO, NO},
    [PROTO_ROUND_CLOSING] = {NO, DO, DO, DO, LATE, LATE, DO, DO, NO},
    [PROTO_ROUND_ENDING] = {NO, LATE, LATE, LATE, LATE, LATE, DO, DO, NO},
    [PROTO_ROUND_WAITING] = {NO, LATE, LATE, LATE, LATE, LATE, LATE, DO, DO},
    [PROTO_ROUND_FAILED] = {NO, LATE, LATE, LATE, LATE, LATE, LATE, NO, NO},
    [PROTO_ROUND_STOPPED] = {NO, LATE, LATE, LATE, LATE, LATE, LATE, LATE, DO},
    [PROTO_ROUND_DONE] = {NO, LATE, LATE, LATE, LATE, LATE, LATE, NO, NO},
};

/* --- small things ------------------------------------------------------------------------------------------------------ */

static bool ended(enum proto_round_state state)
{
    return state == PROTO_ROUND_FAILED || state == PROTO_ROUND_STOPPED || state == PROTO_ROUND_DONE;
}

static void become(struct proto_round *r, enum proto_round_state to)
{
    assert(leads_to[r->state] >> to & 1);
    r->state = to;
}

static struct proto_round_action *emit(struct proto_round_actions *out,
                                       enum proto_round_action_kind kind)
{
    assert(out->count < PROTO_ROUND_ACTIONS); /* twice per site at most, and a few */
    struct proto_round_action *action = &out->items[out->count++];
    *action = (struct proto_round_action){.kind = kind};
    return action;
}

static void emit_to_site(const struct proto_round *r, struct proto_round_actions *out,
                         enum proto_round_action_kind kind, size_t site)
{
    struct proto_round_action *action = emit(out, kind);
    action->site = site;
    action->term = r->term;
    action->round = kind == PROTO_ROUND_SEND_ROUND ? r->asked_round : 0;
}

static void set_reason(struct proto_round_party *party, const char *reason)
{
    size_t len = strlen(reason);
    assert(len < sizeof party->reason);
    memset(party->reason, 0, sizeof party->reason);
    memcpy(party->reason, reason, len);
}

/* Institutions with at least one site for which WANTED holds. */
static uint64_t institutions(const struct proto_round *r,
                             bool (*wanted)(const struct proto_round_party *))
{
    bool seen[PROTO_ROUND_SITES] = {false};
    uint64_t count = 0;
    for (size_t i = 0; i < r->site_count; i++) {
        const struct proto_round_party *party = &r->sites[i];
        if (wanted(party) && !seen[party->institution]) {
            seen[party->institution] = true;
            count++;
        }
    }
    return count;
}

static bool is_any(const struct proto_round_party *party)
{
    (void)party;
    return true;
}

static bool is_admitted(const struct proto_round_party *party)
{
    return party->standing == PROTO_ROUND_ADMITTED;
}

static bool is_possible(const struct proto_round_party *party)
{
    return (party->standing == PROTO_ROUND_ADMITTED && !party->declined) ||
           party->standing == PROTO_ROUND_INVITED || party->answered;
}

/* Never again with us, whatever the time: with no steps left, and for a lie. */
static bool is_honest(const struct proto_round_party *party)
{
    return party->standing != PROTO_ROUND_EQUIVOCATED;
}

static bool is_lasting(const struct proto_round_party *party)
{
    return is_honest(party) && !party->used_up;
}

static bool has_answered(const struct proto_round_party *party)
{
    return party->answered;
}

static bool any_asked(const struct proto_round *r, enum proto_round_standing standing)
{
    for (size_t i = 0; i < r->site_count; i++) {
        if (r->sites[i].asked && r->sites[i].standing == standing) {
            return true;
        }
    }
    return false;
}

static bool any_invited(const struct proto_round *r)
{
    for (size_t i = 0; i < r->site_count; i++) {
        if (r->sites[i].standing == PROTO_ROUND_INVITED) {
            return true;
        }
    }
    return false;
}

static void persist(struct proto_round *r, struct proto_round_actions *out)
{
    struct proto_round_action *action = emit(out, PROTO_ROUND_PERSIST);
    action->round = r->round;
    action->save = ++r->save;
}

static void set_timer(struct proto_round *r, struct proto_round_actions *out, uint64_t now_ms)
{
    r->deadline_ms = now_ms > UINT64_MAX - r->timeout_ms ? UINT64_MAX : now_ms + r->timeout_ms;
    emit(out, PROTO_ROUND_SET_TIMER)->at_ms = r->deadline_ms;
}

static void forget_answers(struct proto_round *r)
{
    for (size_t i = 0; i < r->site_count; i++) {
        struct proto_round_party *party = &r->sites[i];
        party->answered = party->asked = party->failed = party->declined = false;
    }
}

/* The end becomes durable before anybody hears of it. */
static void end(struct proto_round *r, struct proto_round_actions *out,
                enum proto_round_state final)
{
    become(r, PROTO_ROUND_ENDING);
    r->final = final;
    forget_answers(r);
    persist(r, out);
}

static void finish(struct proto_round *r, struct proto_round_actions *out,
                   enum proto_round_state final)
{
    become(r, final);
    r->final = PROTO_ROUND_IDLE;
    forget_answers(r);
    if (final != PROTO_ROUND_WAITING) {
        for (size_t i = 0; i < r->site_count; i++) {
            emit_to_site(r, out, PROTO_ROUND_SEND_STOP,
                         i); /* also to silent ones: their admission may have been lost */
        }
    }
    emit(out, PROTO_ROUND_FINISH)->state = final;
}

/* --- sending ----------------------------------------------------------------------------------------------------------- */

static void send_plan(struct proto_round *r, struct proto_round_actions *out, size_t site)
{
    r->sites[site].asked = true;
    r->sites[site].failed = false;
    set_reason(&r->sites[site], "");
    emit_to_site(r, out, PROTO_ROUND_SEND_PLAN, site);
}

static void send_round(struct proto_round *r, struct proto_round_actions *out, size_t site)
{
    r->sites[site].asked = true;
    r->sites[site].failed = false;
    set_reason(&r->sites[site], "");
    emit_to_site(r, out, PROTO_ROUND_SEND_ROUND, site);
}

/* One try: the plan to those who have not answered it, and in ASKING the round to those whose update is missing. */
static void send_all(struct proto_round *r, struct proto_round_actions *out, uint64_t now_ms)
{
    for (size_t i = 0; i < r->site_count; i++) {
        struct proto_round_party *party = &r->sites[i];
        if (party->standing == PROTO_ROUND_INVITED) {
            send_plan(r, out, i);
        } else if (r->state == PROTO_ROUND_ASKING && party->standing == PROTO_ROUND_ADMITTED &&
                   !party->answered && !party->declined) {
            send_round(r, out, i);
        }
    }
    set_timer(r, out, now_ms);
}

static void ask_round(struct proto_round *r, struct proto_round_actions *out, uint64_t number,
                      uint64_t now_ms)
{
    /* Hashes that are known of this very round, from before a RESUME, stay: they are what a site may repeat. */
    for (size_t i = 0; i < r->site_count && number != r->asked_round; i++) {
        r->sites[i].known = false;
        memset(r->sites[i].hash, 0, sizeof r->sites[i].hash);
    }
    become(r, PROTO_ROUND_ASKING);
    r->asked_round = number;
    r->attempt = 0;
    forget_answers(r);
    send_all(r, out, now_ms);
}

static void close_round(struct proto_round *r, struct proto_round_actions *out)
{
    become(r, PROTO_ROUND_CLOSING);
    r->round = r->asked_round;
    for (size_t i = 0; i < r->site_count; i++) {
        struct proto_round_party *party = &r->sites[i];
        if (party->answered) {
            out->participants[i / 8] |= (uint8_t)(1u << i % 8);
            continue;
        }
        if (!party->reason[0]) {
            set_reason(party, party->standing == PROTO_ROUND_INVITED ? PROTO_ROUND_REASON_NO_ANSWER
                                                                     : PROTO_ROUND_REASON_TIMEOUT);
        }
        struct proto_round_action *action = emit(out, PROTO_ROUND_NAME_ABSENT);
        action->site = i;
        action->round = r->round;
        action->reason = party->reason;
    }
    emit(out, PROTO_ROUND_CLOSE_ROUND)->round = r->round;
    persist(r, out);
}

/* --- is it time to go on? ---------------------------------------------------------------------------------------------- */

/* Nobody is left who could still answer: waiting for the rest of the time would be for nothing. A short pause stays, in
 * which a site may come back. */
static void try_soon(struct proto_round *r, struct proto_round_actions *out, uint64_t now_ms)
{
    uint64_t soon =
        now_ms > UINT64_MAX - PROTO_ROUND_PAUSE_MS ? UINT64_MAX : now_ms + PROTO_ROUND_PAUSE_MS;
    if (r->deadline_ms > soon) {
        r->deadline_ms = soon;
        emit(out, PROTO_ROUND_SET_TIMER)->at_ms = soon;
    }
}

/* Too few, and either the time is up or nothing is outstanding. FINAL is what follows when no try is left. */
static void try_again(struct proto_round *r, struct proto_round_actions *out, uint64_t now_ms,
                      bool expired, uint64_t retries, enum proto_round_state final)
{
    if (r->attempt >= retries) {
        end(r, out, final);
    } else if (expired) {
        r->attempt++;
        send_all(r, out, now_ms);
    } else {
        try_soon(r, out, now_ms);
    }
}

static bool any_held(const struct proto_round *r)
{
    for (size_t i = 0; i < r->site_count; i++) {
        if (r->sites[i].standing == PROTO_ROUND_REFUSED && r->sites[i].held) {
            return true;
        }
    }
    return false;
}

static void check_planning(struct proto_round *r, struct proto_round_actions *out,
                           const struct proto_round_event *e, bool expired)
{
    bool enough = institutions(r, is_admitted) >= r->min_sites;
    bool over = expired || !any_asked(r, PROTO_ROUND_INVITED);
    if (institutions(r, is_possible) < r->min_sites) {
        /* With rounds on disk, or while a person may still approve it, there is something to come back to. */
        bool later = r->round || any_held(r);
        end(r, out, later ? PROTO_ROUND_WAITING : PROTO_ROUND_FAILED);
    } else if (enough && over) {
        ask_round(r, out, r->next_round, e->now_ms);
    } else if (over) {
        /* In a later life some may have admitted and begun, whatever the snapshot knows of it. */
        try_again(r, out, e->now_ms, expired, r->plan_retries,
                  r->term == 1 ? PROTO_ROUND_FAILED : PROTO_ROUND_WAITING);
    }
}

static void check_asking(struct proto_round *r, struct proto_round_actions *out,
                         const struct proto_round_event *e, bool expired)
{
    bool enough = institutions(r, has_answered) >= r->min_sites;
    bool over = expired || !any_asked(r, PROTO_ROUND_ADMITTED);
    bool hope = !expired && any_asked(r, PROTO_ROUND_INVITED);
    if (institutions(r, is_possible) < r->min_sites) {
        /* No retry can help; RESUME asks those who refused once more. Nobody gets steps back. */
        bool spent = r->round && institutions(r, is_lasting) < r->min_sites &&
                     institutions(r, is_honest) >= r->min_sites;
        end(r, out, spent ? PROTO_ROUND_DONE : PROTO_ROUND_WAITING);
    } else if (enough && over) {
        close_round(r, out);
    } else if (over && !hope) {
        try_again(r, out, e->now_ms, expired, r->retries, PROTO_ROUND_WAITING);
    }
}

static void check(struct proto_round *r, struct proto_round_actions *out,
                  const struct proto_round_event *e, bool expired)
{
    if (r->state == PROTO_ROUND_PLANNING) {
        check_planning(r, out, e, expired);
    } else if (r->state == PROTO_ROUND_ASKING) {
        check_asking(r, out, e, expired);
    }
}

static void next_round(struct proto_round *r, struct proto_round_actions *out, uint64_t number,
                       uint64_t now_ms)
{
    forget_answers(r);
    if (institutions(r, is_possible) < r->min_sites) {
        end(r, out, PROTO_ROUND_WAITING);
    } else {
        ask_round(r, out, number, now_ms);
    }
}

/* --- events ------------------------------------------------------------------------------------------------------------ */

static void on_start(struct proto_round *r, const struct proto_round_event *e,
                     struct proto_round_actions *out)
{
    r->live = true;
    r->rounds = e->rounds;
    r->min_sites = e->min_sites;
    r->timeout_ms = e->timeout_ms;
    r->retries = e->retries;
    r->plan_retries = e->plan_retries;
    r->site_count = e->site_count;
    for (size_t i = 0; i < e->site_count; i++) {
        r->sites[i].institution = e->institutions[i];
    }
    r->term = 1;
    become(r, PROTO_ROUND_OPENING);
    persist(r, out);
}

/* Sites that were told to stop have ended their parts: they are asked for another admission. */
static void invite_again(struct proto_round_party *party)
{
    party->standing = PROTO_ROUND_INVITED;
    party->weight = 0;
    party->known = false;
    memset(party->hash, 0, sizeof party->hash);
}

static void on_resume(struct proto_round *r, const struct proto_round_event *e,
                      struct proto_round_actions *out)
{
    bool stopped = r->state == PROTO_ROUND_STOPPED;
    r->live = true;
    forget_answers(r); /* what was received is lost, or will come again as the same bytes */
    bool given = e->term > r->term;
    r->term = given ? e->term : r->term;
    if (r->state == PROTO_ROUND_ENDING && r->final != PROTO_ROUND_WAITING) {
        end(r, out, r->final); /* the end was decided; only its announcement was cut off */
        return;
    }
    r->final = PROTO_ROUND_IDLE;
    r->term += !given;
    for (size_t i = 0; i < r->site_count; i++) {
        struct proto_round_party *party = &r->sites[i];
        if (stopped && party->standing != PROTO_ROUND_EQUIVOCATED) {
            invite_again(party);
        } else if (party->standing == PROTO_ROUND_REFUSED) {
            party->standing = party->weight ? PROTO_ROUND_ADMITTED : PROTO_ROUND_INVITED;
        }
        party->used_up = false;
        if (party->standing != PROTO_ROUND_EQUIVOCATED) {
            set_reason(party, "");
        }
    }
    become(r, PROTO_ROUND_OPENING);
    persist(r, out);
}

static void on_persisted(struct proto_round *r, const struct proto_round_event *e,
                         struct proto_round_actions *out)
{
    uint64_t next = e->next ? e->next : r->round + 1;
    if (e->save != r->save || e->round != r->round) {
        return; /* of an earlier PERSIST, which this one follows */
    }
    if (r->state == PROTO_ROUND_ENDING) {
        finish(r, out, r->final);
    } else if (next > r->rounds) {
        finish(r, out, PROTO_ROUND_DONE);
    } else if (r->state == PROTO_ROUND_CLOSING) {
        next_round(r, out, next, e->now_ms);
    } else {
        become(r, PROTO_ROUND_PLANNING);
        r->next_round = next;
        r->attempt = 0;
        if (any_invited(r) || institutions(r, is_admitted) < r->min_sites) {
            send_all(r, out, e->now_ms);
        }
        check(r, out, e, false);
    }
}

static void on_admitted(struct proto_round *r, const struct proto_round_event *e,
                        struct proto_round_actions *out)
{
    struct proto_round_party *party = &r->sites[e->site];
    if (party->standing != PROTO_ROUND_INVITED || e->term != r->term) {
        return; /* the first admission stands; one from before a stop was taken back by it */
    }
    party->standing = PROTO_ROUND_ADMITTED;
    party->weight = e->weight;
    party->asked = party->failed = false;
    set_reason(party, "");
    if (r->state == PROTO_ROUND_ASKING) {
        send_round(r, out, e->site); /* late, but the round is still open */
    }
    check(r, out, e, false);
}

/* A refusal counts for what was asked last: one of a round that is over says nothing about the next. That of the plan lasts
 * until RESUME, that of a round for the round: a licence may be granted again, a budget may grow. */
static void on_refused(struct proto_round *r, const struct proto_round_event *e,
                       struct proto_round_actions *out)
{
    struct proto_round_party *party = &r->sites[e->site];
    bool of_plan = party->standing == PROTO_ROUND_INVITED && e->round == 0;
    bool of_round = party->standing == PROTO_ROUND_ADMITTED && r->state == PROTO_ROUND_ASKING &&
                    e->round == r->asked_round && !party->answered;
    if (e->term != r->term || !(of_plan || of_round)) {
        return;
    }
    party->standing = of_plan ? PROTO_ROUND_REFUSED : PROTO_ROUND_ADMITTED;
    party->declined = of_round;
    party->used_up = of_round && strcmp(e->reason, PROTO_ROUND_REASON_STEPS) == 0;
    party->held = of_plan && e->held;
    party->asked = party->failed = false;
    set_reason(party, e->reason);
    check(r, out, e, false);
}

static void on_failed(struct proto_round *r, const struct proto_round_event *e,
                      struct proto_round_actions *out)
{
    struct proto_round_party *party = &r->sites[e->site];
    bool of_plan = party->standing == PROTO_ROUND_INVITED && e->round == 0;
    bool of_round = party->standing == PROTO_ROUND_ADMITTED && r->state == PROTO_ROUND_ASKING &&
                    e->round == r->asked_round;
    if (e->term != r->term || !party->asked || !(of_plan || of_round)) {
        return;
    }
    party->asked = false;
    party->failed = true;
    set_reason(party, e->reason);
    check(r, out, e, false);
}

static void equivocated(struct proto_round_party *party)
{
    party->standing = PROTO_ROUND_EQUIVOCATED;
    party->answered = party->asked = party->failed = party->declined = false;
    set_reason(party, PROTO_ROUND_REASON_EQUIVOCATED);
}

/* In ASKING for the open round; in CLOSING for the one just closed, whose participants stand. */
static void on_updated(struct proto_round *r, const struct proto_round_event *e,
                       struct proto_round_actions *out)
{
    struct proto_round_party *party = &r->sites[e->site];
    if (e->round != r->asked_round || e->term > r->term ||
        party->standing == PROTO_ROUND_EQUIVOCATED) {
        return;
    }
    if (party->known && memcmp(party->hash, e->hash, sizeof party->hash) != 0) {
        equivocated(party);
    } else if (party->standing != PROTO_ROUND_ADMITTED || r->state != PROTO_ROUND_ASKING ||
               (e->term < r->term && !party->known)) {
        return;
    } else {
        party->known = party->answered = true;
        party->asked = party->failed = party->declined = false;
        memcpy(party->hash, e->hash, sizeof party->hash);
        set_reason(party, "");
    }
    check(r, out, e, false);
}

static void on_timer(struct proto_round *r, const struct proto_round_event *e,
                     struct proto_round_actions *out)
{
    if (e->now_ms < r->deadline_ms) {
        emit(out, PROTO_ROUND_SET_TIMER)->at_ms = r->deadline_ms; /* one that was replaced */
    } else {
        check(r, out, e, true);
    }
}

/* --- the step ---------------------------------------------------------------------------------------------------------- */

static enum err start_check(const struct proto_round_event *e)
{
    bool seen[PROTO_ROUND_SITES] = {false};
    uint64_t count = 0;
    if (!e->institutions || e->site_count == 0 || e->site_count > PROTO_ROUND_SITES ||
        e->rounds == 0 || e->rounds > PROTO_ROUND_ROUNDS_MAX || e->timeout_ms == 0 ||
        e->timeout_ms > PROTO_ROUND_TIMEOUT_MAX || e->retries > PROTO_ROUND_RETRIES_MAX ||
        e->plan_retries > PROTO_ROUND_RETRIES_MAX) {
        return E_LIMIT;
    }
    for (size_t i = 0; i < e->site_count; i++) {
        if (e->institutions[i] >= PROTO_ROUND_SITES) {
            return E_LIMIT;
        }
        count += !seen[e->institutions[i]];
        seen[e->institutions[i]] = true;
    }
    return e->min_sites == 0 || e->min_sites > count ? E_LIMIT : E_OK;
}

static bool reason_valid(const char *reason)
{
    size_t len = reason ? strnlen(reason, PROTO_ROUND_REASON) : 0;
    return len > 0 && len < PROTO_ROUND_REASON && proto_utf8_valid(span_of(reason, len));
}

static enum err event_check(const struct proto_round *r, const struct proto_round_event *e)
{
    switch (e->kind) {
    case PROTO_ROUND_START:
        return start_check(e);
    case PROTO_ROUND_SITE_ADMITTED:
        if (e->weight == 0 || e->weight > PROTO_ROUND_WEIGHT_MAX) {
            return E_LIMIT;
        }
        break;
    case PROTO_ROUND_SITE_REFUSED:
    case PROTO_ROUND_SITE_FAILED:
        if (!reason_valid(e->reason)) {
            return E_INVALID;
        }
        break;
    case PROTO_ROUND_SITE_UPDATED:
        break;
    case PROTO_ROUND_PERSISTED:
        return e->next && e->next <= r->round ? E_INVALID : E_OK;
    case PROTO_ROUND_STOP:
        return e->term > INT64_MAX ? E_LIMIT : E_OK;
    case PROTO_ROUND_RESUME:
        return r->term >= INT64_MAX || e->term > INT64_MAX ? E_LIMIT : E_OK;
    default:
        return E_OK;
    }
    return e->site < r->site_count ? E_OK : E_INVALID;
}

/* From a snapshot nothing is known to be under way, so that only RESUME and STOP have a meaning. */
static enum rule rule_of(const struct proto_round *r, enum proto_round_event_kind kind)
{
    if ((unsigned)kind >= PROTO_ROUND_EVENTS) {
        return NO;
    }
    if (!r->live && r->state != PROTO_ROUND_IDLE && !ended(r->state)) {
        return kind == PROTO_ROUND_RESUME || kind == PROTO_ROUND_STOP ? DO : NO;
    }
    return rules[r->state][kind];
}

enum err proto_round_step(struct proto_round *r, const struct proto_round_event *e,
                          struct proto_round_actions *out)
{
    out->count = 0;
    memset(out->participants, 0, sizeof out->participants);
    enum rule rule = rule_of(r, e->kind);
    if (rule != DO) {
        return rule == LATE ? E_OK : E_INVALID;
    }
    enum err err = event_check(r, e);
    if (err) {
        return err;
    }
    switch (e->kind) {
    case PROTO_ROUND_START:
        on_start(r, e, out);
        break;
    case PROTO_ROUND_SITE_ADMITTED:
        on_admitted(r, e, out);
        break;
    case PROTO_ROUND_SITE_REFUSED:
        on_refused(r, e, out);
        break;
    case PROTO_ROUND_SITE_UPDATED:
        on_updated(r, e, out);
        break;
    case PROTO_ROUND_SITE_FAILED:
        on_failed(r, e, out);
        break;
    case PROTO_ROUND_TIMER:
        on_timer(r, e, out);
        break;
    case PROTO_ROUND_PERSISTED:
        on_persisted(r, e, out);
        break;
    case PROTO_ROUND_STOP:
        r->live = true;
        r->term = e->term > r->term ? e->term : r->term;
        end(r, out, PROTO_ROUND_STOPPED);
        break;
    case PROTO_ROUND_RESUME:
        on_resume(r, e, out);
        break;
    case PROTO_ROUND_EVENTS:
        break;
    }
    return E_OK;
}

void proto_round_init(struct proto_round *r)
{
    memset(r, 0, sizeof *r);
}

bool proto_round_took_part(const struct proto_round_actions *out, size_t site)
{
    return site < PROTO_ROUND_SITES && out->participants[site / 8] >> site % 8 & 1;
}

const char *proto_round_state_name(enum proto_round_state state)
{
    static const char *const names[PROTO_ROUND_STATES] = {
        "idle",   "opening", "planning", "asking",  "closing",
        "ending", "waiting", "failed",   "stopped", "done"};
    return (unsigned)state < PROTO_ROUND_STATES ? names[state] : "?";
}

const char *proto_round_standing_name(enum proto_round_standing standing)
{
    static const char *const names[PROTO_ROUND_STANDINGS] = {"invited", "admitted", "refused",
                                                             "equivocated"};
    return (unsigned)standing < PROTO_ROUND_STANDINGS ? names[standing] : "?";
}

/* --- validity ---------------------------------------------------------------------------------------------------------- */

static bool party_valid(const struct proto_round *r, const struct proto_round_party *party)
{
    static const uint8_t zero[32];
    size_t len = strnlen(party->reason, sizeof party->reason);
    bool open = r->state == PROTO_ROUND_ASKING || r->state == PROTO_ROUND_CLOSING;
    bool with_us =
        party->standing == PROTO_ROUND_INVITED || party->standing == PROTO_ROUND_ADMITTED;
    bool text = len < sizeof party->reason && proto_utf8_valid(span_of(party->reason, len)) &&
                (with_us || len > 0);
    bool weight = party->standing == PROTO_ROUND_ADMITTED  ? party->weight > 0
                  : party->standing == PROTO_ROUND_INVITED ? party->weight == 0
                                                           : true;
    bool answer = !party->answered || (party->known && open &&
                                       party->standing != PROTO_ROUND_EQUIVOCATED && !party->asked);
    bool hash = party->known ? r->asked_round > 0 : memcmp(party->hash, zero, sizeof zero) == 0;
    return (unsigned)party->standing < PROTO_ROUND_STANDINGS &&
           party->institution < PROTO_ROUND_SITES && party->weight <= PROTO_ROUND_WEIGHT_MAX &&
           text && weight && answer && hash && !(party->asked && party->failed) &&
           (with_us || !(party->asked || party->failed)) &&
           (!party->declined || (party->standing == PROTO_ROUND_ADMITTED && !party->answered &&
                                 !party->asked && len > 0)) &&
           (party->standing != PROTO_ROUND_INVITED || !party->known);
}

static bool numbers_valid(const struct proto_round *r)
{
    return r->site_count > 0 && r->site_count <= PROTO_ROUND_SITES && r->rounds > 0 &&
           r->rounds <= PROTO_ROUND_ROUNDS_MAX && r->timeout_ms > 0 &&
           r->timeout_ms <= PROTO_ROUND_TIMEOUT_MAX && r->retries <= PROTO_ROUND_RETRIES_MAX &&
           r->plan_retries <= PROTO_ROUND_RETRIES_MAX &&
           (r->attempt <= r->retries || r->attempt <= r->plan_retries) && r->min_sites > 0 &&
           r->term > 0 && r->term <= INT64_MAX && r->round <= r->asked_round &&
           r->asked_round <= r->rounds &&
           (r->state != PROTO_ROUND_ASKING || r->round < r->asked_round) &&
           (r->state != PROTO_ROUND_CLOSING || (r->round > 0 && r->round == r->asked_round));
}

bool proto_round_valid(const struct proto_round *r)
{
    if (r->state == PROTO_ROUND_IDLE) {
        return r->term == 0 && r->site_count == 0;
    }
    bool has_final = r->final == PROTO_ROUND_WAITING || r->final == PROTO_ROUND_FAILED ||
                     r->final == PROTO_ROUND_STOPPED ||
                     (r->final == PROTO_ROUND_DONE && r->round > 0);
    if ((unsigned)r->state >= PROTO_ROUND_STATES || !numbers_valid(r) ||
        (r->state == PROTO_ROUND_ENDING ? !has_final : r->final != PROTO_ROUND_IDLE)) {
        return false;
    }
    for (size_t i = 0; i < r->site_count; i++) {
        if (!party_valid(r, &r->sites[i])) {
            return false;
        }
    }
    return institutions(r, is_any) >= r->min_sites;
}

/* --- snapshots --------------------------------------------------------------------------------------------------------- */

struct wire_site {
    uint64_t institution, standing, weight;
    struct span reason;
    struct span hash; /* absent: not known */
};
static const struct proto_field wire_site_fields[] = {
    PROTO_FIELD(struct wire_site, institution, PROTO_U64, 0, PROTO_ROUND_SITES - 1),
    PROTO_FIELD(struct wire_site, standing, PROTO_U64, 0, PROTO_ROUND_STANDINGS - 1),
    PROTO_FIELD(struct wire_site, weight, PROTO_U64, 0, PROTO_ROUND_WEIGHT_MAX),
    PROTO_FIELD(struct wire_site, reason, PROTO_STR, 0, PROTO_ROUND_REASON - 1),
    PROTO_FIELD_OPTIONAL(struct wire_site, hash, PROTO_BIN, 32, 32),
};
static const struct proto_message wire_site_message =
    PROTO_MESSAGE("round.site", struct wire_site, wire_site_fields);

struct wire {
    uint64_t version, state, final, term, round, asked_round, rounds, min_sites, timeout_ms,
        retries, plan_retries;
    struct proto_list sites;
};
static const struct proto_field wire_fields[] = {
    PROTO_FIELD(struct wire, version, PROTO_U64, 1, 1),
    PROTO_FIELD(struct wire, state, PROTO_U64, PROTO_ROUND_OPENING, PROTO_ROUND_DONE),
    PROTO_FIELD(struct wire, final, PROTO_U64, PROTO_ROUND_IDLE, PROTO_ROUND_DONE),
    PROTO_FIELD(struct wire, term, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct wire, round, PROTO_U64, 0, PROTO_ROUND_ROUNDS_MAX),
    PROTO_FIELD(struct wire, asked_round, PROTO_U64, 0, PROTO_ROUND_ROUNDS_MAX),
    PROTO_FIELD(struct wire, rounds, PROTO_U64, 1, PROTO_ROUND_ROUNDS_MAX),
    PROTO_FIELD(struct wire, min_sites, PROTO_U64, 1, PROTO_ROUND_SITES),
    PROTO_FIELD(struct wire, timeout_ms, PROTO_U64, 1, PROTO_ROUND_TIMEOUT_MAX),
    PROTO_FIELD(struct wire, retries, PROTO_U64, 0, PROTO_ROUND_RETRIES_MAX),
    PROTO_FIELD(struct wire, plan_retries, PROTO_U64, 0, PROTO_ROUND_RETRIES_MAX),
    PROTO_FIELD_LIST(struct wire, sites, &wire_site_message, 1, PROTO_ROUND_SITES),
};
static const struct proto_message wire_message = PROTO_MESSAGE("round", struct wire, wire_fields);

enum err proto_round_encode(const struct proto_round *r, struct buf *out, struct err_info *reterr)
{
    struct arena arena = {0};
    struct wire wire = {
        .version = 1,
        .state = r->state,
        .final = r->final,
        .term = r->term,
        .round = r->round,
        .asked_round = r->asked_round,
        .rounds = r->rounds,
        .min_sites = r->min_sites,
        .timeout_ms = r->timeout_ms,
        .retries = r->retries,
        .plan_retries = r->plan_retries,
    };
    struct wire_site *sites = arena_alloc(&arena, r->site_count, sizeof *sites);
    wire.sites = (struct proto_list){sites, r->site_count};
    for (size_t i = 0; sites && i < r->site_count; i++) {
        const struct proto_round_party *party = &r->sites[i];
        sites[i].institution = party->institution;
        sites[i].standing = party->standing;
        sites[i].weight = party->weight;
        sites[i].reason = span_str(party->reason);
        sites[i].hash = party->known ? span_of(party->hash, sizeof party->hash) : SPAN_NONE;
    }
    enum err err = sites ? proto_codec_encode(&wire_message, &wire, out, reterr) : E_NO_MEMORY;
    arena_fini(&arena);
    return err;
}

static void party_from_wire(const struct wire_site *from, struct proto_round_party *to)
{
    to->institution = from->institution;
    to->standing = (enum proto_round_standing)from->standing;
    to->weight = from->weight;
    if (from->reason.len) { /* an empty span may be NULL */
        memcpy(to->reason, from->reason.ptr, from->reason.len);
    }
    to->known = from->hash.ptr != NULL;
    if (to->known) {
        memcpy(to->hash, from->hash.ptr, sizeof to->hash);
    }
}

enum err proto_round_decode(struct span bytes, struct proto_round *ret, struct err_info *reterr)
{
    struct arena arena = {0};
    struct wire wire;
    struct proto_round *r = proto_alloc(1, sizeof *r);
    enum err err =
        r ? proto_codec_decode(&wire_message, bytes, &arena, &wire, reterr) : E_NO_MEMORY;
    if (!err) {
        const struct wire_site *sites = wire.sites.items;
        r->state = (enum proto_round_state)wire.state;
        r->final = (enum proto_round_state)wire.final;
        r->term = wire.term;
        r->round = wire.round;
        r->asked_round = wire.asked_round;
        r->rounds = wire.rounds;
        r->min_sites = wire.min_sites;
        r->timeout_ms = wire.timeout_ms;
        r->retries = wire.retries;
        r->plan_retries = wire.plan_retries;
        r->site_count = wire.sites.count;
        for (size_t i = 0; i < wire.sites.count; i++) {
            party_from_wire(&sites[i], &r->sites[i]);
        }
        err = proto_round_valid(r)
                  ? E_OK
                  : proto_err_set(reterr, E_INVALID,
                                  "the parts of the training round's snapshot disagree");
    }
    if (!err) {
        *ret = *r;
    }
    proto_free(r);
    arena_fini(&arena);
    return err;
}
