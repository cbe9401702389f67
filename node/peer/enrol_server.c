/* The inviting side. An invitation is OPEN, then (unless its token names the key) WAITING until a person admits the key
 * that came, then ISSUED. ISSUED is on disk, with the certificate, before any answer leaves. */
#include "config.h"
#include "node/peer/council.h"
#include "node/peer/enrol_internal.h"
#include "node/peer/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "crypto/envelope.h"
#include "crypto/random.h"
#include "store/egress.h"
#include "store/job.h"
#include "store/records.h"

#define CONTEXTS      8
#define LINGER_MS     60000 /* a joining node whose answer was lost may ask again */
#define PIPES_KEPT    32
#define SWEEP_MS      5000
#define RATE_PER_S    10
#define JOB_MARK      "concordat-invitation-1"
#define VALID_DEFAULT ((int64_t)86400)

struct saved {
    struct span mark;
    struct span token;
    bool issued;
    struct span point;
    struct span certificate;
};
static const struct proto_field saved_fields[] = {
    PROTO_FIELD(struct saved, mark, PROTO_STR, 1, 64),
    PROTO_FIELD(struct saved, token, PROTO_STR, 1, PEER_TOKEN_TEXT),
    PROTO_FIELD(struct saved, issued, PROTO_BOOL, 0, 0),
    PROTO_FIELD_OPTIONAL(struct saved, point, PROTO_BIN, 65, 65),
    PROTO_FIELD_OPTIONAL(struct saved, certificate, PROTO_BIN, 1, 4096),
};
static const struct proto_message saved_message =
    PROTO_MESSAGE("invitation", struct saved, saved_fields);

struct invitation {
    bool used, issued, came, admitted;
    char text[PEER_TOKEN_TEXT];
    struct peer_token token;
    uint8_t point[65]; /* of the key that came first */
    uint8_t admit[32];
    struct buf certificate;
};

struct enrol_context {
    struct pool_job job;
    struct peer_enrol *enrol;
    struct sp_ctx *ctx;
    struct sp_message *msg; /* being answered */
};

struct peer_enrol {
    struct peer *peer;
    const struct crypto_identity *root;
    struct buf root_der;
    void (*audit)(void *user, const char *kind, const char *text);
    void *user;
    struct crypto_channel_profile *profile;
    pthread_mutex_t lock; /* everything below */
    bool closing;         /* nothing goes to the pool any more */
    struct invitation invitations[PEER_ENROL_PENDING];
    uint32_t pipes[PIPES_KEPT]; /* oldest first */
    size_t pipe_count;
    struct sp_socket *socket;
    struct sp_listener *listener; /* NULL: closed */
    uint64_t linger_until_ms;
    uint64_t rate_second, rate_count;
    struct enrol_context contexts[CONTEXTS];
    struct pool pool; /* one thread */
    uv_timer_t *timer;
};

static void note(struct peer_enrol *e, const char *kind, const char *format, ...) PRINTF_LIKE(3, 4);
static void note(struct peer_enrol *e, const char *kind, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    peer_say(e->peer, strcmp(kind, "enrol.alarm") == 0 ? PEER_LOG_ALARM : PEER_LOG_INFO, "%s: %s",
             kind, text);
    if (e->audit) {
        e->audit(e->user, kind, text);
    }
}

static void key_hash(const uint8_t point[65], uint8_t ret[32])
{
    uint8_t spki[CRYPTO_SPKI_SIZE];
    crypto_identity_spki(point, spki);
    crypto_sha256_one(span_of(spki, sizeof spki), ret);
}

/* --- on disk ------------------------------------------------------------------------------------------------------------------ */

static void job_id(const uint8_t nonce[16], uint8_t ret[16])
{
    uint8_t digest[32];
    struct span parts[] = {span_str(JOB_MARK), span_of(nonce, 16)};
    crypto_sha256(parts, 2, digest);
    memcpy(ret, digest, 16);
}

static enum err save(struct peer_enrol *e, const struct invitation *i, struct err_info *reterr)
{
    uint8_t id[16];
    struct buf bytes = {.max = 8192};
    struct saved saved = {.mark = span_str(JOB_MARK),
                          .token = span_str(i->text),
                          .issued = i->issued,
                          .point = i->issued ? span_of(i->point, 65) : SPAN_NONE,
                          .certificate = i->issued ? buf_span(&i->certificate) : SPAN_NONE};
    job_id(i->token.nonce, id);
    enum err err = proto_codec_encode(&saved_message, &saved, &bytes, reterr);
    err = err ? err : store_job_put(e->peer->store, id, buf_span(&bytes), reterr);
    buf_fini(&bytes);
    return err;
}

