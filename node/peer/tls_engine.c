#include "config.h"
#include "node/peer/tls_engine.h"

#include <nng/supplemental/tls/engine.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/alloc.h"

#define HANDLE_PREFIX "concordat-profile:"

struct nng_tls_engine_config {
    bool server;
    struct crypto_channel_profile *profile; /* held */
    char expected[33];
};

struct nng_tls_engine_conn {
    void *tls;
    struct crypto_channel *channel;
    bool ready;
};

static pthread_mutex_t profiles_lock = PTHREAD_MUTEX_INITIALIZER;
static const struct crypto_channel_profile *profiles[PEER_TLS_PROFILES];
static bool registered;

/* --- configurations --------------------------------------------------------------------------------------------- */

static int config_init(nng_tls_engine_config *config, nng_tls_mode mode)
{
    config->server = mode == NNG_TLS_MODE_SERVER;
    return 0;
}

static void config_fini(nng_tls_engine_config *config)
{
    crypto_channel_profile_release(config->profile);
    config->profile = NULL;
}

/* NNG calls this with the host of every URL; only a node id counts. */
static int config_server(nng_tls_engine_config *config, const char *name)
{
    if (strlen(name) == 32) {
        memcpy(config->expected, name, 33);
    }
    return 0;
}

/* NNG asks listeners for NONE by default. The profile decides, and nobody can turn it off. */
static int config_auth(nng_tls_engine_config *config, nng_tls_auth_mode mode)
{
    (void)config;
    (void)mode;
    return 0;
}

static int config_ca_chain(nng_tls_engine_config *config, const char *ca, const char *crl)
{
    (void)config;
    (void)ca;
    (void)crl;
    return NNG_ENOTSUP;
}

static int config_own_cert(nng_tls_engine_config *config, const char *handle, const char *key,
                           const char *password)
{
    (void)key;
    (void)password;
    if (strncmp(handle, HANDLE_PREFIX, strlen(HANDLE_PREFIX)) != 0) {
        return NNG_EINVAL;
    }
    unsigned long at = strtoul(handle + strlen(HANDLE_PREFIX), NULL, 10);
    pthread_mutex_lock(&profiles_lock);
    crypto_channel_profile_release(config->profile);
    config->profile =
        at < PEER_TLS_PROFILES && profiles[at] ? crypto_channel_profile_hold(profiles[at]) : NULL;
    pthread_mutex_unlock(&profiles_lock);
    return config->profile ? 0 : NNG_EINVAL;
}

static int config_version(nng_tls_engine_config *config, nng_tls_version low, nng_tls_version high)
{
    (void)config;
    return low <= NNG_TLS_1_2 && high >= NNG_TLS_1_2 ? 0 : NNG_ENOTSUP;
}

/* --- connections ------------------------------------------------------------------------------------------------ */

static int bio_result(int rv, size_t moved)
{
    if (rv == NNG_EAGAIN) {
        return 0;
    }
    return rv == 0 && moved > 0 ? (int)moved : -1;
}

static int bio_send(void *tls, const uint8_t *bytes, size_t len)
{
    size_t moved = len;
    int rv = nng_tls_engine_send(tls, bytes, &moved);
    return bio_result(rv, moved);
}

static int bio_recv(void *tls, uint8_t *bytes, size_t len)
{
    size_t moved = len;
    int rv = nng_tls_engine_recv(tls, bytes, &moved);
    return bio_result(rv, moved);
}

static int conn_init(nng_tls_engine_conn *conn, void *tls, nng_tls_engine_config *config)
{
    if (!config->profile) {
        return NNG_ECRYPTO;
    }
    conn->tls = tls;
    conn->channel = proto_alloc(1, crypto_channel_size());
    if (!conn->channel) {
        return NNG_ENOMEM;
    }
    struct crypto_channel_io io = {bio_send, bio_recv, tls};
    if (crypto_channel_init(conn->channel, config->profile, config->server,
                            config->expected[0] ? config->expected : NULL, io)) {
        proto_free(conn->channel);
        conn->channel = NULL;
        return NNG_ECRYPTO;
    }
    return 0;
}

static void conn_fini(nng_tls_engine_conn *conn)
{
    if (conn->channel) {
        crypto_channel_fini(conn->channel);
        proto_free(conn->channel);
        conn->channel = NULL;
    }
}

static void conn_close(nng_tls_engine_conn *conn)
{
    if (conn->channel) {
        crypto_channel_close(conn->channel);
    }
}

