#include "config.h"
#include "node/peer/council.h"

#include "crypto/envelope.h"
#include "node/peer/internal.h"
#include "store/records.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SIGNERS_MAX (2 * PEER_COUNCIL_MAX)

static bool has_seat(const struct peer_council *council, const uint8_t id[16])
{
    for (size_t i = 0; i < council->seats; i++) {
        if (memcmp(council->seat[i].id, id, 16) == 0) {
            return true;
        }
    }
    return false;
}

void peer_council_now(struct peer *peer, struct peer_council *ret)
{
    peer_directory_council(peer->directory, ret);
}

bool peer_council_seated(struct peer *peer)
{
    struct peer_council council;
    peer_directory_council(peer->directory, &council);
    return has_seat(&council, peer->node_id);
}

/* --- gathering ---------------------------------------------------------------------------------------------- */

struct open {
    struct peer_proposal shown;
    struct proto_signature signatures[SIGNERS_MAX];
    struct peer_council next; /* of a charter */
};

struct gathering {
    struct peer *peer;
    struct peer_council council;
    struct arena arena;
    struct open *open;
    size_t count;
    int64_t now;
};

/* Whether it still is to be decided; of a charter also the council that it names. */
static bool is_open(struct gathering *g, uint64_t kind, struct span subject,
                    struct peer_council *ret_next)
{
    struct proto_member member;
    struct proto_charter charter;
    struct proto_revoke revoke;
    struct peer_member known;
    switch (kind) {
    case PROTO_RECORD_MEMBER:
        return !proto_member_decode(subject, &g->arena, &member, NULL) &&
               !peer_member_by_id(g->peer, member.node_id.ptr, &known);
    case PROTO_RECORD_REVOKE:
        return !proto_revoke_decode(subject, &g->arena, &revoke, NULL) &&
               peer_member_by_id(g->peer, revoke.issuer.ptr, &known) && known.state != PEER_REVOKED;
    default:
        return !proto_charter_decode(subject, &g->arena, &charter, NULL) &&
               charter.epoch == g->council.epoch + 1 &&
               span_equal(charter.prev, span_of(g->council.charter_id, 16)) &&
               peer_council_of(&charter, ret_next);
    }
}

static struct open *open_find(struct gathering *g, struct span id, const struct proto_endorse *body)
{
    struct peer_council next = {0};
    for (size_t i = 0; i < g->count; i++) {
        if (span_equal(id, span_of(g->open[i].shown.id, 16))) {
            return &g->open[i];
        }
    }
    if (g->count == PEER_PROPOSALS_MAX || !is_open(g, body->kind, body->subject, &next)) {
        return NULL;
    }
    struct open *open = &g->open[g->count++];
    *open = (struct open){.shown = {.kind = body->kind,
                                    .subject = body->subject,
                                    .threshold = g->council.threshold,
                                    .next_threshold = next.threshold},
                          .next = next};
    memcpy(open->shown.id, id.ptr, 16);
    return open;
}

static enum err take(void *user, struct span bytes, bool forked)
{
    struct gathering *g = user;
    struct proto_record record;
    struct proto_endorse body;
    (void)forked;
    uint8_t *copy = arena_alloc(&g->arena, bytes.len, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, bytes.ptr, bytes.len);
    if (proto_record_decode(span_of(copy, bytes.len), &crypto_proto_hash, &record, NULL) ||
        (record.envelope.expires && (int64_t)record.envelope.expires < g->now) ||
        proto_endorse_decode(record.envelope.body, &g->arena, &body, NULL)) {
        return E_OK;
    }
    struct open *open = open_find(g, record.envelope.key, &body);
    const uint8_t *issuer = record.envelope.issuer.ptr;
    if (!open || open->shown.kind != body.kind || open->shown.signatures.count == SIGNERS_MAX ||
        !(has_seat(&g->council, issuer) || has_seat(&open->next, issuer))) {
        return E_OK;
    }
    open->signatures[open->shown.signatures.count++] =
        (struct proto_signature){record.envelope.issuer, body.signature};
    open->shown.ours |= memcmp(issuer, g->peer->node_id, 16) == 0;
    return E_OK;
}

static void count(struct gathering *g, struct open *open)
{
    struct peer_proposal *shown = &open->shown;
    const char *domain = proto_endorse_domain(shown->kind);
    shown->signatures.items = open->signatures;
    shown->endorsed = peer_council_signatures(&g->council, domain, g->peer->federation_id,
                                              shown->subject, &shown->signatures);
    shown->next_endorsed = peer_council_signatures(&open->next, domain, g->peer->federation_id,
                                                   shown->subject, &shown->signatures);
    shown->complete =
        shown->endorsed >= shown->threshold && shown->next_endorsed >= shown->next_threshold;
}