static struct invitation *slot(struct peer_enrol *e)
{
    for (size_t i = 0; i < PEER_ENROL_PENDING; i++) {
        if (!e->invitations[i].used) {
            return &e->invitations[i];
        }
    }
    return NULL;
}

static enum err load_one(void *user, const uint8_t id[16], struct span state)
{
    struct peer_enrol *e = user;
    struct arena unused = {0};
    struct saved saved;
    struct peer_token token;
    (void)id;
    if (proto_codec_decode(&saved_message, state, &unused, &saved, NULL) ||
        !span_is(saved.mark, JOB_MARK) ||
        peer_token_decode((const char *)saved.token.ptr, saved.token.len, &token, NULL) ||
        token.expires <= (int64_t)time(NULL)) {
        return E_OK;
    }
    struct invitation *i = slot(e);
    if (i && span_to_cstr(saved.token, i->text, sizeof i->text)) {
        i->used = true;
        i->token = token;
        i->issued = saved.issued && saved.point.len == 65 &&
                    buf_put(&i->certificate, saved.certificate) == E_OK;
        if (i->issued) {
            memcpy(i->point, saved.point.ptr, 65);
        }
    }
    return E_OK;
}

/* --- the listener ---------------------------------------------------------------------------------------------------------------- */

static bool outstanding(const struct peer_enrol *e, int64_t now)
{
    for (size_t i = 0; i < PEER_ENROL_PENDING; i++) {
        const struct invitation *at = &e->invitations[i];
        if (at->used && !at->issued && at->token.expires > now) {
            return true;
        }
    }
    return false;
}

static enum err listen_open(struct peer_enrol *e, struct err_info *reterr)
{
    char host[128], url[192];
    uint16_t port;
    if (e->listener) {
        return E_OK;
    }
    if (!peer_url_split(e->peer->listen, host, &port) || e->peer->port == 0 ||
        e->peer->port == 65535) {
        return proto_err_set(reterr, E_IO, "a node that does not listen cannot invite");
    }
    snprintf(url, sizeof url, "tls+tcp://%s:%u", host, e->peer->port + 1u);
    int rv = sp_listen(e->socket, url, e->profile, NULL, &e->listener, &port);
    if (rv) {
        return proto_err_set(reterr, E_IO, "cannot listen on %s for enrolment: %s", url,
                             nng_strerror(rv));
    }
    return E_OK;
}

static void on_sweep(uv_timer_t *timer)
{
    struct peer_enrol *e = timer->data;
    int64_t now = (int64_t)time(NULL);
    pthread_mutex_lock(&e->lock);
    for (size_t i = 0; i < PEER_ENROL_PENDING; i++) {
        struct invitation *at = &e->invitations[i];
        if (at->used && at->token.expires <= now) {
            buf_fini(&at->certificate);
            *at = (struct invitation){.certificate.max = CRYPTO_CERTIFICATE_MAX};
        }
    }
    struct sp_listener *unused = NULL;
    if (e->listener && !outstanding(e, now) && peer_now_ms() > e->linger_until_ms) {
        unused = e->listener;
        e->listener = NULL;
    }
    pthread_mutex_unlock(&e->lock);
    if (unused) {
        sp_listener_close(unused);
    }
    sp_sweep(e->socket);
}

/* --- answering ---------------------------------------------------------------------------------------------------------------------- */

struct gathering {
    struct peer_enrol *e;
    struct buf *records;
};

static enum err gather(void *user, struct span record, bool forked)
{
    struct gathering *g = user;
    (void)forked;
    (void)!enrol_records_add(g->records, record); /* when full, gossip brings the rest */
    return E_OK;
}

/* Charters and members first, then what needs them. */
static enum err answer(struct peer_enrol *e, const struct invitation *i, struct buf *out,
                       struct err_info *reterr)
{
    static const uint64_t kinds[] = {PROTO_RECORD_CHARTER, PROTO_RECORD_MEMBER, PROTO_RECORD_REVOKE,
                                     PROTO_RECORD_ADDRESS};
    struct buf records = {.max = ENROL_RECORDS_MAX};
    struct gathering g = {e, &records};
    enum err err = E_OK;
    for (size_t k = 0; !err && k < sizeof kinds / sizeof *kinds; k++) {
        err = store_records_each(e->peer->store, kinds[k], gather, &g);
    }
    struct enrol_reply reply = {.v = 1,
                                .certificate = buf_span(&i->certificate),
                                .charter = buf_span(&e->peer->charter),
                                .records = buf_span(&records)};
    err = err ? err : proto_codec_encode(&enrol_reply_message, &reply, out, reterr);
    buf_fini(&records);
    return err;
}

