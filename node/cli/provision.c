#include "config.h"
#include "node/cli/provision.h"

#include "crypto/certificate.h"
#include "crypto/envelope.h"
#include "crypto/random.h"
#include "node/config/home.h"
#include "node/config/unlock.h"
#include "proto/body.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- files ---------------------------------------------------------------------------------------- */

static enum err io_error(struct err_info *reterr, const char *path)
{
    return proto_err_set(reterr, errno == ENOSPC || errno == EDQUOT ? E_DISK_FULL : E_IO, "%s: %s",
                         path, strerror(errno));
}

static enum err home_path(const struct cli_provision_node *node, const char *name,
                          char to[HOME_PATH_MAX], struct err_info *reterr)
{
    return config_home_path(node->home, name, to)
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "the home's path is too long");
}

static enum err make_folder(const char *path, struct err_info *reterr)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return io_error(reterr, path);
    }
    return E_OK;
}

static enum err write_file(const struct cli_provision_node *node, const char *name,
                           struct span bytes, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    enum err err = home_path(node, name, path, reterr);
    if (err) {
        return err;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return io_error(reterr, path);
    }
    size_t done = 0;
    while (done < bytes.len) {
        ssize_t wrote = write(fd, bytes.ptr + done, bytes.len - done);
        if (wrote < 0 && errno != EINTR) {
            break;
        }
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    bool ok = done == bytes.len && fsync(fd) == 0;
    err = ok ? E_OK : io_error(reterr, path);
    close(fd);
    return err;
}

/* --- keys ----------------------------------------------------------------------------------------- */

static enum err unlock_of(const struct cli_provision_node *node, struct config_unlock *ret,
                          struct err_info *reterr)
{
    const char *text = node->config.unlock;
    const char *secret = node->passphrase ? node->passphrase : "";
    if (config_unlock_check(text, reterr)) {
        return reterr->code = E_USAGE;
    }
    if (strcmp(text, "passphrase") == 0 && !*secret) {
        return proto_err_set(reterr, E_USAGE,
                             "set the passphrase in the environment as CONCORDAT_PASSPHRASE");
    }
    return config_unlock_read(node->home, text, *secret ? span_str(secret) : SPAN_NONE, ret,
                              reterr);
}

static enum err save_key(const struct cli_provision_node *node, const char *name,
                         const struct crypto_identity *key, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    const struct crypto_key *dek = NULL;
    enum err err = crypto_keyring_get(node->keyring, HOME_KEYRING_NAME, &dek);
    if (!err) {
        err = home_path(node, name, path, reterr);
    }
    return err ? err : crypto_identity_save(key, path, dek, reterr);
}

static enum err load_key(const struct cli_provision_node *node, const char *name,
                         struct crypto_identity **ret, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    const struct crypto_key *dek = NULL;
    enum err err = crypto_keyring_get(node->keyring, HOME_KEYRING_NAME, &dek);
    if (!err) {
        err = home_path(node, name, path, reterr);
    }
    return err ? err : crypto_identity_load(path, dek, ret, reterr);
}

static enum err open_prepared(struct cli_provision_node *node, const char *keyring,
                              const struct crypto_unlock *unlock, struct err_info *reterr)
{
    enum err err = crypto_keyring_open(keyring, unlock, &node->keyring, reterr);
    if (!err) {
        err = load_key(node, HOME_IDENTITY_KEY, &node->identity, reterr);
    }
    if (!err) {
        err = load_key(node, HOME_TLS_KEY, &node->tls_key, reterr);
    }
    return err;
}

static enum err make_fresh(struct cli_provision_node *node, const char *keyring,
                           const struct crypto_unlock *unlock, struct err_info *reterr)
{
    uint8_t id[16];
    enum err err = crypto_identity_generate(&node->identity);
    if (!err) {
        err = crypto_identity_generate(&node->tls_key);
    }
    if (!err) {
        crypto_identity_node_id(crypto_identity_point(node->identity), id);
        err = crypto_keyring_create(keyring, unlock, id, &node->keyring, reterr);
    }
    if (!err) {
        err = crypto_keyring_add(node->keyring, HOME_KEYRING_NAME, reterr);
    }
    if (!err) {
        err = save_key(node, HOME_IDENTITY_KEY, node->identity, reterr);
    }
    if (!err) {
        err = save_key(node, HOME_TLS_KEY, node->tls_key, reterr);
    }
    return err;
}

enum err cli_provision_keys(struct cli_provision_node *node, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    struct config_unlock unlock;
    enum err err = home_path(node, HOME_CONFIG, path, reterr);
    if (!err && access(path, F_OK) == 0) {
        err = proto_err_set(reterr, E_EXISTS, "%s is a node's home already", node->home);
    }
    if (!err) {
        err = unlock_of(node, &unlock, reterr);
    }
    if (!err) {
        err = make_folder(node->home, reterr);
    }
    if (!err) {
        err = home_path(node, HOME_IDENTITY_DIR, path, reterr);
    }
    if (!err) {
        err = make_folder(path, reterr);
    }
    if (!err) {
        err = home_path(node, HOME_KEYRING, path, reterr);
    }
    if (!err) {
        err = access(path, F_OK) == 0 ? open_prepared(node, path, &unlock.how, reterr)
                                      : make_fresh(node, path, &unlock.how, reterr);
    }
    if (!err) {
        crypto_identity_node_id(crypto_identity_point(node->identity), node->id);
    }
    return err;
}

/* --- records -------------------------------------------------------------------------------------- */

/* Seals BODY as the first version of (issuer, key of NAME), under the names that node/peer/enrol.c uses; `framed` puts its length before it. */
static enum err put_record(const struct cli_provision_federation *federation,
                           const struct cli_provision_node *issuer, enum proto_record_kind kind,
                           const char *name, struct span body, int64_t now, bool framed,
                           struct buf *out, struct err_info *reterr)
{
    uint8_t key[16];
    uint8_t signature[64];
    uint8_t head[4] = {0};
    struct buf bytes = {.max = PROTO_RECORD_MAX};
    struct buf record = {.max = PROTO_RECORD_MAX};
    proto_record_key(&crypto_proto_hash, name, key);
    struct proto_envelope envelope = {.version = 1,
                                      .kind = kind,
                                      .issuer = span_of(issuer->id, 16),
                                      .key = span_of(key, 16),
                                      .seq = 1,
                                      .hlc = (uint64_t)now * 1000 << 16,
                                      .body = body};
    enum err err = proto_record_encode(&envelope, &bytes, reterr);
    if (!err) {
        err = crypto_envelope_sign(issuer->identity, PROTO_RECORD_DOMAIN, federation->id,
                                   buf_span(&bytes), signature);
    }
    if (!err) {
        err = proto_record_seal(buf_span(&bytes), signature, &record);
    }
    if (!err && framed) {
        put_be32(head, (uint32_t)record.len);
        err = buf_put(out, span_of(head, sizeof head));
    }
    if (!err) {
        err = buf_put(out, buf_span(&record));
    }
    buf_fini(&bytes);
    buf_fini(&record);
    return err;
}

static enum err put_charter(struct cli_provision_federation *federation, int64_t now,
                            struct err_info *reterr)
{
    const struct cli_provision_node *founder = federation->founder;
    struct proto_council_seat seat = {span_of(founder->id, 16),
                                      span_of(crypto_identity_point(founder->identity), 65)};
    struct proto_charter charter = {.v = PROTO_BODY_VERSION,
                                    .federation = span_str(federation->name),
                                    .federation_id = span_of(federation->id, 16),
                                    .root_der = buf_span(&federation->root_der),
                                    .council = {&seat, 1},
                                    .threshold = proto_charter_threshold(1)};
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    enum err err = proto_charter_encode(&charter, &body, reterr);
    if (!err) {
        err = put_record(federation, founder, PROTO_RECORD_CHARTER, "charter", buf_span(&body), now,
                         false, &federation->charter, reterr);
    }
    buf_fini(&body);
    return err;
}

enum err cli_provision_found(struct cli_provision_federation *ret, const char *name,
                             const struct cli_provision_node *founder, int64_t now,
                             struct err_info *reterr)
{
    *ret = (struct cli_provision_federation){.founder = founder,
                                             .root_der = {.max = CRYPTO_CERTIFICATE_MAX},
                                             .charter = {.max = PROTO_RECORD_MAX},
                                             .records = {.max = (size_t)4 << 20}};
    if (!proto_name_valid(span_str(name))) {
        return proto_err_set(reterr, E_INVALID,
                             "a federation's name is [a-z0-9][a-z0-9-]{0,31}, not '%s'", name);
    }
    snprintf(ret->name, sizeof ret->name, "%s", name);
    enum err err = crypto_identity_generate(&ret->root);
    if (!err) {
        crypto_identity_node_id(crypto_identity_point(ret->root), ret->id);
        /* An hour back, so that a member whose clock is somewhat behind takes it too. */
        err = crypto_certificate_root(ret->root, ret->name, now - 3600, now + CLI_ROOT_VALID_S,
                                      &ret->root_der, reterr);
    }
    if (!err) {
        err = save_key(founder, HOME_ROOT_KEY, ret->root, reterr);
    }
    return err ? err : put_charter(ret, now, reterr);
}

static enum err put_member(struct cli_provision_federation *federation,
                           const struct cli_provision_node *node, int64_t now,
                           struct err_info *reterr)
{
    uint8_t spki[CRYPTO_SPKI_SIZE];
    uint8_t tls_hash[32];
    uint8_t signature[64];
    struct proto_text roles[] = {{span_str("node")}, {span_str("council")}};
    crypto_identity_spki(crypto_identity_point(node->tls_key), spki);
    crypto_sha256_one(span_of(spki, sizeof spki), tls_hash);
    struct proto_signature signed_by = {span_of(federation->founder->id, 16),
                                        span_of(signature, sizeof signature)};
    struct proto_member member = {.v = PROTO_BODY_VERSION,
                                  .node_id = span_of(node->id, 16),
                                  .name = span_str(node->config.node),
                                  .identity_point =
                                      span_of(crypto_identity_point(node->identity), 65),
                                  .tls_spki = span_of(tls_hash, 32),
                                  .org = span_str(node->config.org),
                                  .org_type = span_str(node->config.org_type),
                                  .country = span_str(node->config.country),
                                  .roles = {roles, node == federation->founder ? 2 : 1},
                                  .not_before = (uint64_t)(now - 3600),
                                  .expires = (uint64_t)(now + CLI_MEMBERSHIP_VALID_S)};
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    enum err err = proto_member_signed(&member, &body, reterr);
    if (!err) {
        err = crypto_envelope_sign(federation->founder->identity, PROTO_MEMBER_DOMAIN,
                                   federation->id, buf_span(&body), signature);
    }
    if (!err) {
        body.len = 0;
        member.signatures = (struct proto_list){&signed_by, 1};
        err = proto_member_encode(&member, &body, reterr);
    }
    if (!err) {
        err = put_record(federation, federation->founder, PROTO_RECORD_MEMBER, node->config.node,
                         buf_span(&body), now, true, &federation->records, reterr);
    }
    buf_fini(&body);
    return err;
}

static enum err put_address(struct cli_provision_federation *federation,
                            const struct cli_provision_node *node, int64_t now,
                            struct err_info *reterr)
{
    const char *url = node->config.advertise[0] ? node->config.advertise : node->config.listen;
    struct proto_address address = {
        .v = PROTO_BODY_VERSION, .url = span_str(url), .reverse = strcmp(url, "none") == 0};
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    enum err err = proto_address_encode(&address, &body, reterr);
    if (!err) {
        err = put_record(federation, node, PROTO_RECORD_ADDRESS, "address", buf_span(&body), now,
                         true, &federation->records, reterr);
    }
    buf_fini(&body);
    return err;
}

enum err cli_provision_admit(struct cli_provision_federation *federation,
                             struct cli_provision_node *node, int64_t now, struct err_info *reterr)
{
    struct buf request = {.max = CRYPTO_CERTIFICATE_MAX};
    node->certificate.max = CRYPTO_CERTIFICATE_MAX;
    enum err err = crypto_certificate_request(node->tls_key, &request, reterr);
    if (!err) {
        err = crypto_certificate_issue(federation->root, buf_span(&federation->root_der),
                                       buf_span(&request), federation->name, node->config.org,
                                       node->id, now - 3600, now + CLI_MEMBERSHIP_VALID_S,
                                       &node->certificate, reterr);
    }
    buf_fini(&request);
    if (!err) {
        err = put_member(federation, node, now, reterr);
    }
    return err ? err : put_address(federation, node, now, reterr);
}

enum err cli_provision_write(struct cli_provision_node *node, struct span root_der,
                             struct span charter, struct span records, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    enum err err = write_file(node, HOME_CERTIFICATE, buf_span(&node->certificate), reterr);
    if (!err) {
        err = write_file(node, HOME_ROOT, root_der, reterr);
    }
    if (!err) {
        err = write_file(node, HOME_CHARTER, charter, reterr);
    }
    if (!err) {
        err = write_file(node, HOME_RECORDS, records, reterr);
    }
    if (!err) {
        err = home_path(node, HOME_LOG, path, reterr);
    }
    if (!err) {
        err = make_folder(path, reterr);
    }
    if (!err) {
        err = home_path(node, HOME_CONFIG, path, reterr);
    }
    return err ? err : config_node_write(path, &node->config, reterr);
}

void cli_provision_node_fini(struct cli_provision_node *node)
{
    crypto_keyring_close(node->keyring);
    crypto_identity_free(node->identity);
    crypto_identity_free(node->tls_key);
    buf_fini(&node->certificate);
    config_node_fini(&node->config);
}

void cli_provision_federation_fini(struct cli_provision_federation *federation)
{
    crypto_identity_free(federation->root);
    buf_fini(&federation->root_der);
    buf_fini(&federation->charter);
    buf_fini(&federation->records);
}

/* --- ports ---------------------------------------------------------------------------------------- */

static int hold_port(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

enum err cli_provision_port(uint16_t *ret_port, int ret_hold[2], struct err_info *reterr)
{
    /* Below 32768, since the kernel hands out what is above for outgoing connections, and a node that
     * is down for a moment would lose its port to one of them. */
    for (int tries = 0; tries < 2000; tries++) {
        uint16_t random = 0;
        enum err err = crypto_random(&random, sizeof random);
        if (err) {
            return err;
        }
        uint16_t port = (uint16_t)(10000 + random % 11000 * 2);
        int first = hold_port(port);
        int second = first < 0 ? -1 : hold_port((uint16_t)(port + 1));
        if (second >= 0) {
            *ret_port = port;
            ret_hold[0] = first;
            ret_hold[1] = second;
            return E_OK;
        }
        if (first >= 0) {
            close(first);
        }
    }
    return proto_err_set(reterr, E_IO, "no two free ports next to each other on 127.0.0.1");
}
