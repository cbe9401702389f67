/* Is our state the newest that anybody has seen of us? Before a node serves it asks the others for the highest audit head
 * that we signed; only our own signature counts, so no peer can invent one. Heads are answered before a node serves, so
 * that all may start at once. */
#include "config.h"
#include "node/daemon/start.h"

#include "node/config/home.h"
#include "node/daemon/log.h"
#include "node/query/site.h"
#include "store/backup.h"
#include "store/witness.h"

#include <stdlib.h>
#include <unistd.h>

#define ASK_DEADLINE_MS 2000

/* Body of a PEER_MSG_HEAD request: the asking node's own newest head, or nothing when it has none yet. The reply is the
 * highest head of the asking node that we hold (or nothing), followed by our signature on the one it showed. */
void daemon_head_handle(struct peer_request *request, void *user)
{
    struct node *node = user;
    struct store_audit_head held;
    struct store_audit_head shown;
    struct peer_member member;
    uint8_t reply[STORE_AUDIT_HEAD_SIZE + 64] = {0};
    struct span body = peer_request_body(request);
    const uint8_t *from = peer_request_from(request);
    bool has_shown =
        body.len == STORE_AUDIT_HEAD_SIZE && store_audit_head_decode(body, &shown) == E_OK;
    if (body.len && (!has_shown || memcmp(shown.node_id, from, 16) != 0 ||
                     !peer_member_by_id(node->peer, from, &member))) {
        peer_reply(request, E_INVALID, SPAN_NONE);
        return;
    }
    enum err err = store_witness_get(&node->store, from, &held, NULL);
    if (err == E_OK) {
        store_audit_head_encode(&held, reply);
    }
    if (has_shown) {
        struct err_info info = {0};
        enum err put = store_witness_put(&node->store, &shown, member.point, &info);
        if (put == E_FORKED) {
            daemon_log(DAEMON_ERROR, "witness.forked", "%s shows two histories of its audit chain",
                       member.name);
        }
        if ((put == E_OK || put == E_EXISTS) &&
            store_witness_sign(&node->store, &shown, reply + STORE_AUDIT_HEAD_SIZE)) {
            memset(reply + STORE_AUDIT_HEAD_SIZE, 0, 64);
        }
    }
    peer_reply(request, E_OK, span_of(reply, sizeof reply));
}

struct round {
    struct peer_member *members;
    struct peer_call *calls;
    size_t count;
    uint8_t body[STORE_AUDIT_HEAD_SIZE];
    size_t body_len;
};

static bool is_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

/* Signed by us, as store_witness_compare found. */
static void note_witnessed(struct node *node, const struct store_audit_head *shown)
{
    pthread_mutex_lock(&node->config_lock);
    if (!node->has_witnessed || shown->seq > node->witnessed.seq) {
        node->witnessed = *shown;
        node->has_witnessed = true;
    }
    pthread_mutex_unlock(&node->config_lock);
}

static enum err read_reply(struct node *node, const struct round *round, size_t i,
                           struct err_info *reterr)
{
    struct store_audit_head shown;
    struct store_audit_head ours;
    struct span reply = round->calls[i].reply.bytes;
    if (reply.len != STORE_AUDIT_HEAD_SIZE + 64) {
        return E_INVALID;
    }
    enum err err = E_OK;
    if (!is_zero(reply.ptr, STORE_AUDIT_HEAD_SIZE)) {
        err = store_audit_head_decode(span_of(reply.ptr, STORE_AUDIT_HEAD_SIZE), &shown);
        err = err ? err : store_witness_compare(&node->store, &shown, reterr);
        if (err == E_OK || err == E_ROLLBACK) {
            note_witnessed(node, &shown);
        }
    }
    const uint8_t *signature = reply.ptr + STORE_AUDIT_HEAD_SIZE;
    if (!err && round->body_len && !is_zero(signature, 64) &&
        store_audit_head_decode(span_of(round->body, round->body_len), &ours) == E_OK) {
        enum err kept = store_witness_endorse(&node->store, round->members[i].id,
                                              round->members[i].point, &ours, signature, NULL);
        if (kept && kept != E_EXISTS) {
            daemon_log(DAEMON_WARN, "witness", "%s: its signature on our head does not fit",
                       round->members[i].name);
        }
    }
    return err;
}