/* The MEMBER record, all of it but the keys from the token that we signed, unless it is one already: the council may have had
 * to sign it, too, or a run before a crash published it. E_APPROVAL while the council has not. */
static enum err admit_member(struct peer_enrol *e, const struct invitation *i,
                             const uint8_t point[65], struct span certificate,
                             struct err_info *reterr)
{
    struct crypto_certificate_info info;
    struct peer_member known;
    uint8_t id[16];
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    crypto_identity_node_id(point, id);
    enum err err = crypto_certificate_parse(certificate, &info, reterr);
    if (!err && !peer_member_by_id(e->peer, id, &known)) {
        struct enrol_names names = {i->token.name,    i->token.org,  i->token.org_type,
                                    i->token.country, i->token.role, point,
                                    info.spki_hash};
        err = enrol_member_body(&names, e->peer->identity, e->peer->federation_id,
                                (int64_t)time(NULL), &body, reterr);
        struct peer_council council;
        peer_directory_council(e->peer->directory, &council);
        err = err                     ? err
              : council.threshold > 1 ? peer_council_admit(e->peer, buf_span(&body), reterr)
                                      : peer_publish(e->peer, PROTO_RECORD_MEMBER, i->token.name,
                                                     buf_span(&body), 0, 0, NULL, reterr);
    }
    buf_fini(&body);
    return err;
}

static enum err publish(struct peer_enrol *e, const struct invitation *i,
                        const struct enrol_request *request, struct err_info *reterr)
{
    struct peer_member known;
    uint8_t id[16];
    crypto_identity_node_id(i->point, id);
    enum err err = admit_member(e, i, i->point, buf_span(&i->certificate), reterr);
    /* Only the first address: a second first version would look like an equivocation. */
    if (!err && peer_member_by_id(e->peer, id, &known) && !known.address[0] &&
        peer_publish_other(e->peer, request->address_record, NULL)) {
        peer_say(e->peer, PEER_LOG_WARN, "the address of %s is not valid", i->token.name);
    }
    return err;
}

static enum err issue(struct peer_enrol *e, struct invitation *i,
                      const struct enrol_request *request, struct err_info *reterr)
{
    uint8_t id[16];
    int64_t now = (int64_t)time(NULL);
    crypto_identity_node_id(request->point.ptr, id);
    i->certificate.len = 0;
    enum err err = crypto_certificate_issue(
        e->root, buf_span(&e->root_der), request->csr, e->peer->federation, i->token.org, id,
        now - ENROL_CLOCK_S, now + ENROL_CERTIFICATE_S, &i->certificate, reterr);
    if (err) {
        return err;
    }
    struct peer_council council;
    peer_directory_council(e->peer->directory, &council);
    if (council.threshold > 1) {
        /* Nothing is given out before the council has signed. */
        err = admit_member(e, i, request->point.ptr, buf_span(&i->certificate), reterr);
        if (err) {
            return err;
        }
    }
    memcpy(i->point, request->point.ptr, 65);
    i->issued = true;
    err = save(e, i, reterr);
    if (err) {
        i->issued = false;
        return err;
    }
    e->linger_until_ms = peer_now_ms() + LINGER_MS;
    char fingerprint[65];
    crypto_identity_fingerprint(i->point, fingerprint);
    note(e, "enrol.join", "%s of %s joined with key %s", i->token.name, i->token.org, fingerprint);
    return E_OK;
}

static struct invitation *find(struct peer_enrol *e, const uint8_t nonce[16])
{
    for (size_t i = 0; i < PEER_ENROL_PENDING; i++) {
        struct invitation *at = &e->invitations[i];
        if (at->used && memcmp(at->token.nonce, nonce, 16) == 0) {
            return at;
        }
    }
    return NULL;
}

