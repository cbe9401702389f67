#include "config.h"
#include "node/peer/directory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/envelope.h"
#include "proto/body.h"

struct member {
    struct peer_member shown;
    uint64_t member_hlc; /* of the MEMBER record in force */
    uint64_t address_seq;
    bool known; /* a MEMBER record was seen; before that there may be a REVOKE or an ADDRESS */
    bool revoked;
    bool clock_known;
    int64_t clock_ahead_ms;
};

struct peer_directory {
    pthread_mutex_t lock;
    uint8_t federation_id[16];
    uint8_t self[16];
    struct peer_council council;
    struct member *members;
    size_t count;
};

enum err peer_directory_new(const uint8_t federation_id[16], const uint8_t self[16],
                            struct peer_directory **ret)
{
    struct peer_directory *d = proto_alloc(1, sizeof *d);
    struct member *members = d ? proto_alloc(PEER_MEMBERS_MAX, sizeof *members) : NULL;
    if (!members || pthread_mutex_init(&d->lock, NULL)) {
        proto_free(members);
        proto_free(d);
        return E_NO_MEMORY;
    }
    d->members = members;
    memcpy(d->federation_id, federation_id, 16);
    memcpy(d->self, self, 16);
    *ret = d;
    return E_OK;
}

void peer_directory_free(struct peer_directory *d)
{
    if (d) {
        pthread_mutex_destroy(&d->lock);
        proto_free(d->members);
        proto_free(d);
    }
}