/* Institutions other than ours among all members, and among those that answered. */
static size_t institutions(const struct node *node, const struct round *round, bool answered)
{
    size_t found = 0;
    for (size_t i = 0; i < round->count; i++) {
        bool counts = (!answered || round->calls[i].status == E_OK) &&
                      strcmp(round->members[i].org, node->config.org) != 0;
        for (size_t j = 0; j < i && counts; j++) {
            counts = (answered && round->calls[j].status != E_OK) ||
                     strcmp(round->members[j].org, round->members[i].org) != 0;
        }
        found += counts;
    }
    return found;
}

static enum err ask_all(struct node *node, struct round *round)
{
    struct store_audit_head head;
    size_t count = peer_members(node->peer, round->members, PEER_MEMBERS_MAX);
    count = count < PEER_MEMBERS_MAX ? count : PEER_MEMBERS_MAX;
    if (store_audit_head(&node->store, &head) == E_OK) {
        store_audit_head_encode(&head, round->body);
        round->body_len = sizeof round->body;
    }
    for (size_t i = 0; i < count; i++) {
        if (round->members[i].state == PEER_SELF || round->members[i].state == PEER_REVOKED) {
            continue;
        }
        round->members[round->count] = round->members[i];
        struct peer_call *call = &round->calls[round->count++];
        memcpy(call->to, round->members[i].id, 16);
        call->type = PEER_MSG_HEAD;
        call->body = span_of(round->body, round->body_len);
    }
    return round->count
               ? peer_call_many(node->peer, round->calls, round->count, ASK_DEADLINE_MS, NULL, NULL)
               : E_OK;
}

static void end_restore(struct node *node)
{
    static const char body[] = "{\"by\":\"witnesses\"}";
    struct err_info info = {0};
    char marker[HOME_PATH_MAX];
    if (store_audit_append(&node->store, "restore.confirmed", span_str(body), query_now(), &info) ||
        !config_home_path(node->home, STORE_RESTORED, marker)) {
        daemon_log(DAEMON_ERROR, "restored", "%s", info.text);
        return;
    }
    (void)unlink(marker); /* if it stays, the next start asks again */
    node->restored = false;
}

enum err daemon_confirm(struct node *node, struct err_info *reterr)
{
    struct round *round = proto_alloc(1, sizeof *round);
    enum err err = round ? E_OK : E_NO_MEMORY;
    if (!err) {
        round->members = proto_alloc(PEER_MEMBERS_MAX, sizeof *round->members);
        round->calls = proto_alloc(PEER_MEMBERS_MAX, sizeof *round->calls);
        err = round->members && round->calls ? ask_all(node, round) : E_NO_MEMORY;
    }
    /* All replies are read, also behind one that is newer than we are: the highest head tells what is missing. */
    for (size_t i = 0, count = err ? 0 : round->count; i < count; i++) {
        if (round->calls[i].status == E_OK) {
            enum err read = read_reply(node, round, i, err ? NULL : reterr);
            if (read == E_ROLLBACK) {
                err = read;
            } else if (read) {
                round->calls[i].status =
                    read; /* a head that we never signed, say: it counts as not answered */
            }
        }
    }
    if (!err) {
        size_t known = institutions(node, round, false);
        size_t answered = institutions(node, round, true);
        bool first = round->body_len == 0;
        bool confirmed = answered >= (known < 2 ? known : 2);
        if (node->restored && confirmed && known > 0) {
            end_restore(node); /* whoever can know holds nothing newer */
        }
        bool serves = !node->restored && (first || confirmed);
        if (serves && !node->ready && daemon_budgets(node, reterr)) {
            daemon_log(DAEMON_ERROR, "budget", "%s: this node does not serve until node.yaml fits",
                       reterr ? reterr->text : "the budgets");
            serves = false;
        }
        node->ready = node->ready || serves;
    }
    for (size_t i = 0; round && round->calls && i < round->count; i++) {
        peer_reply_fini(&round->calls[i].reply);
    }
    if (round) {
        proto_free(round->members);
        proto_free(round->calls);
    }
    proto_free(round);
    return err;
}
