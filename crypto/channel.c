#include "config.h"
#include "crypto/channel.h"

#include "crypto/certificate_private.h"
#include "crypto/channel_private.h"
#include "crypto/memory.h"

/* --- profile --------------------------------------------------------------------------------------------------------- */

/* Who only reads a profile has it const; that it is held is no part of what it says. */
struct crypto_channel_profile *
crypto_channel_profile_hold(const struct crypto_channel_profile *profile)
{
    struct crypto_channel_profile *held = (struct crypto_channel_profile *)profile;
    held->holds++;
    return held;
}

void crypto_channel_profile_release(struct crypto_channel_profile *profile)
{
    if (!profile || --profile->holds > 0) {
        return;
    }
    if (profile->library->unprepare) {
        profile->library->unprepare(profile->shared);
    }
    crypto_identity_free(profile->key);
    buf_fini(&profile->cert);
    buf_fini(&profile->root);
    pthread_rwlock_destroy(&profile->gate);
    proto_free(profile);
}

void crypto_channel_profile_free(struct crypto_channel_profile *profile)
{
    if (profile) {
        pthread_rwlock_wrlock(&profile->gate);
        profile->given_up = true;
        profile->admit = NULL;
        pthread_rwlock_unlock(&profile->gate);
        crypto_channel_profile_release(profile);
    }
}

/* Our own papers must be in order, or every peer would refuse us with less to say about it. Their dates are not judged:
 * no clock is read here, and peers judge them in each handshake. */
static enum err check_own(const struct crypto_channel_profile *profile, struct err_info *reterr)
{
    struct crypto_certificate_info info;
    enum err err = crypto_certificate_parse(buf_span(&profile->cert), &info, reterr);
    if (!err) {
        err = crypto_certificate_verify(buf_span(&profile->cert), buf_span(&profile->root),
                                        info.not_before, &info, reterr);
    }
    if (!err && memcmp(info.point, crypto_identity_point(profile->key), sizeof info.point) != 0) {
        err = proto_err_set(reterr, E_AUTH, "channel: the certificate is for another key");
    }
    if (!err && strcmp(info.federation, profile->federation) != 0) {
        err = proto_err_set(reterr, E_AUTH, "channel: the certificate is of federation %s",
                            info.federation);
    }
    return err;
}

static enum err fill_own(struct crypto_channel_profile *profile,
                         const struct crypto_identity *tls_key, struct span cert_der,
                         struct span root_der, struct err_info *reterr)
{
    enum err err = crypto_identity_clone(tls_key, &profile->key);
    profile->cert.max = profile->root.max = CRYPTO_CERTIFICATE_MAX;
    err = err ? err : buf_put(&profile->cert, cert_der);
    err = err ? err : buf_put(&profile->root, root_der);
    return err ? err : check_own(profile, reterr);
}

static bool complete(enum crypto_channel_mode mode, const struct crypto_identity *tls_key,
                     struct span cert_der, struct span root_der, const char *federation,
                     const uint8_t *root_pin, crypto_channel_admit *admit)
{
    switch (mode) {
    case CRYPTO_CHANNEL_MESH:
        return tls_key && cert_der.len && root_der.len && federation && admit;
    case CRYPTO_CHANNEL_ENROL_SERVER:
        return tls_key && cert_der.len && root_der.len && federation;
    case CRYPTO_CHANNEL_ENROL_CLIENT:
        return !tls_key && root_pin;
    }
    return false;
}

enum err channel_profile_new(const struct channel_library *library, enum crypto_channel_mode mode,
                             const struct crypto_identity *tls_key, struct span cert_der,
                             struct span root_der, const char *federation,
                             const uint8_t root_pin[32], crypto_channel_admit *admit, void *user,
                             struct crypto_channel_profile **ret, struct err_info *reterr)
{
    if (!complete(mode, tls_key, cert_der, root_der, federation, root_pin, admit) ||
        (federation && !crypto_certificate_federation_valid(federation))) {
        return proto_err_set(reterr, E_USAGE,
                             "channel: the profile lacks something that its mode needs");
    }
    struct crypto_channel_profile *profile = proto_alloc(1, sizeof *profile);
    if (!profile) {
        return proto_err_set(reterr, E_NO_MEMORY, "channel: out of memory");
    }
    if (pthread_rwlock_init(&profile->gate, NULL) != 0) {
        proto_free(profile);
        return proto_err_set(reterr, E_NO_MEMORY, "channel: out of memory");
    }
    profile->holds = 1;
    profile->library = library;
    profile->mode = mode;
    profile->admit = admit;
    profile->user = user;
    if (federation) {
        memcpy(profile->federation, federation, strlen(federation));
    }
    enum err err = E_OK;
    if (mode == CRYPTO_CHANNEL_ENROL_CLIENT) {
        memcpy(profile->root_pin, root_pin, sizeof profile->root_pin);
    } else {
        err = fill_own(profile, tls_key, cert_der, root_der, reterr);
    }
    if (!err && library->prepare) {
        err = library->prepare(profile);
        err = err ? proto_err_set(reterr, err, "channel: %s failed", library->name) : E_OK;
    }
    if (err) {
        crypto_channel_profile_free(profile);
        return err;
    }
    *ret = profile;
    return E_OK;
}

