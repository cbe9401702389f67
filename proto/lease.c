#include "config.h"
#include "proto/lease.h"

#include <assert.h>

uint64_t proto_lease_quorum(uint64_t holders)
{
    return holders / 2 + 1;
}

uint64_t proto_lease_owner(uint64_t term, uint64_t holders)
{
    return term && holders ? (term - 1) % holders : 0;
}

uint64_t proto_lease_ballot(const struct proto_lease *lease)
{
    uint64_t above = lease->promised > lease->term ? lease->promised : lease->term;
    uint64_t owner = above % lease->holders; /* of above + 1 */
    return above + 1 + (lease->self + lease->holders - owner) % lease->holders;
}

bool proto_lease_due(const struct proto_lease *lease, uint64_t now_ms)
{
    uint64_t leader = proto_lease_owner(lease->promised, lease->holders);
    uint64_t rank = (lease->self + lease->holders - leader) % lease->holders;
    uint64_t patience = PROTO_LEASE_MS + rank * PROTO_LEASE_STAGGER_MS;
    bool again = lease->tried_ms && now_ms - lease->tried_ms < PROTO_LEASE_RETRY_MS;
    return !lease->leading && lease->term && !again && now_ms - lease->heard_ms >= patience;
}

/* TERM is at least what was promised. */
static void promise(struct proto_lease *lease, uint64_t term)
{
    assert(term >= lease->promised);
    lease->leading = lease->leading && term == lease->promised;
    lease->promised = term;
}

enum proto_lease_answer proto_lease_renew(struct proto_lease *lease, uint64_t term, uint64_t now_ms)
{
    if (term < lease->promised) {
        return PROTO_LEASE_OLD;
    }
    if (term != lease->term) {
        return PROTO_LEASE_NOTHING;
    }
    lease->heard_ms = now_ms;
    return PROTO_LEASE_YES;
}

enum proto_lease_answer proto_lease_keep(struct proto_lease *lease, uint64_t term, uint64_t save,
                                         uint64_t now_ms, bool *ret_newer)
{
    *ret_newer = false;
    if (term < lease->promised) {
        return PROTO_LEASE_OLD;
    }
    promise(lease, term);
    lease->heard_ms = now_ms;
    *ret_newer = term > lease->term || save > lease->save;
    if (*ret_newer) {
        lease->term = term;
        lease->save = save;
    }
    return PROTO_LEASE_YES;
}

enum proto_lease_answer proto_lease_prepare(struct proto_lease *lease, uint64_t term, bool force,
                                            uint64_t now_ms)
{
    if (term <= lease->promised) {
        return PROTO_LEASE_OLD;
    }
    if (lease->term == 0) {
        return PROTO_LEASE_NOTHING;
    }
    if (!force && (lease->leading || now_ms - lease->heard_ms < PROTO_LEASE_MS)) {
        return PROTO_LEASE_ALIVE;
    }
    promise(lease, term);
    lease->heard_ms = now_ms; /* the candidate is given its time */
    return PROTO_LEASE_YES;
}

void proto_lease_lead(struct proto_lease *lease, uint64_t term)
{
    assert(term == lease->promised && proto_lease_owner(term, lease->holders) == lease->self);
    lease->promised = term;
    lease->leading = true;
}

void proto_lease_wrote(struct proto_lease *lease, uint64_t save)
{
    assert(lease->leading);
    lease->term = lease->promised;
    lease->save = save;
}

void proto_lease_yield(struct proto_lease *lease, uint64_t term, uint64_t now_ms)
{
    lease->leading = false;
    lease->promised = term > lease->promised ? term : lease->promised;
    lease->heard_ms = now_ms;
}

bool proto_lease_valid(const struct proto_lease *lease)
{
    bool own = proto_lease_owner(lease->promised, lease->holders) == lease->self;
    return lease->holders > 0 && lease->holders <= PROTO_LEASE_HOLDERS &&
           lease->self < lease->holders && lease->term <= lease->promised &&
           (lease->term || lease->save == 0) && (!lease->leading || (lease->promised && own));
}