enum err peer_council_each(struct peer *peer, peer_proposal_fn *each, void *user,
                           struct err_info *reterr)
{
    struct gathering g = {.peer = peer, .now = (int64_t)time(NULL)};
    peer_directory_council(peer->directory, &g.council);
    g.open = proto_alloc(PEER_PROPOSALS_MAX, sizeof *g.open);
    enum err err =
        g.open ? store_records_each(peer->store, PROTO_RECORD_ENDORSE, take, &g) : E_NO_MEMORY;
    for (size_t i = 0; i < g.count && !err; i++) {
        count(&g, &g.open[i]);
        err = each(user, &g.open[i].shown);
    }
    proto_free(g.open);
    arena_fini(&g.arena);
    return err ? proto_err_set(reterr, err, "reading the council's proposals") : E_OK;
}

/* --- signing ------------------------------------------------------------------------------------------------ */

struct same_epoch {
    struct peer *peer;
    const uint8_t *id;
    bool other;
};

static enum err look_for_charter(void *user, const struct peer_proposal *proposal)
{
    struct same_epoch *same = user;
    same->other |= proposal->kind == PROTO_RECORD_CHARTER && proposal->ours &&
                   memcmp(proposal->id, same->id, 16) != 0;
    return E_OK;
}

/* Two councils of one epoch would split the federation: nobody signs both. */
static enum err may_sign(struct peer *peer, uint64_t kind, const uint8_t id[16], bool next_seat,
                         struct err_info *reterr)
{
    struct same_epoch same = {peer, id, false};
    if (!peer_council_seated(peer) && !next_seat) {
        return proto_err_set(reterr, E_ROLE, "this node has no seat in the council");
    }
    enum err err = kind == PROTO_RECORD_CHARTER
                       ? peer_council_each(peer, look_for_charter, &same, reterr)
                       : E_OK;
    return !err && same.other ? proto_err_set(reterr, E_EXISTS,
                                              "this node signed another change of the council; it "
                                              "lapses 30 days after")
                              : err;
}

static enum err publish_endorse(struct peer *peer, uint64_t kind, struct span subject,
                                const uint8_t id[16], struct err_info *reterr)
{
    uint8_t sig[64];
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    const struct proto_endorse endorse = {PROTO_BODY_VERSION, kind, subject, span_of(sig, 64)};
    enum err err = crypto_envelope_sign(peer->identity, proto_endorse_domain(kind),
                                        peer->federation_id, subject, sig);
    err = err ? err : proto_endorse_encode(&endorse, &body, reterr);
    err = err ? err
              : peer_publish_key(peer, PROTO_RECORD_ENDORSE, id, buf_span(&body), 0,
                                 (int64_t)time(NULL) + PEER_PROPOSAL_S, NULL, reterr);
    buf_fini(&body);
    return err;
}

static bool sits_next(struct peer *peer, uint64_t kind, struct span subject)
{
    struct arena arena = {0};
    struct proto_charter charter;
    struct peer_council next;
    bool sits = kind == PROTO_RECORD_CHARTER &&
                !proto_charter_decode(subject, &arena, &charter, NULL) &&
                peer_council_of(&charter, &next) && has_seat(&next, peer->node_id);
    arena_fini(&arena);
    return sits;
}

enum err peer_council_propose(struct peer *peer, uint64_t kind, struct span subject,
                              uint8_t ret_id[16], struct err_info *reterr)
{
    uint8_t hash[32];
    crypto_sha256_one(subject, hash);
    if (ret_id) {
        memcpy(ret_id, hash, 16);
    }
    enum err err = may_sign(peer, kind, hash, sits_next(peer, kind, subject), reterr);
    err = err ? err : publish_endorse(peer, kind, subject, hash, reterr);
    return err ? err : peer_council_settle(peer, reterr);
}

struct wanted {
    const char *id;
    size_t found;
    struct peer_proposal proposal;
    struct buf subject;
};

static enum err match(void *user, const struct peer_proposal *proposal)
{
    struct wanted *wanted = user;
    char hex[33];
    span_to_hex(span_of(proposal->id, 16), hex);
    if (strncmp(hex, wanted->id, strlen(wanted->id)) == 0) {
        wanted->found++;
        wanted->proposal = *proposal;
        wanted->subject.len = 0;
        return buf_put(&wanted->subject, proposal->subject);
    }
    return E_OK;
}

