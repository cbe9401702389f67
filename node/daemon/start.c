#include "config.h"
#include "node/daemon/start.h"

#include "node/config/home.h"
#include "node/config/unlock.h"
#include "node/config/yaml.h"
#include "node/control/dispatch.h"
#include "node/control/server.h"
#include "node/daemon/log.h"
#include "node/daemon/notify.h"
#include "node/query/agreement.h"
#include "node/query/site.h"
#include "node/train/statement.h"
#include "node/query/damage.h"
#include "node/query/known.h"
#include "node/query/witness.h"
#include "node/train/trainer.h"
#include "crypto/certificate.h"
#include "store/audit.h"
#include "store/backup.h"
#include "store/file.h"
#include "store/records.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES ((size_t)4 << 20)

static enum err read_home_file(const struct node *node, const char *name, struct buf *to,
                               struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    if (!config_home_path(node->home, name, path)) {
        return proto_err_set(reterr, E_INVALID, "the home's path is too long");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", path,
                             strerror(errno));
    }
    to->max = FILE_MAX_BYTES;
    enum err err;
    ssize_t got = 0;
    do {
        to->len += (size_t)got;
        err = buf_reserve(to, 4096);
        got = err ? -1 : read(fd, to->ptr + to->len, to->cap - to->len);
    } while (got > 0);
    close(fd);
    return got == 0 ? E_OK : proto_err_set(reterr, err ? err : E_IO, "%s: cannot be read", path);
}

static enum err open_keyring(struct node *node, struct err_info *reterr)
{
    char keyring[HOME_PATH_MAX];
    struct config_unlock unlock;
    char asked[CONFIG_UNLOCK_SECRET_MAX + 1];
    char *environment = getenv("CONCORDAT_PASSPHRASE");
    struct span secret = config_unlock_secret(node->config.unlock, false, asked);
    if (strcmp(node->config.unlock, "passphrase") == 0 && secret.len == 0) {
        return proto_err_set(
            reterr, E_AUTH,
            "unlock: passphrase needs CONCORDAT_PASSPHRASE in the daemon's environment");
    }
    enum err err = config_home_path(node->home, HOME_KEYRING, keyring)
                       ? E_OK
                       : proto_err_set(reterr, E_INVALID, "the home's path is too long");
    err = err ? err : config_unlock_read(node->home, node->config.unlock, secret, &unlock, reterr);
    err = err ? err : crypto_keyring_open(keyring, &unlock.how, &node->keyring, reterr);
    crypto_wipe(asked, sizeof asked);
    if (environment) {
        crypto_wipe(environment, strlen(environment)); /* it is readable in /proc */
    }
    unsetenv("CONCORDAT_PASSPHRASE");
    return err;
}

static enum err load_key(struct node *node, const struct crypto_key *dek, const char *name,
                         struct crypto_identity **ret, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    return config_home_path(node->home, name, path) ? crypto_identity_load(path, dek, ret, reterr)
                                                    : E_INVALID;
}