static int conn_handshake(nng_tls_engine_conn *conn)
{
    if (conn->ready) {
        return 0;
    }
    switch (crypto_channel_handshake(conn->channel)) {
    case E_OK:
        conn->ready = true;
        return 0;
    case E_BUSY:
        return NNG_EAGAIN;
    case E_IO:
        return NNG_ECLOSED;
    default:
        return NNG_EPEERAUTH;
    }
}

static int moved_result(enum err err)
{
    switch (err) {
    case E_OK:
        return 0;
    case E_BUSY:
        return NNG_EAGAIN;
    case E_IO:
        return NNG_ECLOSED;
    default:
        return NNG_ECRYPTO;
    }
}

/* NNG may want to move data before it has asked for the handshake: then that comes first. */
static int conn_recv(nng_tls_engine_conn *conn, uint8_t *bytes, size_t *len)
{
    int rv = conn_handshake(conn);
    return rv ? rv : moved_result(crypto_channel_read(conn->channel, bytes, len));
}

static int conn_send(nng_tls_engine_conn *conn, const uint8_t *bytes, size_t *len)
{
    int rv = conn_handshake(conn);
    return rv ? rv : moved_result(crypto_channel_write(conn->channel, bytes, len));
}

static bool conn_verified(nng_tls_engine_conn *conn)
{
    return conn->ready;
}

static nng_tls_engine_config_ops config_ops = {
    .size = sizeof(struct nng_tls_engine_config),
    .init = config_init,
    .fini = config_fini,
    .server = config_server,
    .auth = config_auth,
    .ca_chain = config_ca_chain,
    .own_cert = config_own_cert,
    .version = config_version,
};

static nng_tls_engine_conn_ops conn_ops = {
    .size = sizeof(struct nng_tls_engine_conn),
    .init = conn_init,
    .fini = conn_fini,
    .close = conn_close,
    .handshake = conn_handshake,
    .recv = conn_recv,
    .send = conn_send,
    .verified = conn_verified,
};

static const nng_tls_engine engine = {
    .version = NNG_TLS_ENGINE_VERSION,
    .config_ops = &config_ops,
    .conn_ops = &conn_ops,
    .name = "concordat",
    .description = "concordat channel",
    .fips_mode = false,
};

/* --- what the rest of the folder calls --------------------------------------------------------------------------- */

enum err peer_tls_register(struct err_info *reterr)
{
    pthread_mutex_lock(&profiles_lock);
    int rv = registered ? 0 : nng_tls_engine_register(&engine);
    registered = rv == 0;
    pthread_mutex_unlock(&profiles_lock);
    return rv ? proto_err_set(reterr, E_IO, "NNG refused the TLS engine: %s", nng_strerror(rv))
              : E_OK;
}

static int profile_handle(const struct crypto_channel_profile *profile)
{
    int free_at = -1;
    pthread_mutex_lock(&profiles_lock);
    for (int i = 0; i < PEER_TLS_PROFILES; i++) {
        if (profiles[i] == profile) {
            free_at = i;
            break;
        }
        if (!profiles[i] && free_at < 0) {
            free_at = i;
        }
    }
    if (free_at >= 0) {
        profiles[free_at] = profile;
    }
    pthread_mutex_unlock(&profiles_lock);
    return free_at;
}

enum err peer_tls_config(const struct crypto_channel_profile *profile, bool server,
                         const char *expected, nng_tls_config **ret, struct err_info *reterr)
{
    int handle = profile_handle(profile);
    if (handle < 0) {
        return proto_err_set(reterr, E_LIMIT, "too many TLS profiles");
    }
    char text[sizeof HANDLE_PREFIX + 12];
    snprintf(text, sizeof text, HANDLE_PREFIX "%d", handle);
    nng_tls_config *config = NULL;
    int rv = nng_tls_config_alloc(&config, server ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT);
    if (!rv) {
        rv = nng_tls_config_own_cert(config, text, "", NULL);
    }
    if (!rv && expected) {
        rv = nng_tls_config_server_name(config, expected);
    }
    if (rv) {
        if (config) {
            nng_tls_config_free(config);
        }
        return proto_err_set(reterr, E_NO_MEMORY, "no TLS configuration: %s", nng_strerror(rv));
    }
    *ret = config;
    return E_OK;
}

void peer_tls_forget(const struct crypto_channel_profile *profile)
{
    pthread_mutex_lock(&profiles_lock);
    for (int i = 0; i < PEER_TLS_PROFILES; i++) {
        if (profiles[i] == profile) {
            profiles[i] = NULL;
        }
    }
    pthread_mutex_unlock(&profiles_lock);
}
