/* The differences between mbedTLS 2.28 (Debian 12) and 3.6 (Debian 13), in one private place. No other file of the project
 * looks at the library's version. The one-shot functions for GCM, ChaCha20-Poly1305, md and the ecp/ecdsa calls on bare
 * groups are the same in both and are called directly.
 * Threads: pure. */
#ifndef CONCORDAT_CRYPTO_COMPAT_MBEDTLS_H
#define CONCORDAT_CRYPTO_COMPAT_MBEDTLS_H

#include "crypto/random.h"

#include <string.h>

#include <mbedtls/version.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <mbedtls/build_info.h>
#else
#include <mbedtls/config.h>
#endif
#include <mbedtls/asn1write.h>
#include <mbedtls/bignum.h>
#include <mbedtls/chachapoly.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/gcm.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <mbedtls/x509_csr.h>

#define COMPAT_MBEDTLS_3 (MBEDTLS_VERSION_NUMBER >= 0x03000000)

#if !defined(MBEDTLS_SSL_EXTENDED_MASTER_SECRET) || !defined(MBEDTLS_SSL_KEEP_PEER_CERTIFICATE) || \
    !defined(MBEDTLS_CHACHAPOLY_C) || !defined(MBEDTLS_ECDSA_DETERMINISTIC)
#error "this mbedTLS was built without something that Concordat relies on"
#endif
#if !COMPAT_MBEDTLS_3 && !defined(MBEDTLS_SSL_EXPORT_KEYS)
#error "this mbedTLS cannot export keying material"
#endif

/* The library's random callback: the kernel's bytes, no generator in between. */
static inline int compat_rng(void *ctx, unsigned char *to, size_t len)
{
    (void)ctx;
    return crypto_random(to, len) == E_OK ? 0 : MBEDTLS_ERR_ECP_RANDOM_FAILED;
}

static inline int compat_sha256_starts(mbedtls_sha256_context *ctx)
{
#if COMPAT_MBEDTLS_3
    return mbedtls_sha256_starts(ctx, 0);
#else
    return mbedtls_sha256_starts_ret(ctx, 0);
#endif
}

static inline int compat_sha256_update(mbedtls_sha256_context *ctx, const unsigned char *bytes,
                                       size_t len)
{
#if COMPAT_MBEDTLS_3
    return mbedtls_sha256_update(ctx, bytes, len);
#else
    return mbedtls_sha256_update_ret(ctx, bytes, len);
#endif
}

static inline int compat_sha256_finish(mbedtls_sha256_context *ctx, unsigned char out[32])
{
#if COMPAT_MBEDTLS_3
    return mbedtls_sha256_finish(ctx, out);
#else
    return mbedtls_sha256_finish_ret(ctx, out);
#endif
}

static inline int compat_pk_parse_key(mbedtls_pk_context *pk, const unsigned char *der, size_t len)
{
#if COMPAT_MBEDTLS_3
    return mbedtls_pk_parse_key(pk, der, len, NULL, 0, compat_rng, NULL);
#else
    return mbedtls_pk_parse_key(pk, der, len, NULL, 0);
#endif
}

/* Serial from big-endian bytes; the top bit must be 0. */
static inline int compat_crt_set_serial(mbedtls_x509write_cert *crt, unsigned char *serial,
                                        size_t len)
{
#if COMPAT_MBEDTLS_3
    return mbedtls_x509write_crt_set_serial_raw(crt, serial, len);
#else
    mbedtls_mpi number;
    mbedtls_mpi_init(&number);
    int ret = mbedtls_mpi_read_binary(&number, serial, len);
    if (ret == 0) {
        ret = mbedtls_x509write_crt_set_serial(crt, &number);
    }
    mbedtls_mpi_free(&number);
    return ret;
#endif
}

static inline bool compat_crt_is_ca(const mbedtls_x509_crt *crt)
{
#if COMPAT_MBEDTLS_3
    return crt->MBEDTLS_PRIVATE(ca_istrue) != 0;
#else
    return crt->ca_istrue != 0;
#endif
}

