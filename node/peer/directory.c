#include "config.h"
#include "node/peer/directory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

#define FORMER_MAX 16

/* A council that was in force until ENDED_MS. BEGAN_MS: when its charter was signed. */
struct former {
    struct peer_council council;
    int64_t began_ms, ended_ms;
};

struct council_history {
    struct peer_council now;
    struct former former[FORMER_MAX];
    size_t count;
};

struct peer_directory {
    pthread_mutex_t lock;
    uint8_t federation_id[16];
    uint8_t self[16];
    struct former epochs[FORMER_MAX + 1]; /* by epoch, the last is in force */
    size_t epoch_count;
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

/* --- councils ---------------------------------------------------------------------------------------------------------- */

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Lock held. */
static const struct peer_council *in_force(const struct peer_directory *d)
{
    static const struct peer_council none;
    return d->epoch_count ? &d->epochs[d->epoch_count - 1].council : &none;
}

/* Lock held. The oldest gives way, after sixteen changes. */
static void remember(struct peer_directory *d, const struct peer_council *council, int64_t began_ms)
{
    size_t at = d->epoch_count;
    while (at > 0 && d->epochs[at - 1].council.epoch > council->epoch) {
        at--;
    }
    if (at > 0 && d->epochs[at - 1].council.epoch == council->epoch) {
        return; /* the first of an epoch stands */
    }
    if (d->epoch_count == FORMER_MAX + 1) {
        if (at == 0) {
            return;
        }
        memmove(d->epochs, d->epochs + 1, FORMER_MAX * sizeof *d->epochs);
        d->epoch_count--;
        at--;
    }
    memmove(d->epochs + at + 1, d->epochs + at, (d->epoch_count - at) * sizeof *d->epochs);
    d->epochs[at] = (struct former){.council = *council, .began_ms = began_ms};
    d->epoch_count++;
    for (size_t i = 0; i + 1 < d->epoch_count; i++) {
        d->epochs[i].ended_ms = d->epochs[i + 1].began_ms;
    }
}

static void history_get(struct peer_directory *d, struct council_history *ret)
{
    pthread_mutex_lock(&d->lock);
    ret->now = *in_force(d);
    ret->count = d->epoch_count ? d->epoch_count - 1 : 0;
    memcpy(ret->former, d->epochs, ret->count * sizeof *ret->former);
    pthread_mutex_unlock(&d->lock);
}

/* Former, or in force. */
static bool former_known(struct peer_directory *d, const uint8_t charter_id[16])
{
    bool known = false;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->epoch_count && !known; i++) {
        known = memcmp(d->epochs[i].council.charter_id, charter_id, 16) == 0;
    }
    pthread_mutex_unlock(&d->lock);
    return known;
}

/* --- signatures ------------------------------------------------------------------------------------------------- */