static enum err alarmed(struct peer_enrol *e, const struct peer_token *token,
                        const uint8_t point[65], const char *what, struct err_info *reterr)
{
    char fingerprint[65];
    crypto_identity_fingerprint(point, fingerprint);
    note(e, "enrol.alarm", "invitation of %s: %s; it came with key %s", token->name, what,
         fingerprint);
    return proto_err_set(reterr, E_REFUSED, "%s; the inviter has been told", what);
}

/* Which invitation, and whether this key may have it. Lock held. */
static enum err judge(struct peer_enrol *e, const struct enrol_request *request,
                      struct invitation **ret, struct err_info *reterr)
{
    struct peer_token token;
    uint8_t key[32];
    struct buf bytes = {.max = 16384};
    enum err err = peer_token_verify((const char *)request->token.ptr, request->token.len,
                                     crypto_identity_point(e->root), &token, reterr);
    err = err ? err : enrol_signed(request, &bytes);
    if (!err && (crypto_identity_check_point(request->point.ptr) ||
                 crypto_envelope_verify(request->point.ptr, ENROL_DOMAIN, e->peer->federation_id,
                                        buf_span(&bytes), request->signature.ptr))) {
        err = proto_err_set(reterr, E_AUTH, "the request is not signed by its key");
    }
    buf_fini(&bytes);
    if (err) {
        return err;
    }
    if (token.expires <= (int64_t)time(NULL)) {
        return proto_err_set(reterr, E_REFUSED, "the invitation has expired");
    }
    struct invitation *i = find(e, token.nonce);
    if (!i) {
        return alarmed(e, &token, request->point.ptr, "the token is not outstanding", reterr);
    }
    key_hash(request->point.ptr, key);
    if (token.has_key && memcmp(token.key, key, 32) != 0) {
        return alarmed(e, &token, request->point.ptr, "the token is for another key", reterr);
    }
    if ((i->issued || i->came) && memcmp(i->point, request->point.ptr, 65) != 0) {
        return alarmed(e, &token, request->point.ptr, "the token was used with two keys", reterr);
    }
    if (!i->came) {
        char fingerprint[65];
        i->came = true;
        memcpy(i->point, request->point.ptr, 65);
        crypto_identity_fingerprint(i->point, fingerprint);
        note(e, "enrol.knock", "%s of %s came with key %s", token.name, token.org, fingerprint);
    }
    if (!i->issued && !token.has_key && (!i->admitted || memcmp(i->admit, key, 32) != 0)) {
        return proto_err_set(reterr, E_APPROVAL, "a person has to admit this key");
    }
    *ret = i;
    return E_OK;
}

static enum err serve(struct peer_enrol *e, struct span body, struct buf *out, char ret_name[33],
                      struct err_info *reterr)
{
    struct arena unused = {0};
    struct enrol_request request;
    struct invitation *i = NULL;
    enum err err = proto_codec_decode(&enrol_request_message, body, &unused, &request, reterr);
    if (err) {
        return proto_err_set(reterr, E_INVALID, "not an enrolment request");
    }
    pthread_mutex_lock(&e->lock);
    uint64_t second = peer_now_ms() / 1000;
    e->rate_count = second == e->rate_second ? e->rate_count + 1 : 1;
    e->rate_second = second;
    err = e->rate_count > RATE_PER_S ? E_BUSY : judge(e, &request, &i, reterr);
    if (i) {
        memcpy(ret_name, i->token.name, sizeof i->token.name);
    }
    err = err || i->issued ? err : issue(e, i, &request, reterr);
    err = err ? err : publish(e, i, &request, reterr);
    err = err ? err : answer(e, i, out, reterr);
    pthread_mutex_unlock(&e->lock);
    return err;
}

static void on_sent(void *user, int rv, struct sp_message *msg);

static void context_run(struct pool_job *job)
{
    struct enrol_context *c = (struct enrol_context *)job;
    struct span bytes = c->msg->bytes;
    struct peer_frame_request frame;
    struct err_info info = {.text = ""};
    char name[33] = "enrolment"; /* of the listing, until a token says who it is */
    struct buf out = {.max = PEER_MESSAGE_MAX};
    uint8_t head[PEER_FRAME_REPLY_HEAD];
    enum err err = peer_frame_decode_request(bytes, &frame);
    if (!err) {
        err = frame.type == PEER_MSG_ENROL ? serve(c->enrol, frame.body, &out, name, &info)
                                           : E_UNSUPPORTED;
    }
    proto_free(c->msg);
    c->msg = NULL;
    struct peer_frame_reply reply = {.status = err};
    struct span parts[] = {span_of(head, peer_frame_encode_reply(&reply, head)),
                           err ? span_str(info.text) : buf_span(&out)};
    store_egress_count(c->enrol->peer->store, name, "enrol", parts[0].len + parts[1].len);
    sp_ctx_reply(c->ctx, parts, 2, SPAN_NONE, on_sent, c);
    buf_fini(&out);
}