static inline unsigned compat_crt_key_usage(const mbedtls_x509_crt *crt)
{
#if COMPAT_MBEDTLS_3
    return crt->MBEDTLS_PRIVATE(key_usage);
#else
    return crt->key_usage;
#endif
}

static inline const mbedtls_x509_buf *compat_csr_signature(const mbedtls_x509_csr *csr)
{
#if COMPAT_MBEDTLS_3
    return &csr->MBEDTLS_PRIVATE(sig);
#else
    return &csr->sig;
#endif
}

/* TLS 1.2 exactly; ephemeral groups X25519 and P-256; signatures ECDSA with SHA-256. */
static inline void compat_ssl_conf_tls12(mbedtls_ssl_config *conf)
{
#if COMPAT_MBEDTLS_3
    static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                      MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                      MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
    static const uint16_t algorithms[] = {MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256,
                                          MBEDTLS_TLS1_3_SIG_NONE};
    mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_groups(conf, groups);
    mbedtls_ssl_conf_sig_algs(conf, algorithms);
#else
    static const mbedtls_ecp_group_id groups[] = {MBEDTLS_ECP_DP_CURVE25519,
                                                  MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_NONE};
    static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_NONE};
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_curves(conf, groups);
    mbedtls_ssl_conf_sig_hashes(conf, hashes);
#endif
}

/* RFC 5705 exporter. mbedTLS 3.6 has mbedtls_ssl_export_keying_material only in later patch releases; both versions hand
 * the master secret and the randoms to a callback, from which the PRF gives the value. The callback's shape differs: per
 * configuration in 2.28, per session in 3.6. Each channel owns its configuration, so that both come to the same. */
typedef void compat_exporter_sink(void *user, const unsigned char value[32]);

struct compat_exporter {
    const char *label;
    compat_exporter_sink *sink;
    void *user;
};

static inline int compat_exporter_run(struct compat_exporter *exporter, mbedtls_tls_prf_types prf,
                                      const unsigned char *master,
                                      const unsigned char client_random[32],
                                      const unsigned char server_random[32])
{
    unsigned char seed[64];
    unsigned char value[32];
    memcpy(seed, client_random, 32);
    memcpy(seed + 32, server_random, 32);
    int ret = mbedtls_ssl_tls_prf(prf, master, 48, exporter->label, seed, sizeof seed, value,
                                  sizeof value);
    if (ret == 0) {
        exporter->sink(exporter->user, value);
    }
    mbedtls_platform_zeroize(value, sizeof value);
    return ret;
}

#if COMPAT_MBEDTLS_3
static inline void compat_exporter_callback(void *user, mbedtls_ssl_key_export_type type,
                                            const unsigned char *secret, size_t secret_len,
                                            const unsigned char client_random[32],
                                            const unsigned char server_random[32],
                                            mbedtls_tls_prf_types prf)
{
    if (type == MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET && secret_len == 48) {
        /* On failure the sink is not called, and the channel refuses a session without a value. */
        (void)compat_exporter_run(user, prf, secret, client_random, server_random);
    }
}
#else
static inline int compat_exporter_callback(void *user, const unsigned char *master,
                                           const unsigned char *key_block, size_t mac_len,
                                           size_t key_len, size_t iv_len,
                                           const unsigned char client_random[32],
                                           const unsigned char server_random[32],
                                           mbedtls_tls_prf_types prf)
{
    (void)key_block;
    (void)mac_len;
    (void)key_len;
    (void)iv_len;
    return compat_exporter_run(user, prf, master, client_random, server_random);
}
#endif

static inline void compat_ssl_export(mbedtls_ssl_config *conf, mbedtls_ssl_context *ssl,
                                     struct compat_exporter *exporter)
{
#if COMPAT_MBEDTLS_3
    (void)conf;
    mbedtls_ssl_set_export_keys_cb(ssl, compat_exporter_callback, exporter);
#else
    (void)ssl;
    mbedtls_ssl_conf_export_keys_ext_cb(conf, compat_exporter_callback, exporter);
#endif
}

#endif
