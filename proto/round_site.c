#include "config.h"
#include "proto/round_site.h"

#include "proto/round.h"

#include <assert.h>
#include <string.h>

/*   NONE --PLAN, permitted--> PLANNED --first COMPUTE--> ACTIVE --STOP--> ENDED
 *                                |                                          ^
 *                                +------------------STOP--------------------+
 *
 * PLAN again is accepted in PLANNED and ACTIVE when it is the same plan, so that a lost answer can be repeated; and in ENDED when
 * the job was stopped and goes on: back to where it was, with the steps that it had left. */
#define TO(state) (1u << PROTO_ROUND_SITE_##state)
static const uint8_t leads_to[PROTO_ROUND_SITE_STATES] = {
    [PROTO_ROUND_SITE_NONE] = TO(PLANNED),
    [PROTO_ROUND_SITE_PLANNED] = TO(ACTIVE) | TO(ENDED),
    [PROTO_ROUND_SITE_ACTIVE] = TO(ACTIVE) | TO(ENDED),
    [PROTO_ROUND_SITE_ENDED] = TO(ENDED) | TO(PLANNED) | TO(ACTIVE),
};
#undef TO

static void become(struct proto_round_site *site, enum proto_round_site_state to)
{
    assert(leads_to[site->state] >> to & 1);
    site->state = to;
}

static void refuse(struct proto_round_site_reply *ret, const char *reason)
{
    ret->answer = PROTO_ROUND_SITE_REFUSE;
    ret->reason = reason;
}

static const char *why_not(const struct proto_round_site_event *event)
{
    return event->reason ? event->reason : "REFUSED";
}

/* A stop of the life before may still be under way: from here on it is of an old term. */
static void accept_plan(struct proto_round_site *site, const struct proto_round_site_event *e,
                        struct proto_round_site_reply *ret)
{
    site->term = e->term > site->term ? e->term : site->term;
    ret->answer = PROTO_ROUND_SITE_ACCEPT;
}

static void on_plan(struct proto_round_site *site, const struct proto_round_site_event *e,
                    struct proto_round_site_reply *ret)
{
    bool same = site->state != PROTO_ROUND_SITE_NONE &&
                memcmp(site->plan_hash, e->plan_hash, sizeof site->plan_hash) == 0;
    if (site->state == PROTO_ROUND_SITE_ENDED && !(same && e->reopened)) {
        refuse(ret, "ENDED");
    } else if (site->state != PROTO_ROUND_SITE_NONE && !same) {
        refuse(ret, "OTHER_PLAN");
    } else if (!e->permitted) {
        refuse(ret, why_not(e));
    } else if (same) {
        if (site->state == PROTO_ROUND_SITE_ENDED) {
            become(site, site->last_round ? PROTO_ROUND_SITE_ACTIVE : PROTO_ROUND_SITE_PLANNED);
        }
        accept_plan(site, e, ret);
    } else if (e->rounds == 0 || e->steps_per_round == 0 || e->steps == 0) {
        refuse(ret, "BAD_REQUEST");
    } else {
        become(site, PROTO_ROUND_SITE_PLANNED);
        memcpy(site->plan_hash, e->plan_hash, sizeof site->plan_hash);
        site->rounds = e->rounds;
        site->steps_per_round = e->steps_per_round;
        site->steps_left = e->steps;
        accept_plan(site, e, ret);
    }
}

static void compute(struct proto_round_site *site, uint64_t round,
                    struct proto_round_site_reply *ret)
{
    become(site, PROTO_ROUND_SITE_ACTIVE);
    site->busy_round = site->last_round = round;
    /* After a crash there are fewer left than planned: they are spread, so that the last rounds get some too. */
    uint64_t rounds = site->rounds - round + 1;
    uint64_t share = site->steps_left / rounds + (site->steps_left % rounds != 0);
    ret->steps = share < site->steps_per_round ? share : site->steps_per_round;
    site->steps_left -= ret->steps;
    ret->answer = PROTO_ROUND_SITE_COMPUTE;
}