/* NNG's threads; from here the context belongs to the pool until it replies. The pool is put to only under the lock, so that
 * peer_enrol_free() can end it: what comes later is dropped unanswered. */
static void on_request(void *user, int rv, struct sp_message *msg)
{
    struct enrol_context *c = user;
    struct peer_enrol *e = c->enrol;
    if (rv) {
        return; /* the socket stops */
    }
    pthread_mutex_lock(&e->lock);
    bool dropped = e->closing;
    if (!dropped) {
        c->msg = msg;
        c->job.run = context_run;
        pool_put(&e->pool, &c->job);
    }
    pthread_mutex_unlock(&e->lock);
    if (dropped) {
        proto_free(msg);
    }
}

static void on_sent(void *user, int rv, struct sp_message *msg)
{
    struct enrol_context *c = user;
    (void)rv, (void)msg;
    sp_ctx_receive(c->ctx, on_request, c);
}

/* --- what the daemon calls ------------------------------------------------------------------------------------------------------------- */

/* Lock held. Those that gave way are not there any more. */
static void pipe_forget(struct peer_enrol *e, uint32_t pipe)
{
    for (size_t i = 0; i < e->pipe_count; i++) {
        if (e->pipes[i] == pipe) {
            e->pipe_count--;
            memmove(e->pipes + i, e->pipes + i + 1, (e->pipe_count - i) * sizeof *e->pipes);
            return;
        }
    }
}

/* Anybody may connect; the token is what counts. When too many stay, the oldest gives way, as somebody who joins needs a
 * connection for seconds only. */
static bool on_pipe(void *user, const struct sp_identity *who, enum sp_event event)
{
    struct peer_enrol *e = user;
    uint32_t oldest = 0;
    pthread_mutex_lock(&e->lock);
    if (event == SP_ASKED) {
        if (e->pipe_count == PIPES_KEPT) {
            oldest = e->pipes[0];
            pipe_forget(e, oldest);
        }
        e->pipes[e->pipe_count++] = who->pipe;
    } else if (event == SP_DOWN) {
        pipe_forget(e, who->pipe);
    }
    pthread_mutex_unlock(&e->lock);
    if (oldest) {
        sp_pipe_close(oldest);
    }
    return true;
}

static enum err sockets_open(struct peer_enrol *e)
{
    enum err err = sp_open(SP_REP, 32768, on_pipe, e, &e->socket);
    err = err ? err : pool_start(&e->pool, 1);
    for (size_t i = 0; !err && i < CONTEXTS; i++) {
        struct enrol_context *c = &e->contexts[i];
        c->enrol = e;
        err = sp_ctx_open(e->socket, &c->ctx);
        if (!err) {
            sp_ctx_receive(c->ctx, on_request, c);
        }
    }
    return err;
}

enum err peer_enrol_new(struct peer *peer, const struct peer_enrol_options *options,
                        struct peer_enrol **ret, struct err_info *reterr)
{
    enum err err = peer_council_seated(peer)
                       ? E_OK
                       : proto_err_set(reterr, E_ROLE, "this node has no seat in the council");
    struct peer_enrol *e = err ? NULL : proto_alloc(1, sizeof *e);
    if (!e || pthread_mutex_init(&e->lock, NULL)) {
        proto_free(e);
        return err ? err : E_NO_MEMORY;
    }
    e->peer = peer;
    e->root = options->root;
    e->audit = options->audit;
    e->user = options->user;
    e->root_der.max = CRYPTO_CERTIFICATE_MAX;
    for (size_t i = 0; i < PEER_ENROL_PENDING; i++) {
        e->invitations[i].certificate.max = CRYPTO_CERTIFICATE_MAX;
    }
    err = buf_put(&e->root_der, options->root_der);
    err = err ? err
              : crypto_channel_profile_new(CRYPTO_CHANNEL_ENROL_SERVER, peer->tls_key,
                                           buf_span(&peer->certificate), options->root_der,
                                           peer->federation, NULL, NULL, NULL, &e->profile, reterr);
    err = err ? err : sockets_open(e);
    err = err ? err : store_job_each(peer->store, load_one, e, reterr);
    e->timer = err ? NULL : proto_alloc(1, sizeof *e->timer);
    if (!err && e->timer) {
        e->timer->data = e;
        uv_timer_init(peer->loop, e->timer);
        uv_unref((uv_handle_t *)e->timer);
        uv_timer_start(e->timer, on_sweep, SWEEP_MS, SWEEP_MS);
        if (outstanding(e, (int64_t)time(NULL)) && peer->port) {
            err = listen_open(e, reterr);
        }
    } else if (!err) {
        err = E_NO_MEMORY;
    }
    if (err) {
        peer_enrol_free(e);
        return err;
    }
    *ret = e;
    return E_OK;
}

