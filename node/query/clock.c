#include "config.h"
#include "node/query/clock.h"

#include "store/audit.h"
#include "store/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define PEERS_MIN 2
#define KEEP_S    30 /* less would wear the disk for nothing: minutes are what counts */

static _Atomic int64_t latest; /* what was persisted, at the least */
static _Atomic bool
    off; /* by the last check: the system's clock counts for nothing until it is right again */

uint64_t query_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int64_t query_now(void)
{
    int64_t now = (int64_t)time(NULL);
    int64_t known = latest;
    return known == 0 || (now > known && !off) ? now : known;
}

enum err query_clock_begin(struct store *store, struct err_info *reterr)
{
    int64_t kept = 0;
    struct store_audit_head head;
    enum err err = store_clock_get(store, &kept, reterr);
    if (!err) {
        /* Whatever was done stands in the audit chain with its time. */
        bool later = store_audit_head(store, &head) == E_OK && head.time > kept;
        latest = later ? head.time : kept;
    }
    return err;
}

/* E_OK also where fewer than two peers can be asked. */
static enum err check_peers(struct peer *peer, struct err_info *reterr)
{
    int64_t ahead_ms = 0;
    size_t count = peer ? peer_clock(peer, &ahead_ms) : 0;
    if (count < PEERS_MIN || llabs(ahead_ms) <= QUERY_CLOCK_OFF_S * INT64_C(1000)) {
        return E_OK;
    }
    return proto_err_set(reterr, E_CLOCK,
                         "this node's clock is %lld s %s the median of %zu peers: set it right "
                         "(timedatectl, chrony)",
                         (long long)(llabs(ahead_ms) / 1000), ahead_ms > 0 ? "behind" : "ahead of",
                         count);
}

static enum err check(struct peer *peer, struct err_info *reterr)
{
    int64_t behind = latest - (int64_t)time(NULL);
    if (behind > QUERY_CLOCK_OFF_S) {
        return proto_err_set(reterr, E_CLOCK,
                             "this node's clock is %lld s behind a time that it has seen before: "
                             "set it right, or, if it ran ahead then, `concordat clock accept`",
                             (long long)behind);
    }
    return check_peers(peer, reterr);
}

enum err query_clock_check(struct peer *peer, struct err_info *reterr)
{
    enum err err = check(peer, reterr);
    off = err != E_OK;
    return err;
}

/* Whether as many peers as there could be, or two, have shown their clocks. */
static bool compared(struct peer *peer)
{
    int64_t ahead_ms;
    struct peer_member none;
    size_t members = peer_members(peer, &none, 0);
    return members <= PEERS_MIN || peer_clock(peer, &ahead_ms) >= PEERS_MIN;
}

enum err query_clock_keep(struct store *store, struct peer *peer, struct err_info *reterr)
{
    int64_t now = (int64_t)time(NULL);
    if (now < latest + KEEP_S || !compared(peer) || check_peers(peer, NULL)) {
        return E_OK;
    }
    enum err err = store_clock_put(store, now, reterr);
    if (!err) {
        latest = now;
    }
    return err;
}

enum err query_clock_accept(struct store *store, struct peer *peer, struct err_info *reterr)
{
    int64_t now = (int64_t)time(NULL);
    enum err err = check_peers(peer, reterr);
    err = err ? err : store_clock_put(store, now, reterr);
    if (!err) {
        latest = now;
        off = false;
    }
    return err;
}