uint64_t peer_council_signatures(const struct peer_council *council, const char *domain,
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

bool peer_council_of(const struct proto_charter *charter, struct peer_council *ret)
{
    const struct proto_council_seat *seats = charter->council.items;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    uint8_t hash[32];
    *ret = (struct peer_council){
        .seats = charter->council.count, .threshold = charter->threshold, .epoch = charter->epoch};
    bool ok = ret->seats <= PEER_COUNCIL_MAX && !proto_charter_signed(charter, &bytes, NULL);
    if (ok) {
        crypto_sha256_one(buf_span(&bytes), hash);
        memcpy(ret->charter_id, hash, 16);
    }
    buf_fini(&bytes);
    for (size_t i = 0; ok && i < ret->seats; i++) {
        memcpy(ret->seat[i].id, seats[i].node_id.ptr, 16);
        memcpy(ret->seat[i].point, seats[i].point.ptr, 65);
    }
    return ok;
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
    for (size_t e = 0; !found && e < d->epoch_count; e++) {
        const struct peer_council *council = &d->epochs[e].council;
        for (size_t i = 0; !found && i < council->seats; i++) {
            if (memcmp(council->seat[i].id, issuer, 16) == 0) {
                memcpy(ret, council->seat[i].point, 65);
                found = true;
            }
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
                 !peer_council_of(&charter, &council))) {
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
        remember(d, &council, (int64_t)(record.envelope.hlc >> 16));
        pthread_mutex_unlock(&d->lock);
    }
    arena_fini(&arena);
    return err;
}

static bool sits(const struct peer_council *council, struct span id)
{
    for (size_t i = 0; i < council->seats; i++) {
        if (span_equal(id, span_of(council->seat[i].id, 16))) {
            return true;
        }
    }
    return false;
}

/* A record that the council in force signed is taken; one that a former council signed while it was in force is, too, for
 * a time. Signers that we do not know may sit in a council whose charter has not come yet. */
static enum proto_gossip_verdict judge_signatures(struct peer_directory *d, const char *domain,
                                                  struct span bytes, const struct proto_list *list,
                                                  uint64_t hlc)
{
    const struct proto_signature *signatures = list->items;
    struct council_history history;
    history_get(d, &history);
    if (peer_council_signatures(&history.now, domain, d->federation_id, bytes, list) >=
        history.now.threshold) {
        return PROTO_GOSSIP_ACCEPT;
    }
    bool late = false;
    for (size_t i = 0; i < history.count; i++) {
        const struct former *former = &history.former[i];
        int64_t since = wall_ms() - former->ended_ms;
        if (peer_council_signatures(&former->council, domain, d->federation_id, bytes, list) >=
            former->council.threshold) {
            if (since < PEER_COUNCIL_GRACE_MS && (int64_t)(hlc >> 16) <= former->ended_ms) {
                return PROTO_GOSSIP_ACCEPT;
            }
            late = true;
        }
    }
    for (size_t i = 0; i < list->count && !late; i++) {
        bool known = sits(&history.now, signatures[i].signer);
        for (size_t h = 0; h < history.count && !known; h++) {
            known = sits(&history.former[h].council, signatures[i].signer);
        }
        late = !known;
    }
    return late ? PROTO_GOSSIP_LATER : PROTO_GOSSIP_REJECT;
}

static enum proto_gossip_verdict judge_member(struct peer_directory *d,
                                              const struct proto_envelope *envelope)
{
    struct arena arena = {0};
    struct proto_member member;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum proto_gossip_verdict verdict = PROTO_GOSSIP_REJECT;
    uint8_t id[16];
    enum err err = proto_member_decode(envelope->body, &arena, &member, NULL);
    if (err == E_UNSUPPORTED) {
        verdict = PROTO_GOSSIP_ACCEPT; /* a newer layout: kept and relayed, not acted on */
    } else if (!err && !proto_member_signed(&member, &bytes, NULL)) {
        crypto_identity_node_id(member.identity_point.ptr, id);
        if (span_equal(member.node_id, span_of(id, 16))) {
            verdict = judge_signatures(d, PROTO_MEMBER_DOMAIN, buf_span(&bytes), &member.signatures,
                                       envelope->hlc);
        }
    }
    buf_fini(&bytes);
    arena_fini(&arena);
    return verdict;
}

static enum proto_gossip_verdict judge_revoke(struct peer_directory *d,
                                              const struct proto_envelope *envelope)
{
    struct arena arena = {0};
    struct proto_revoke revoke;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum proto_gossip_verdict verdict = PROTO_GOSSIP_REJECT;
    enum err err = proto_revoke_decode(envelope->body, &arena, &revoke, NULL);
    if (err == E_UNSUPPORTED) {
        verdict = PROTO_GOSSIP_ACCEPT;
    } else if (!err && !proto_revoke_signed(&revoke, &bytes, NULL)) {
        verdict = judge_signatures(d, PROTO_REVOKE_DOMAIN, buf_span(&bytes), &revoke.signatures,
                                   envelope->hlc);
    }
    buf_fini(&bytes);
    arena_fini(&arena);
    return verdict;
}

/* Whether the issuer signed what it says that it endorses; whether it has a seat is looked at when signatures are counted. */
static enum proto_gossip_verdict judge_endorse(const uint8_t federation_id[16],
                                               const uint8_t point[65],
                                               const struct proto_envelope *envelope)
{
    struct arena arena = {0};
    struct proto_endorse body;
    uint8_t hash[32];
    enum err err = proto_endorse_decode(envelope->body, &arena, &body, NULL);
    bool good = err == E_UNSUPPORTED;
    if (!err) {
        crypto_sha256_one(body.subject, hash);
        good = memcmp(hash, envelope->key.ptr, 16) == 0 &&
               crypto_envelope_verify(point, proto_endorse_domain(body.kind), federation_id,
                                      body.subject, body.signature.ptr) == E_OK;
    }
    arena_fini(&arena);
    return good ? PROTO_GOSSIP_ACCEPT : PROTO_GOSSIP_REJECT;
}

/* The next charter: one epoch on, names this one, and k of this council and k of its own signed it. */
static enum proto_gossip_verdict judge_charter(struct peer_directory *d, struct span body)
{
    struct arena arena = {0};
    struct proto_charter charter;
    struct peer_council council, next;
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    enum proto_gossip_verdict verdict = PROTO_GOSSIP_REJECT;
    peer_directory_council(d, &council);
    enum err err = proto_charter_decode(body, &arena, &charter, NULL);
    bool ours = !err && span_equal(charter.federation_id, span_of(d->federation_id, 16)) &&
                peer_council_of(&charter, &next) && !proto_charter_signed(&charter, &bytes, NULL);
    if (err == E_UNSUPPORTED || (ours && former_known(d, next.charter_id))) {
        verdict = PROTO_GOSSIP_ACCEPT;
    } else if (ours && charter.epoch != council.epoch + 1) {
        verdict = PROTO_GOSSIP_LATER;
    } else if (ours && !span_equal(charter.prev, span_of(council.charter_id, 16))) {
        verdict = PROTO_GOSSIP_LATER; /* of another line; nobody who relays it is to blame */
    } else if (ours &&
               peer_council_signatures(&council, PROTO_CHARTER_DOMAIN, d->federation_id,
                                       buf_span(&bytes),
                                       &charter.signatures) >= council.threshold &&
               peer_council_signatures(&next, PROTO_CHARTER_DOMAIN, d->federation_id,
                                       buf_span(&bytes), &charter.signatures) >= next.threshold) {
        verdict = PROTO_GOSSIP_ACCEPT;
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
    switch (record.envelope.kind) {
    case PROTO_RECORD_MEMBER:
        return judge_member(d, &record.envelope);
    case PROTO_RECORD_REVOKE:
        return judge_revoke(d, &record.envelope);
    case PROTO_RECORD_ENDORSE:
        return judge_endorse(d->federation_id, point, &record.envelope);
    case PROTO_RECORD_CHARTER:
        return judge_charter(d, record.envelope.body);
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

/* Also of charters that come out of order when they are read from disk. */
static void apply_charter(struct peer_directory *d, const struct proto_record *record)
{
    struct arena arena = {0};
    struct proto_charter body;
    struct peer_council next;
    if (proto_charter_decode(record->envelope.body, &arena, &body, NULL) == E_OK &&
        peer_council_of(&body, &next)) {
        remember(d, &next, (int64_t)(record->envelope.hlc >> 16));
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
    *ret = *in_force(d);
    pthread_mutex_unlock(&d->lock);
}