static void on_timer_closed(uv_handle_t *handle)
{
    proto_free(handle);
}

void peer_enrol_free(struct peer_enrol *e)
{
    if (!e) {
        return;
    }
    if (e->timer) {
        uv_timer_stop(e->timer);
        uv_close((uv_handle_t *)e->timer, on_timer_closed);
    }
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    pthread_mutex_unlock(&e->lock);
    pool_stop(&e->pool); /* answers what it has */
    sp_close(e->socket);
    for (size_t i = 0; i < PEER_ENROL_PENDING; i++) {
        buf_fini(&e->invitations[i].certificate);
    }
    crypto_channel_profile_free(e->profile);
    buf_fini(&e->root_der);
    pthread_mutex_destroy(&e->lock);
    proto_free(e);
}

/* HOST, HOST:PORT or NULL, to the URL of the enrolment listener as others reach it. */
static bool invite_address(const struct peer_enrol *e, const char *address, char to[128])
{
    char host[128];
    uint16_t port;
    int n;
    if (address && strstr(address, "://")) {
        n = snprintf(to, 128, "%s", address);
    } else if (address && strchr(address, ':')) {
        n = snprintf(to, 128, "tls+tcp://%s", address);
    } else if (address) {
        n = snprintf(to, 128, "tls+tcp://%s:%u", address, e->peer->port + 1u);
    } else if (peer_url_split(e->peer->listen, host, &port)) {
        n = snprintf(to, 128, "tls+tcp://%s:%u", host, e->peer->port + 1u);
    } else {
        return false;
    }
    return n > 0 && n < 128 && peer_url_split(to, host, &port);
}