static int find(const struct peer_directory *d, const uint8_t id[16])
{
    for (size_t i = 0; i < d->count; i++) {
        if (memcmp(d->members[i].shown.id, id, 16) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int find_or_add(struct peer_directory *d, const uint8_t id[16])
{
    int at = find(d, id);
    if (at < 0 && d->count < PEER_MEMBERS_MAX) {
        at = (int)d->count++;
        struct member *member = &d->members[at];
        *member = (struct member){0};
        memcpy(member->shown.id, id, 16);
        member->shown.state = memcmp(id, d->self, 16) == 0 ? PEER_SELF : PEER_DOWN;
    }
    return at;
}

/* --- signatures ------------------------------------------------------------------------------------------------- */

/* Different seats of COUNCIL that signed BYTES. */
static uint64_t signatures_count(const struct peer_council *council, const char *domain,
                                 const uint8_t federation_id[16], struct span bytes,
                                 const struct proto_list *list)
{
    const struct proto_signature *signatures = list->items;
    uint64_t valid = 0;
    for (size_t s = 0; s < council->seats; s++) {
        for (size_t i = 0; i < list->count; i++) {
            if (signatures[i].signature.len == 64 &&
                span_equal(signatures[i].signer, span_of(council->seat[s].id, 16)) &&
                crypto_envelope_verify(council->seat[s].point, domain, federation_id, bytes,
                                       signatures[i].signature.ptr) == E_OK) {
                valid++;
                break;
            }
        }
    }
    return valid;
}

static bool council_of(const struct proto_charter *charter, const uint8_t id[16],
                       struct peer_council *ret)
{
    const struct proto_council_seat *seats = charter->council.items;
    *ret = (struct peer_council){
        .seats = charter->council.count, .threshold = charter->threshold, .epoch = charter->epoch};
    if (ret->seats > PEER_COUNCIL_MAX) {
        return false;
    }
    memcpy(ret->charter_id, id, 16);
    for (size_t i = 0; i < ret->seats; i++) {
        memcpy(ret->seat[i].id, seats[i].node_id.ptr, 16);
        memcpy(ret->seat[i].point, seats[i].point.ptr, 65);
    }
    return true;
}

/* The key that signs for ISSUER: a member's, or a seat's before its MEMBER record is here. */
static bool issuer_point(struct peer_directory *d, const uint8_t issuer[16], uint8_t ret[65])
{
    bool found = false;
    pthread_mutex_lock(&d->lock);
    int at = find(d, issuer);
    if (at >= 0 && d->members[at].known) {
        memcpy(ret, d->members[at].shown.point, 65);
        found = true;
    }
    for (size_t i = 0; !found && i < d->council.seats; i++) {
        if (memcmp(d->council.seat[i].id, issuer, 16) == 0) {
            memcpy(ret, d->council.seat[i].point, 65);
            found = true;
        }
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

enum err peer_directory_charter(struct peer_directory *d, struct span bytes,
                                struct err_info *reterr)
{
    struct proto_record record;
    struct proto_charter charter;
    struct arena arena = {0};
    struct peer_council council;
    enum err err = proto_record_decode(bytes, &crypto_proto_hash, &record, reterr);
    if (!err && record.envelope.kind != PROTO_RECORD_CHARTER) {
        err = proto_err_set(reterr, E_CORRUPT, "the charter file holds another record");
    }
    if (!err) {
        err = proto_charter_decode(record.envelope.body, &arena, &charter, reterr);
    }
    if (!err && (!span_equal(charter.federation_id, span_of(d->federation_id, 16)) ||
                 !council_of(&charter, record.id, &council))) {
        err = proto_err_set(reterr, E_AUTH, "the charter is another federation's");
    }
    if (!err) {
        err = proto_err_set(reterr, E_AUTH, "the charter is not signed by a seat of its council");
        for (size_t i = 0; err && i < council.seats; i++) {
            if (span_equal(record.envelope.issuer, span_of(council.seat[i].id, 16)) &&
                !crypto_envelope_verify(council.seat[i].point, PROTO_RECORD_DOMAIN,
                                        d->federation_id, record.envelope_bytes,
                                        record.signature)) {
                err = E_OK;
            }
        }
    }
    if (!err) {
        pthread_mutex_lock(&d->lock);
        d->council = council;
        pthread_mutex_unlock(&d->lock);
    }
    arena_fini(&arena);
    return err;
}

static enum proto_gossip_verdict judge_member(const struct peer_council *council,
                                              const uint8_t federation_id[16], struct span body)
{
    struct arena arena = {0};
    struct proto_member member;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum proto_gossip_verdict verdict = PROTO_GOSSIP_REJECT;
    uint8_t id[16];
    enum err err = proto_member_decode(body, &arena, &member, NULL);
    if (err == E_UNSUPPORTED) {
        verdict = PROTO_GOSSIP_ACCEPT; /* a newer layout: kept and relayed, not acted on */
    } else if (!err && !proto_member_signed(&member, &bytes, NULL)) {
        crypto_identity_node_id(member.identity_point.ptr, id);
        if (span_equal(member.node_id, span_of(id, 16)) &&
            signatures_count(council, PROTO_MEMBER_DOMAIN, federation_id, buf_span(&bytes),
                             &member.signatures) >= council->threshold) {
            verdict = PROTO_GOSSIP_ACCEPT;
        }
    }
    buf_fini(&bytes);
    arena_fini(&arena);
    return verdict;
}

static enum proto_gossip_verdict judge_revoke(const struct peer_council *council,
                                              const uint8_t federation_id[16], struct span body)
{
    struct arena arena = {0};
    struct proto_revoke revoke;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum proto_gossip_verdict verdict = PROTO_GOSSIP_REJECT;
    enum err err = proto_revoke_decode(body, &arena, &revoke, NULL);
    if (err == E_UNSUPPORTED) {
        verdict = PROTO_GOSSIP_ACCEPT;
    } else if (!err && !proto_revoke_signed(&revoke, &bytes, NULL) &&
               signatures_count(council, PROTO_REVOKE_DOMAIN, federation_id, buf_span(&bytes),
                                &revoke.signatures) >= council->threshold) {
        verdict = PROTO_GOSSIP_ACCEPT;
    }
    buf_fini(&bytes);
    arena_fini(&arena);
    return verdict;
}

/* The next charter: one epoch on, names this one, and k of this council and k of its own signed it. */
static enum proto_gossip_verdict judge_charter(const struct peer_council *council,
                                               const uint8_t federation_id[16],
                                               const struct proto_record *record)
{
    struct arena arena = {0};
    struct proto_charter charter;
    struct peer_council next;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum proto_gossip_verdict verdict = PROTO_GOSSIP_REJECT;
    enum err err = proto_charter_decode(record->envelope.body, &arena, &charter, NULL);
    if (err == E_UNSUPPORTED || memcmp(record->id, council->charter_id, 16) == 0) {
        verdict = PROTO_GOSSIP_ACCEPT;
    } else if (!err && !proto_charter_signed(&charter, &bytes, NULL) &&
               span_equal(charter.federation_id, span_of(federation_id, 16))) {
        if (charter.epoch <= council->epoch || charter.epoch > council->epoch + 1) {
            verdict = PROTO_GOSSIP_LATER;
        } else if (span_equal(charter.prev, span_of(council->charter_id, 16)) &&
                   council_of(&charter, record->id, &next) &&
                   signatures_count(council, PROTO_CHARTER_DOMAIN, federation_id, buf_span(&bytes),
                                    &charter.signatures) >= council->threshold &&
                   signatures_count(&next, PROTO_CHARTER_DOMAIN, federation_id, buf_span(&bytes),
                                    &charter.signatures) >= next.threshold) {
            verdict = PROTO_GOSSIP_ACCEPT;
        }
    }
    buf_fini(&bytes);
    arena_fini(&arena);
    return verdict;
}

enum proto_gossip_verdict peer_directory_judge(struct peer_directory *d, struct span bytes)
{
    struct proto_record record;
    uint8_t point[65];
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL)) {
        return PROTO_GOSSIP_REJECT;
    }
    if (!issuer_point(d, record.envelope.issuer.ptr, point)) {
        return PROTO_GOSSIP_LATER;
    }
    if (crypto_envelope_verify(point, PROTO_RECORD_DOMAIN, d->federation_id, record.envelope_bytes,
                               record.signature)) {
        return PROTO_GOSSIP_REJECT;
    }
    struct peer_council council;
    peer_directory_council(d, &council);
    switch (record.envelope.kind) {
    case PROTO_RECORD_MEMBER:
        return judge_member(&council, d->federation_id, record.envelope.body);
    case PROTO_RECORD_REVOKE:
        return judge_revoke(&council, d->federation_id, record.envelope.body);
    case PROTO_RECORD_CHARTER:
        return judge_charter(&council, d->federation_id, &record);
    default:
        return PROTO_GOSSIP_ACCEPT;
    }
}

/* --- what records change ---------------------------------------------------------------------------------------- */

static void roles_text(const struct proto_list *roles, char *to, size_t size)
{
    const struct proto_text *texts = roles->items;
    size_t used = 0;
    to[0] = 0;
    for (size_t i = 0; i < roles->count; i++) {
        if (used + texts[i].text.len + 2 > size) {
            return;
        }
        if (i > 0) {
            to[used++] = ',';
        }
        memcpy(to + used, texts[i].text.ptr, texts[i].text.len);
        used += texts[i].text.len;
        to[used] = 0;
    }
}

static void apply_member(struct peer_directory *d, const struct proto_record *record,
                         struct peer_directory_change *change)
{
    struct arena arena = {0};
    struct proto_member body;
    if (proto_member_decode(record->envelope.body, &arena, &body, NULL)) {
        arena_fini(&arena);
        return;
    }
    int at = find_or_add(d, body.node_id.ptr);
    struct member *member = at < 0 ? NULL : &d->members[at];
    if (member && (!member->known || record->envelope.hlc >= member->member_hlc)) {
        struct peer_member *shown = &member->shown;
        change->member = at;
        change->added = !member->known;
        change->tls_key = member->known && memcmp(shown->tls_spki, body.tls_spki.ptr, 32) != 0;
        member->known = true;
        member->member_hlc = record->envelope.hlc;
        (void)!span_to_cstr(body.name, shown->name, sizeof shown->name);
        (void)!span_to_cstr(body.org, shown->org, sizeof shown->org);
        (void)!span_to_cstr(body.org_type, shown->org_type, sizeof shown->org_type);
        (void)!span_to_cstr(body.country, shown->country, sizeof shown->country);
        roles_text(&body.roles, shown->roles, sizeof shown->roles);
        memcpy(shown->point, body.identity_point.ptr, 65);
        memcpy(shown->tls_spki, body.tls_spki.ptr, 32);
        shown->not_before = (int64_t)body.not_before;
        shown->expires = (int64_t)body.expires;
    }
    arena_fini(&arena);
}

static void apply_address(struct peer_directory *d, const struct proto_record *record,
                          struct peer_directory_change *change)
{
    struct arena arena = {0};
    struct proto_address body;
    if (proto_address_decode(record->envelope.body, &arena, &body, NULL) == E_OK) {
        int at = find_or_add(d, record->envelope.issuer.ptr);
        struct member *member = at < 0 ? NULL : &d->members[at];
        if (member && record->envelope.seq > member->address_seq &&
            body.url.len < sizeof member->shown.address) {
            change->member = at;
            change->address = !span_is(body.url, member->shown.address);
            member->address_seq = record->envelope.seq;
            (void)!span_to_cstr(body.url, member->shown.address, sizeof member->shown.address);
        }
    }
    arena_fini(&arena);
}

static void apply_revoke(struct peer_directory *d, const struct proto_record *record,
                         struct peer_directory_change *change)
{
    static const uint8_t everything[16];
    struct arena arena = {0};
    struct proto_revoke body;
    if (proto_revoke_decode(record->envelope.body, &arena, &body, NULL) == E_OK &&
        span_equal(body.key, span_of(everything, 16))) {
        int at = find_or_add(d, body.issuer.ptr);
        if (at >= 0 && !d->members[at].revoked) {
            d->members[at].revoked = true;
            d->members[at].shown.state = PEER_REVOKED;
            change->member = at;
            change->revoked = true;
        }
    }
    arena_fini(&arena);
}

static void apply_charter(struct peer_directory *d, const struct proto_record *record)
{
    struct arena arena = {0};
    struct proto_charter body;
    struct peer_council next;
    if (proto_charter_decode(record->envelope.body, &arena, &body, NULL) == E_OK &&
        body.epoch > d->council.epoch && council_of(&body, record->id, &next)) {
        d->council = next;
    }
    arena_fini(&arena);
}

struct peer_directory_change peer_directory_apply(struct peer_directory *d, struct span bytes)
{
    struct peer_directory_change change = {.member = -1};
    struct proto_record record;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL)) {
        return change;
    }
    pthread_mutex_lock(&d->lock);
    switch (record.envelope.kind) {
    case PROTO_RECORD_MEMBER:
        apply_member(d, &record, &change);
        break;
    case PROTO_RECORD_ADDRESS:
        apply_address(d, &record, &change);
        break;
    case PROTO_RECORD_REVOKE:
        apply_revoke(d, &record, &change);
        break;
    case PROTO_RECORD_CHARTER:
        apply_charter(d, &record);
        break;
    default:
        break;
    }
    pthread_mutex_unlock(&d->lock);
    return change;
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

bool peer_directory_admits(struct peer_directory *d, const struct crypto_certificate_info *who,
                           int64_t now)
{
    pthread_mutex_lock(&d->lock);
    int at = find(d, who->node_id);
    const struct member *member = at < 0 ? NULL : &d->members[at];
    bool ok = member && member->known && !member->revoked &&
              member->shown.not_before <= now + 300 && member->shown.expires > now &&
              memcmp(member->shown.tls_spki, who->spki_hash, 32) == 0 &&
              memcmp(who->node_id, d->self, 16) != 0;
    pthread_mutex_unlock(&d->lock);
    return ok;
}

size_t peer_directory_count(struct peer_directory *d)
{
    pthread_mutex_lock(&d->lock);
    size_t count = d->count;
    pthread_mutex_unlock(&d->lock);
    return count;
}

bool peer_directory_get(struct peer_directory *d, size_t index, struct peer_member *ret)
{
    pthread_mutex_lock(&d->lock);
    bool ok = index < d->count && d->members[index].known;
    if (ok) {
        *ret = d->members[index].shown;
    }
    pthread_mutex_unlock(&d->lock);
    return ok;
}

int peer_directory_find(struct peer_directory *d, const uint8_t id[16])
{
    pthread_mutex_lock(&d->lock);
    int at = find(d, id);
    if (at >= 0 && !d->members[at].known) {
        at = -1;
    }
    pthread_mutex_unlock(&d->lock);
    return at;
}

void peer_directory_seen(struct peer_directory *d, size_t index, enum peer_state state,
                         int64_t last_seen, int64_t certificate_until)
{
    pthread_mutex_lock(&d->lock);
    if (index < d->count) {
        struct member *member = &d->members[index];
        if (!member->revoked && member->shown.state != PEER_SELF) {
            member->shown.state = state;
        }
        if (last_seen) {
            member->shown.last_seen = last_seen;
        }
        if (certificate_until) {
            member->shown.certificate_until = certificate_until;
        }
    }
    pthread_mutex_unlock(&d->lock);
}

void peer_directory_root(struct peer_directory *d, size_t index, bool equal, uint64_t count)
{
    pthread_mutex_lock(&d->lock);
    if (index < d->count) {
        d->members[index].shown.root_equal = equal;
        d->members[index].shown.root_known = count;
    }
    pthread_mutex_unlock(&d->lock);
}

void peer_directory_clock(struct peer_directory *d, size_t index, int64_t ahead_ms)
{
    pthread_mutex_lock(&d->lock);
    if (index < d->count) {
        d->members[index].clock_known = true;
        d->members[index].clock_ahead_ms = ahead_ms;
    }
    pthread_mutex_unlock(&d->lock);
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

size_t peer_directory_clocks(struct peer_directory *d, int64_t *ret_ahead_ms)
{
    static const size_t most = 64; /* as many as a median needs */
    int64_t ahead[64];
    size_t count = 0;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->count && count < most; i++) {
        const struct member *member = &d->members[i];
        if (member->clock_known && member->shown.state == PEER_UP) {
            ahead[count++] = member->clock_ahead_ms;
        }
    }
    pthread_mutex_unlock(&d->lock);
    qsort(ahead, count, sizeof *ahead, by_size);
    /* Of an even number the middle one nearer to us: one liar among two cannot stop this node. */
    size_t low = count ? (count - 1) / 2 : 0;
    size_t high = count / 2;
    *ret_ahead_ms = count == 0                               ? 0
                    : llabs(ahead[low]) < llabs(ahead[high]) ? ahead[low]
                                                             : ahead[high];
    return count;
}

void peer_directory_council(struct peer_directory *d, struct peer_council *ret)
{
    pthread_mutex_lock(&d->lock);
    *ret = d->council;
    pthread_mutex_unlock(&d->lock);
}