enum err peer_council_endorse(struct peer *peer, const char *id, uint8_t ret_id[16],
                              struct err_info *reterr)
{
    struct wanted wanted = {.id = id, .subject.max = PROTO_RECORD_BODY_MAX};
    enum err err = strlen(id) >= 4 ? peer_council_each(peer, match, &wanted, reterr) : E_OK;
    if (!err && wanted.found != 1) {
        err = proto_err_set(reterr, E_NOT_FOUND,
                            wanted.found ? "several proposals begin with %s"
                                         : "no open proposal %s; `concordat federation council` "
                                           "lists them",
                            id);
    }
    if (!err) {
        memcpy(ret_id, wanted.proposal.id, 16);
        err = wanted.proposal.ours
                  ? peer_council_settle(peer, reterr)
                  : peer_council_propose(peer, wanted.proposal.kind, buf_span(&wanted.subject),
                                         ret_id, reterr);
    }
    buf_fini(&wanted.subject);
    return err;
}

/* --- results ------------------------------------------------------------------------------------------------ */

static enum err settle_member(struct peer *peer, const struct peer_proposal *proposal,
                              struct arena *arena, struct buf *out, struct err_info *reterr)
{
    struct proto_member body;
    char name[33];
    enum err err = proto_member_decode(proposal->subject, arena, &body, reterr);
    if (!err && !span_to_cstr(body.name, name, sizeof name)) {
        err = E_INVALID;
    }
    if (!err) {
        body.signatures = proposal->signatures;
        err = proto_member_encode(&body, out, reterr);
    }
    return err ? err
               : peer_publish(peer, PROTO_RECORD_MEMBER, name, buf_span(out), 0, 0, NULL, reterr);
}

static enum err settle_revoke(struct peer *peer, const struct peer_proposal *proposal,
                              struct arena *arena, struct buf *out, struct err_info *reterr)
{
    struct proto_revoke body;
    enum err err = proto_revoke_decode(proposal->subject, arena, &body, reterr);
    if (!err) {
        body.signatures = proposal->signatures;
        err = proto_revoke_encode(&body, out, reterr);
    }
    return err ? err
               : peer_publish_key(peer, PROTO_RECORD_REVOKE, body.issuer.ptr, buf_span(out),
                                  PROTO_RECORD_FINAL, 0, NULL, reterr);
}

/* Each epoch under its own key, so that whoever was away can follow from one to the next. */
static enum err settle_charter(struct peer *peer, const struct peer_proposal *proposal,
                               struct arena *arena, struct buf *out, struct err_info *reterr)
{
    struct proto_charter body;
    char key[48];
    enum err err = proto_charter_decode(proposal->subject, arena, &body, reterr);
    if (!err) {
        snprintf(key, sizeof key, "charter-%llu", (unsigned long long)body.epoch);
        body.signatures = proposal->signatures;
        err = proto_charter_encode(&body, out, reterr);
    }
    return err ? err
               : peer_publish(peer, PROTO_RECORD_CHARTER, key, buf_span(out), 0, 0, NULL, reterr);
}

struct settling {
    struct peer *peer;
    struct err_info *reterr;
};

static enum err settle(void *user, const struct peer_proposal *proposal)
{
    struct settling *settling = user;
    struct arena arena = {0};
    struct buf out = {.max = PROTO_RECORD_BODY_MAX};
    enum err err = E_OK;
    if (proposal->complete && proposal->ours) {
        err = proposal->kind == PROTO_RECORD_MEMBER
                  ? settle_member(settling->peer, proposal, &arena, &out, settling->reterr)
              : proposal->kind == PROTO_RECORD_REVOKE
                  ? settle_revoke(settling->peer, proposal, &arena, &out, settling->reterr)
                  : settle_charter(settling->peer, proposal, &arena, &out, settling->reterr);
    }
    buf_fini(&out);
    arena_fini(&arena);
    return err;
}

enum err peer_council_settle(struct peer *peer, struct err_info *reterr)
{
    struct settling settling = {peer, reterr};
    return peer_council_each(peer, settle, &settling, reterr);
}

/* --- proposals of this node --------------------------------------------------------------------------------- */