/* What the council attests about the organisation: as the inviter says, never as the requester does. */
static enum err token_attest(const struct peer_enrol *e, const struct peer_enrol_invitation *in,
                             struct peer_token *token, struct err_info *reterr)
{
    struct peer_member self = {.country = ""};
    const char *org_type = in->org_type ? in->org_type : "nonprofit";
    (void)peer_member_by_id(e->peer, e->peer->node_id, &self);
    const char *country = in->country ? in->country : self.country;
    if (strcmp(org_type, "nonprofit") != 0 && strcmp(org_type, "forprofit") != 0 &&
        strcmp(org_type, "government") != 0) {
        return proto_err_set(reterr, E_INVALID,
                             "an organisation's type is nonprofit, forprofit or government");
    }
    if (strlen(country) != 2 || strspn(country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 2) {
        return proto_err_set(reterr, E_INVALID, "a country has two capital letters, as DE");
    }
    snprintf(token->org_type, sizeof token->org_type, "%s", org_type);
    snprintf(token->country, sizeof token->country, "%s", country);
    return E_OK;
}

static enum err token_make(const struct peer_enrol *e, const struct peer_enrol_invitation *in,
                           struct peer_token *token, struct err_info *reterr)
{
    struct peer_member taken;
    const char *role = in->role ? in->role : "node";
    int64_t valid = in->valid_s > 0 ? in->valid_s : VALID_DEFAULT;
    *token = (struct peer_token){.expires = (int64_t)time(NULL) + valid};
    if (!in->name || !proto_name_valid(span_str(in->name))) {
        return proto_err_set(reterr, E_INVALID, "a node's name has 1 to 32 of a-z, 0-9 and '-'");
    }
    if (!in->org || !*in->org || strlen(in->org) >= sizeof token->org ||
        strlen(role) >= sizeof token->role) {
        return proto_err_set(reterr, E_INVALID, "the organisation or the role is not valid");
    }
    enum err err = token_attest(e, in, token, reterr);
    if (err) {
        return err;
    }
    if (peer_member_by_name(e->peer, in->name, &taken)) {
        return proto_err_set(reterr, E_EXISTS, "%s is a member already", in->name);
    }
    if (!invite_address(e, in->address, token->address)) {
        return proto_err_set(reterr, E_INVALID, "the address is not HOST or HOST:PORT");
    }
    token->has_key = in->key_fingerprint != NULL;
    if (token->has_key && (strlen(in->key_fingerprint) != 64 ||
                           !span_from_hex(in->key_fingerprint, token->key, 32))) {
        return proto_err_set(reterr, E_INVALID, "a key's fingerprint has 64 hexadecimal digits");
    }
    snprintf(token->federation, sizeof token->federation, "%s", e->peer->federation);
    snprintf(token->name, sizeof token->name, "%s", in->name);
    snprintf(token->org, sizeof token->org, "%s", in->org);
    snprintf(token->role, sizeof token->role, "%s", role);
    memcpy(token->federation_id, e->peer->federation_id, 16);
    key_hash(crypto_identity_point(e->root), token->root_pin);
    return crypto_random(token->nonce, sizeof token->nonce);
}

enum err peer_enrol_invite(struct peer_enrol *e, const struct peer_enrol_invitation *invitation,
                           char *text, size_t cap, struct err_info *reterr)
{
    struct peer_token token;
    enum err err = token_make(e, invitation, &token, reterr);
    err = err ? err : peer_token_encode(&token, e->root, text, cap, reterr);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&e->lock);
    struct invitation *i = slot(e);
    if (!i || strlen(text) >= sizeof i->text) {
        err = proto_err_set(reterr, E_LIMIT, "too many invitations are outstanding");
    } else {
        err = listen_open(e, reterr);
    }
    if (!err) {
        i->token = token;
        memcpy(i->text, text, strlen(text) + 1);
        err = save(e, i, reterr);
        i->used = !err;
    }
    pthread_mutex_unlock(&e->lock);
    if (!err) {
        note(e, "enrol.invite", "%s of %s (%s, %s) as %s", token.name, token.org, token.org_type,
             token.country, token.role);
    }
    return err;
}

enum err peer_enrol_admit(struct peer_enrol *e, const char *name, const char *key_fingerprint,
                          struct err_info *reterr)
{
    uint8_t key[32], waiting[32];
    enum err err = proto_err_set(reterr, E_NOT_FOUND, "nobody waits under the name %s", name);
    if (!key_fingerprint || strlen(key_fingerprint) != 64 ||
        !span_from_hex(key_fingerprint, key, 32)) {
        return proto_err_set(reterr, E_INVALID, "a key's fingerprint has 64 hexadecimal digits");
    }
    pthread_mutex_lock(&e->lock);
    for (size_t n = 0; n < PEER_ENROL_PENDING && err; n++) {
        struct invitation *i = &e->invitations[n];
        if (!i->used || i->issued || !i->came || strcmp(i->token.name, name) != 0) {
            continue;
        }
        key_hash(i->point, waiting);
        if (memcmp(waiting, key, 32) != 0) {
            err = proto_err_set(reterr, E_AUTH, "another key waits under the name %s", name);
            continue;
        }
        i->admitted = true;
        memcpy(i->admit, key, 32);
        err = E_OK;
    }
    pthread_mutex_unlock(&e->lock);
    if (!err) {
        note(e, "enrol.admit", "%s with key %s", name, key_fingerprint);
    } else if (err == E_AUTH) {
        note(e, "enrol.alarm", "%s: the admitted key is not the one that came", name);
    }
    return err;
}

size_t peer_enrol_list(struct peer_enrol *e, struct peer_enrol_pending *to, size_t cap)
{
    size_t count = 0;
    pthread_mutex_lock(&e->lock);
    for (size_t n = 0; n < PEER_ENROL_PENDING; n++) {
        const struct invitation *i = &e->invitations[n];
        if (!i->used || i->issued) {
            continue;
        }
        if (count < cap) {
            to[count] = (struct peer_enrol_pending){.expires = i->token.expires};
            memcpy(to[count].name, i->token.name, sizeof to[count].name);
            memcpy(to[count].org, i->token.org, sizeof to[count].org);
            if (i->came) {
                crypto_identity_fingerprint(i->point, to[count].fingerprint);
            }
        }
        count++;
    }
    pthread_mutex_unlock(&e->lock);
    return count;
}