static enum err load_keys(struct node *node, struct err_info *reterr)
{
    const struct crypto_key *dek;
    enum err err = crypto_keyring_get(node->keyring, HOME_KEYRING_NAME, &dek);
    if (err) {
        return proto_err_set(reterr, E_CORRUPT, "the keyring holds no identity key");
    }
    err = load_key(node, dek, HOME_IDENTITY_KEY, &node->identity, reterr);
    if (!err) {
        err = load_key(node, dek, HOME_TLS_KEY, &node->tls_key, reterr);
    }
    if (!err) {
        err = load_key(node, dek, HOME_ROOT_KEY, &node->root, NULL);
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    return err;
}

/* Records that came with the enrolment: known ones and older ones are no news. */
static enum err take_records(struct node *node, const char *name, bool framed,
                             struct err_info *reterr)
{
    struct buf file = {0};
    enum err err = read_home_file(node, name, &file, NULL);
    if (err == E_NOT_FOUND && framed) {
        return E_OK;
    }
    size_t at = 0;
    while (!err && at < file.len) {
        struct span record = buf_span(&file);
        if (framed) {
            if (file.len - at < 4 || get_be32(file.ptr + at) > file.len - at - 4) {
                err = proto_err_set(reterr, E_CORRUPT, "%s/%s is cut", node->home, name);
                break;
            }
            record = span_of(file.ptr + at + 4, get_be32(file.ptr + at));
        }
        at += record.len + (framed ? 4 : 0);
        err = store_records_put(&node->store, record, reterr);
        err = err == E_EXISTS ? E_OK : err;
    }
    buf_fini(&file);
    return err;
}

static void adopt(struct node *node)
{
    struct query_context *query = &node->query;
    snprintf(query->name, sizeof query->name, "%s", node->config.node);
    query->commercial_known = node->config.has_commercial;
    query->commercial = node->config.commercial;
    query->shares =
        (struct query_shares){(uint64_t)llround(node->config.shares.institution * QUERY_SHARE_ALL),
                              (uint64_t)llround(node->config.shares.person * QUERY_SHARE_ALL),
                              (uint64_t)llround(node->config.shares.project * QUERY_SHARE_ALL)};
    query->release_tick_ms = node->config.release_tick_ms;
    query->methods_on_ds_denied = node->config.methods_on_ds_denied;
    query->timeout_ms = node->config.limits.query_timeout_ms;
    query->scan_limit_ms = node->config.limits.scan_limit_ms;
    query->training_cores = (unsigned)node->config.training.cores;
    query->training_from = query->training_to = 0;
    if (node->config.training.hours[0]) {
        (void)!config_hours(node->config.training.hours, &query->training_from,
                            &query->training_to);
    }
    query->approval_pending_s = (int64_t)(node->config.approvals.pending_ms / 1000);
    query->approval_valid_s = (int64_t)(node->config.approvals.valid_ms / 1000);
    static const enum daemon_level levels[] = {DAEMON_ERROR, DAEMON_WARN, DAEMON_INFO,
                                               DAEMON_DEBUG};
    daemon_log_level(levels[node->config.log_level & 3]);
    daemon_log_node(node->config.node);
}

static enum err identify(struct node *node, struct err_info *reterr)
{
    struct buf certificate = {0};
    struct buf root = {0};
    struct crypto_certificate_info info;
    enum err err = read_home_file(node, HOME_CERTIFICATE, &certificate, reterr);
    if (!err) {
        err = read_home_file(node, HOME_ROOT, &root, reterr);
    }
    if (!err) {
        err = crypto_certificate_verify(buf_span(&certificate), buf_span(&root), query_now(), &info,
                                        reterr);
        if (err) {
            proto_err_frame(reterr, "checking %s/%s", node->home, HOME_CERTIFICATE);
        }
    }
    if (!err) {
        uint8_t point[65];
        err = crypto_certificate_point(buf_span(&root), point);
        crypto_identity_node_id(point, node->query.federation_id);
        memcpy(node->query.node_id, info.node_id, 16);
        snprintf(node->federation, sizeof node->federation, "%s", info.federation);
    }
    buf_fini(&certificate);
    buf_fini(&root);
    return err;
}

static void log_event(void *user, int level, const char *event, const char *detail)
{
    (void)user;
    static const enum daemon_level levels[] = {DAEMON_DEBUG, DAEMON_INFO, DAEMON_WARN,
                                               DAEMON_ERROR};
    daemon_log(levels[level & 3], event, "%s", detail);
}

/* The hierarchy of diseases that licences are decided with. A file that cannot be read stops the start: a node that forgot
 * it would answer differently from what its operator set up. */
static enum err load_ontology(struct node *node, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    const char *name = node->config.ontology;
    struct buf file = {.max = PROTO_ONTOLOGY_FILE_MAX};
    enum err err = E_OK;
    if (strcmp(name, "none") == 0) {
        return E_OK;
    }
    if (!name[0]) {
        err = proto_ontology_parse(proto_ontology_shipped(), &crypto_proto_hash, &node->ontology,
                                   reterr);
        node->query.ontology = err ? NULL : &node->ontology;
        return err;
    }
    if (name[0] == '/') {
        snprintf(path, sizeof path, "%s", name);
    } else if (!config_home_path(node->home, name, path)) {
        err = proto_err_set(reterr, E_INVALID, "the path is too long");
    }
    err = err ? err : store_file_read(path, &file, reterr);
    err = err ? err
              : proto_ontology_parse(buf_span(&file), &crypto_proto_hash, &node->ontology, reterr);
    if (err) {
        proto_err_frame(reterr, "reading the ontology %s that node.yaml names", name);
    } else {
        node->query.ontology = &node->ontology;
    }
    buf_fini(&file);
    return err;
}

static void notify_person(void *user, const char *event, const char *id)
{
    const struct node *node = user;
    daemon_notify(node->notifier, event, id);
}

static bool refusing(void *user)
{
    const struct node *node = user;
    return node->stopping || !node->ready;
}

/* Whether they can run is known before somebody asks; a job that names one is refused otherwise. */
static void tell_of_trainers(const struct node *node)
{
    struct train_trainer_result cell;
    struct err_info info = {0};
    if (node->query.trainer_count == 0) {
        return;
    }
    enum err err = train_trainer_probe(&cell, &info);
    if (err) {
        daemon_log(DAEMON_ERROR, "trainer.cell", "external trainers will be refused: %s",
                   info.text[0] ? info.text : proto_err_text(err));
    } else {
        daemon_log(
            DAEMON_INFO, "trainer.cell",
            "external trainers: no sockets and no processes (seccomp), files by Landlock %llu, "
            "resource limits, %s",
            (unsigned long long)cell.landlock,
            cell.namespaces ? "namespaces of their own"
                            : "no namespaces (the system forbids them)");
    }
    train_trainer_result_fini(&cell);
}

enum err daemon_open(struct node *node, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    if (!config_home_path(node->home, HOME_CONFIG, path)) {
        return proto_err_set(reterr, E_INVALID, "the home's path is too long");
    }
    pthread_mutex_init(&node->config_lock, NULL);
    enum err err = config_yaml_node(path, &node->config, reterr);
    if (err) {
        return err;
    }
    adopt(node);
    /* A copy that no reload replaces: rounds read it while they run. */
    err = config_yaml_node(path, &node->at_start, reterr);
    node->query.trainers = node->at_start.trainers;
    node->query.trainer_count = node->at_start.trainer_count;
    err = err ? err : load_ontology(node, reterr);
    tell_of_trainers(node);
    if (!err) {
        err = open_keyring(node, reterr);
    }
    if (!err) {
        err = load_keys(node, reterr);
    }
    if (!err) {
        err = identify(node, reterr);
    }
    if (!err) {
        err = store_open(node->home, node->keyring, node->query.node_id, &node->store, reterr);
    }
    if (!err) {
        err = store_identity(&node->store, node->identity, node->query.federation_id, NULL, reterr);
    }
    if (!err) {
        err = query_clock_begin(&node->store, reterr);
    }
    if (!err && config_home_path(node->home, STORE_RESTORED, path) && access(path, F_OK) == 0) {
        node->restored = true;
        daemon_log(DAEMON_WARN, "restored",
                   "this home came out of a backup; it serves when its witnesses or an operator "
                   "confirm it");
    }
    if (!err) {
        err = take_records(node, HOME_CHARTER, false, reterr);
    }
    if (!err) {
        err = take_records(node, HOME_RECORDS, true, reterr);
    }
    if (!err) {
        err = privacy_pool_new(&node->query.noise);
    }
    return err;
}

static void peer_event(void *user, enum peer_log level, const char *text)
{
    log_event(user, (int)level, "peer", text);
}

static void enrol_event(void *user, const char *kind, const char *text)
{
    struct node *node = user;
    struct err_info info = {0};
    char body[600];
    /* TEXT is ours: names and fingerprints, without quotes. */
    snprintf(body, sizeof body, "{\"text\":\"%.500s\"}", text);
    daemon_log(strcmp(kind, "enrol.alarm") == 0 ? DAEMON_ERROR : DAEMON_INFO, kind, "%s", text);
    if (store_audit_append(&node->store, kind, span_str(body), query_now(), &info)) {
        daemon_log(DAEMON_ERROR, "audit", "%s", info.text);
    }
}

static enum err make_peer(struct node *node, struct buf *certificate, struct buf *root,
                          struct err_info *reterr)
{
    char charter[HOME_PATH_MAX];
    enum err err = read_home_file(node, HOME_CERTIFICATE, certificate, reterr);
    if (!err) {
        err = read_home_file(node, HOME_ROOT, root, reterr);
    }
    if (err || !config_home_path(node->home, HOME_CHARTER, charter)) {
        return err ? err : E_INVALID;
    }
    struct peer_options options = {
        .loop = node->loop,
        .store = &node->store,
        .identity = node->identity,
        .tls_key = node->tls_key,
        .certificate = buf_span(certificate),
        .root = buf_span(root),
        .federation = node->federation,
        .listen = node->config.listen,
        .seeds = node->config.seeds.items,
        .seed_count = node->config.seeds.count,
        .charter_path = charter,
        .limits = {.handler_threads = 32,
                   .rate_per_s = (uint32_t)node->config.limits.requests_per_second,
                   .burst = (uint32_t)node->config.limits.requests_per_second * 2},
        .log = peer_event,
        .log_user = node,
    };
    memcpy(options.federation_id, node->query.federation_id, 16);
    memcpy(options.node_id, node->query.node_id, 16);
    err = peer_new(&options, &node->peer, reterr);
    if (!err && node->root) {
        struct peer_enrol_options enrol = {
            .root = node->root, .root_der = buf_span(root), .audit = enrol_event, .user = node};
        err = peer_enrol_new(node->peer, &enrol, &node->enrol, reterr);
    }
    return err;
}

/* What may no longer go on because of this record: questions under our own licence, training with a site that withdrew. */
static void act_on_change(struct node *node, const struct proto_record *record, bool forked)
{
    const struct proto_envelope *envelope = &record->envelope;
    bool ended = forked || (envelope->flags & PROTO_RECORD_FINAL);
    if (envelope->kind == PROTO_RECORD_LICENCE &&
        memcmp(envelope->issuer.ptr, node->query.node_id, 16) == 0) {
        node->query.licence_changes++;
    }
    if (envelope->kind == PROTO_RECORD_VISA) {
        node->query.licence_changes++; /* a question under way may have stood on it */
    }
    if (envelope->kind == PROTO_RECORD_LICENCE && ended) {
        train_withdrawn(node->train, envelope->issuer.ptr, envelope->key.ptr);
    }
    if (envelope->kind == PROTO_RECORD_REVOKE) {
        struct arena arena = {0};
        struct proto_revoke revoke;
        if (proto_revoke_decode(envelope->body, &arena, &revoke, NULL) == E_OK) {
            train_withdrawn(node->train, revoke.issuer.ptr, revoke.key.ptr);
        }
        arena_fini(&arena);
    }
}

static void on_record(void *user, struct span record, bool forked)
{
    struct node *node = user;
    struct proto_record decoded;
    if (proto_record_decode(record, &crypto_proto_hash, &decoded, NULL)) {
        return;
    }
    act_on_change(node, &decoded, forked);
    if (decoded.envelope.kind == PROTO_RECORD_ENDORSE) {
        node->council_news = true;
    }
    if (forked) {
        char issuer[33];
        span_to_hex(decoded.envelope.issuer, issuer);
        daemon_log(DAEMON_ERROR, "equivocation", "%s signed two versions of one %s record", issuer,
                   proto_record_kind_name(decoded.envelope.kind));
        notify_person(node, "record.forked", issuer);
    }
}

/* Others dial what our newest ADDRESS record says, so a changed listen or advertise has to be told before it helps. */
static enum err publish_address(struct node *node, struct err_info *reterr)
{
    const struct config_node *config = &node->config;
    const char *url = config->advertise[0] ? config->advertise : config->listen;
    struct peer_member self;
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    uint8_t id[16];
    if (!peer_member_by_id(node->peer, node->query.node_id, &self) ||
        strcmp(self.address, url) == 0) {
        return E_OK;
    }
    if (strlen(url) >= sizeof self.address) {
        return proto_err_set(reterr, E_INVALID,
                             "node.yaml: advertise is longer than %zu characters",
                             sizeof self.address - 1);
    }
    struct proto_address address = {
        .v = PROTO_BODY_VERSION, .url = span_str(url), .reverse = strcmp(url, "none") == 0};
    enum err err = proto_address_encode(&address, &body, reterr);
    if (!err) {
        err = peer_publish(node->peer, PROTO_RECORD_ADDRESS, "address", buf_span(&body), 0, 0, id,
                           reterr);
    }
    if (!err) {
        daemon_log(DAEMON_INFO, "address", "others reach this node at %s from now on, not at %s",
                   url, self.address);
    }
    buf_fini(&body);
    return err;
}

enum err daemon_connect(struct node *node, struct err_info *reterr)
{
    struct buf certificate = {0};
    struct buf root = {0};
    enum err err = make_peer(node, &certificate, &root, reterr);
    buf_fini(&certificate);
    buf_fini(&root);
    if (err) {
        return err;
    }
    struct query_context *query = &node->query;
    query->store = &node->store;
    query->peer = node->peer;
    query->identity = node->identity;
    query->refusing = refusing;
    query->log = log_event;
    query->notify = notify_person;
    query->user = node;
    err = daemon_notifier_new(node, &node->notifier);
    err = err ? err : query_agreement_open(query, reterr);
    err = err ? err : query_witnesses_new(query, &query->witnesses);
    query->damage = query_damage_new(); /* without it a dataset's own view says nothing of damage */
    query->known = query_known_new();   /* without it each record is decoded anew */
    err = err ? err : train_service_new(query, &node->train, reterr);
    if (err) {
        return err;
    }
    peer_handle(node->peer, PEER_MSG_QUERY, 0, query_site_handle, query);
    peer_handle(node->peer, PEER_MSG_TRAIN_PLAN, 0, train_site_plan, node->train);
    peer_handle(node->peer, PEER_MSG_TRAIN_ROUND, 0, train_site_round, node->train);
    peer_handle(node->peer, PEER_MSG_TRAIN_STOP, 0, train_site_stop, node->train);
    peer_handle(node->peer, PEER_MSG_TRAIN_LEASE, 0, train_lease, node->train);
    peer_handle(node->peer, PEER_MSG_BLOB_GET, 0, train_blob_get, node->train);
    peer_handle(node->peer, PEER_MSG_HEAD, 0, daemon_head_handle, node);
    peer_handle(node->peer, PEER_MSG_LINEAGE, 0, train_statement_handle, node->train);
    peer_handle(node->peer, PEER_MSG_AGREEMENT, 0, query_agreement_handle, query);
    peer_handle(node->peer, PEER_MSG_NOTICE, 0, control_notice_handle, node);
    peer_on_record(node->peer, on_record, node);
    err = peer_start(node->peer, reterr);
    return err ? err : publish_address(node, reterr);
}

enum err daemon_reload(struct node *node, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    struct config_node fresh = {0};
    if (!config_home_path(node->home, HOME_CONFIG, path)) {
        return E_INVALID;
    }
    enum err err = config_yaml_node(path, &fresh, reterr);
    if (!err && (strcmp(fresh.node, node->config.node) != 0 ||
                 strcmp(fresh.listen, node->config.listen) != 0)) {
        err = proto_err_set(reterr, E_INVALID, "node and listen change only with a restart");
    }
    if (err) {
        config_node_fini(&fresh);
        return err;
    }
    pthread_mutex_lock(&node->config_lock);
    struct config_node old = node->config;
    node->config = fresh;
    pthread_mutex_unlock(&node->config_lock);
    adopt(node);
    config_node_fini(&old);
    return node->ready ? daemon_budgets(node, reterr) : E_OK;
}

void daemon_close(struct node *node)
{
    train_service_free(node->train);
    daemon_notifier_free(node->notifier);
    query_agreement_close(&node->query);
    query_witnesses_free(node->query.witnesses);
    query_known_free(node->query.known);
    query_damage_free(node->query.damage);
    privacy_pool_free(node->query.noise);
    store_close(&node->store);
    crypto_identity_free(node->root);
    crypto_identity_free(node->tls_key);
    crypto_identity_free(node->identity);
    crypto_keyring_close(node->keyring);
    config_node_fini(&node->config);
    config_node_fini(&node->at_start);
    proto_ontology_fini(&node->ontology);
}