/* The order matters: a round that was answered is never computed again, whatever else the request says; and stored bytes go
 * only to whom the licence still allows them. */
static void on_round(struct proto_round_site *site, const struct proto_round_site_event *e,
                     struct proto_round_site_reply *ret)
{
    if (site->state == PROTO_ROUND_SITE_NONE) {
        refuse(ret, "NO_PLAN");
    } else if (memcmp(site->plan_hash, e->plan_hash, sizeof site->plan_hash) != 0) {
        refuse(ret, "OTHER_PLAN");
    } else if (site->state == PROTO_ROUND_SITE_ENDED) {
        refuse(ret, "ENDED");
    } else if (!e->permitted) {
        refuse(ret, why_not(e));
    } else if (e->round == 0 || e->round > site->rounds) {
        refuse(ret, "NO_SUCH_ROUND");
    } else if (e->stored) {
        site->term = e->term > site->term ? e->term : site->term;
        ret->answer = PROTO_ROUND_SITE_RESEND;
    } else if (e->term < site->term) {
        refuse(ret, "OLD_TERM");
    } else if (e->round < site->last_round) {
        refuse(ret, "ROUND_PASSED");
    } else {
        site->term = e->term;
        if (site->busy_round) {
            ret->answer = PROTO_ROUND_SITE_BUSY;
        } else if (site->steps_left == 0) {
            refuse(ret, PROTO_ROUND_REASON_STEPS);
        } else {
            compute(site, e->round, ret);
        }
    }
}

static void on_stop(struct proto_round_site *site, const struct proto_round_site_event *e,
                    struct proto_round_site_reply *ret)
{
    if (site->state == PROTO_ROUND_SITE_NONE ||
        memcmp(site->plan_hash, e->plan_hash, sizeof site->plan_hash) != 0) {
        refuse(ret, site->state == PROTO_ROUND_SITE_NONE ? "NO_PLAN" : "OTHER_PLAN");
        return;
    }
    if (e->term < site->term) {
        refuse(ret, "OLD_TERM");
        return;
    }
    become(site, PROTO_ROUND_SITE_ENDED);
    site->busy_round = 0;
    ret->answer = PROTO_ROUND_SITE_ACCEPT;
}

void proto_round_site_step(struct proto_round_site *site, const struct proto_round_site_event *e,
                           struct proto_round_site_reply *ret)
{
    *ret = (struct proto_round_site_reply){.answer = PROTO_ROUND_SITE_NOTED};
    switch (e->kind) {
    case PROTO_ROUND_SITE_PLAN:
        on_plan(site, e, ret);
        break;
    case PROTO_ROUND_SITE_ROUND:
        on_round(site, e, ret);
        break;
    case PROTO_ROUND_SITE_STORED:
    case PROTO_ROUND_SITE_GAVE_UP:
        site->busy_round = site->busy_round == e->round ? 0 : site->busy_round;
        break;
    case PROTO_ROUND_SITE_STOP:
        on_stop(site, e, ret);
        break;
    case PROTO_ROUND_SITE_EVENTS:
        break;
    }
}

bool proto_round_site_valid(const struct proto_round_site *site)
{
    if (site->state == PROTO_ROUND_SITE_NONE) {
        return site->last_round == 0 && site->busy_round == 0 && site->steps_left == 0 &&
               site->term == 0;
    }
    bool begun = site->last_round > 0;
    return (unsigned)site->state < PROTO_ROUND_SITE_STATES && site->rounds > 0 &&
           site->steps_per_round > 0 && site->last_round <= site->rounds &&
           (site->busy_round == 0 || site->busy_round == site->last_round) &&
           (site->state != PROTO_ROUND_SITE_PLANNED || !begun) &&
           (site->state != PROTO_ROUND_SITE_ACTIVE || begun) &&
           (site->state != PROTO_ROUND_SITE_ENDED || site->busy_round == 0);
}