/* Seats of the council in force with NODE, or without it. */
static enum err seats_make(struct peer *peer, const struct peer_council *council,
                           const struct peer_member *node, bool add,
                           struct proto_council_seat seats[PEER_COUNCIL_MAX], size_t *ret_count,
                           struct err_info *reterr)
{
    bool seated = has_seat(council, node->id);
    size_t n = 0;
    (void)peer;
    if (add == seated) {
        return proto_err_set(reterr, add ? E_EXISTS : E_NOT_FOUND, "%s %s in the council",
                             node->name, add ? "sits already" : "has no seat");
    }
    if (add && council->seats == PEER_COUNCIL_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a council has at most %d seats", PEER_COUNCIL_MAX);
    }
    if (!add && council->seats == 1) {
        return proto_err_set(reterr, E_INVALID, "the last seat cannot be given up");
    }
    for (size_t i = 0; i < council->seats; i++) {
        if (memcmp(council->seat[i].id, node->id, 16) != 0) {
            seats[n++] = (struct proto_council_seat){span_of(council->seat[i].id, 16),
                                                     span_of(council->seat[i].point, 65)};
        }
    }
    if (add) {
        seats[n++] = (struct proto_council_seat){span_of(node->id, 16), span_of(node->point, 65)};
    }
    *ret_count = n;
    return E_OK;
}

static enum err charter_now(struct peer *peer, struct arena *arena, struct proto_charter *ret,
                            struct err_info *reterr)
{
    struct proto_record record;
    enum err err =
        proto_record_decode(buf_span(&peer->charter), &crypto_proto_hash, &record, reterr);
    return err ? err : proto_charter_decode(record.envelope.body, arena, ret, reterr);
}

enum err peer_council_change(struct peer *peer, const uint8_t node[16], bool add,
                             uint8_t ret_id[16], struct err_info *reterr)
{
    struct arena arena = {0};
    struct peer_council council;
    struct peer_member member;
    struct proto_charter charter;
    struct proto_council_seat seats[PEER_COUNCIL_MAX];
    struct buf bytes = {.max = PROTO_RECORD_BODY_MAX};
    size_t count = 0;
    peer_directory_council(peer->directory, &council);
    if (!peer_council_seated(peer)) {
        return proto_err_set(reterr, E_ROLE, "this node has no seat in the council");
    }
    enum err err = peer_member_by_id(peer, node, &member)
                       ? seats_make(peer, &council, &member, add, seats, &count, reterr)
                       : proto_err_set(reterr, E_NOT_FOUND, "no such member");
    err = err ? err : charter_now(peer, &arena, &charter, reterr);
    if (!err) {
        charter.council = (struct proto_list){seats, count};
        charter.threshold = proto_charter_threshold(count);
        charter.epoch = council.epoch + 1;
        charter.prev = span_of(council.charter_id, 16);
        err = proto_charter_signed(&charter, &bytes, reterr);
    }
    err = err ? err
              : peer_council_propose(peer, PROTO_RECORD_CHARTER, buf_span(&bytes), ret_id, reterr);
    buf_fini(&bytes);
    arena_fini(&arena);
    return err;
}

struct admission {
    const uint8_t *node;
    bool open;
    uint64_t endorsed, threshold;
};

static enum err look_for_member(void *user, const struct peer_proposal *proposal)
{
    struct admission *admission = user;
    struct arena arena = {0};
    struct proto_member body;
    if (proposal->kind == PROTO_RECORD_MEMBER && proposal->ours &&
        !proto_member_decode(proposal->subject, &arena, &body, NULL) &&
        span_equal(body.node_id, span_of(admission->node, 16))) {
        *admission =
            (struct admission){admission->node, true, proposal->endorsed, proposal->threshold};
    }
    arena_fini(&arena);
    return E_OK;
}

enum err peer_council_admit(struct peer *peer, struct span body, struct err_info *reterr)
{
    struct arena arena = {0};
    struct proto_member member;
    struct peer_member known;
    struct buf subject = {.max = PROTO_RECORD_BODY_MAX};
    uint8_t id[16];
    enum err err = proto_member_decode(body, &arena, &member, reterr);
    struct admission admission = {.node = err ? NULL : member.node_id.ptr};
    err = err ? err : peer_council_each(peer, look_for_member, &admission, reterr);
    if (!err && !admission.open) {
        err = proto_member_signed(&member, &subject, reterr);
        err = err ? err
                  : peer_council_propose(peer, PROTO_RECORD_MEMBER, buf_span(&subject), id, reterr);
        err = err ? err : peer_council_each(peer, look_for_member, &admission, reterr);
    }
    if (!err && !peer_member_by_id(peer, admission.node, &known)) {
        err = proto_err_set(reterr, E_APPROVAL, "the council has to endorse this member: %u of %u",
                            (unsigned)admission.endorsed, (unsigned)admission.threshold);
    }
    buf_fini(&subject);
    arena_fini(&arena);
    return err;
}