enum err crypto_channel_profile_new(enum crypto_channel_mode mode,
                                    const struct crypto_identity *tls_key, struct span cert_der,
                                    struct span root_der, const char *federation,
                                    const uint8_t root_pin[32], crypto_channel_admit *admit,
                                    void *user, struct crypto_channel_profile **ret,
                                    struct err_info *reterr)
{
    const struct channel_library *library = channel_libssl();
    return channel_profile_new(library ? library : channel_mbedtls(), mode, tls_key, cert_der,
                               root_der, federation, root_pin, admit, user, ret, reterr);
}

/* --- judging the peer ------------------------------------------------------------------------------------------------ */

static bool owner_admits(struct crypto_channel_profile *profile,
                         const struct crypto_certificate_info *info)
{
    pthread_rwlock_rdlock(&profile->gate);
    bool admits = !profile->given_up && (!profile->admit || profile->admit(profile->user, info));
    pthread_rwlock_unlock(&profile->gate);
    return admits;
}

bool channel_admitted(struct crypto_channel *channel, const struct crypto_certificate_info *info)
{
    struct crypto_channel_profile *profile = channel->profile;
    if ((profile->federation[0] && strcmp(info->federation, profile->federation) != 0) ||
        (channel->expects &&
         memcmp(info->node_id, channel->expected_id, sizeof info->node_id) != 0) ||
        !owner_admits(profile, info)) {
        return false;
    }
    channel->peer = *info;
    channel->has_peer = true;
    return true;
}

/* An enrolling node knows no root, only its key's hash. Nothing of ours has been sent before this. */
bool channel_enrol_admitted(struct crypto_channel *channel, struct span leaf_der,
                            struct span root_der, int64_t now)
{
    struct crypto_certificate_info info;
    char federation[33];
    uint8_t point[CRYPTO_POINT_SIZE];
    uint8_t spki[CRYPTO_SPKI_SIZE];
    uint8_t hash[32];
    if (crypto_certificate_root_parse(root_der, federation, point, NULL) != E_OK) {
        return false;
    }
    crypto_identity_spki(point, spki);
    crypto_sha256_one(span_of(spki, sizeof spki), hash);
    return crypto_equal(hash, channel->profile->root_pin, sizeof hash) &&
           crypto_certificate_verify(leaf_der, root_der, now, &info, NULL) == E_OK &&
           channel_admitted(channel, &info);
}

/* --- life ------------------------------------------------------------------------------------------------------------ */

size_t crypto_channel_size(void)
{
    return sizeof(struct crypto_channel);
}

enum err crypto_channel_init(struct crypto_channel *channel,
                             const struct crypto_channel_profile *profile, bool is_server,
                             const char *expected_node_id_hex, struct crypto_channel_io io)
{
    char canonical[33];
    memset(channel, 0, sizeof *channel);
    channel->profile = crypto_channel_profile_hold(profile);
    channel->is_server = is_server;
    channel->io = io;
    bool mesh = profile->mode == CRYPTO_CHANNEL_MESH;
    enum err err = E_OK;
    if ((!mesh && is_server != (profile->mode == CRYPTO_CHANNEL_ENROL_SERVER)) ||
        (mesh && !is_server && !expected_node_id_hex)) {
        err = E_USAGE;
    } else if (expected_node_id_hex) {
        channel->expects = true;
        if (!span_from_hex(expected_node_id_hex, channel->expected_id,
                           sizeof channel->expected_id)) {
            err = E_USAGE;
        } else {
            span_to_hex(span_of(channel->expected_id, sizeof channel->expected_id), canonical);
        }
    }
    err = err ? err : profile->library->start(channel, channel->expects ? canonical : NULL);
    if (err) {
        crypto_channel_fini(channel);
    }
    return err;
}

void crypto_channel_fini(struct crypto_channel *channel)
{
    if (!channel || !channel->profile) {
        return;
    }
    struct crypto_channel_profile *profile = channel->profile;
    profile->library->end(channel->session);
    crypto_wipe(channel, sizeof *channel);
    crypto_channel_profile_release(profile);
}

/* --- use ------------------------------------------------------------------------------------------------------------- */

enum err crypto_channel_handshake(struct crypto_channel *channel)
{
    enum err err = channel->done ? E_OK : channel->profile->library->handshake(channel);
    channel->done = !err;
    return err;
}

enum err crypto_channel_read(struct crypto_channel *channel, uint8_t *to, size_t *inout_len)
{
    return channel->done ? channel->profile->library->read(channel->session, to, inout_len)
                         : E_USAGE;
}

enum err crypto_channel_write(struct crypto_channel *channel, const uint8_t *from,
                              size_t *inout_len)
{
    return channel->done ? channel->profile->library->write(channel->session, from, inout_len)
                         : E_USAGE;
}

void crypto_channel_close(struct crypto_channel *channel)
{
    if (channel->done) {
        channel->profile->library->close(channel->session);
    }
}

const struct crypto_certificate_info *crypto_channel_peer(const struct crypto_channel *channel)
{
    return channel->done && channel->has_peer ? &channel->peer : NULL;
}

const uint8_t *crypto_channel_exporter(const struct crypto_channel *channel)
{
    return channel->done ? channel->exporter : NULL;
}

const char *crypto_channel_suite(const struct crypto_channel *channel)
{
    return channel->done ? channel->profile->library->suite(channel->session) : NULL;
}
