/* A TLS 1.2 session without I/O: bytes go in and out through two functions of the caller. Below it OpenSSL 3 or
 * mbedTLS (2.28 or 3.6), above it the NNG engine of node/peer or an enrolment socket. It never blocks and knows no sockets.
 *
 *     crypto_channel_profile_new(CRYPTO_CHANNEL_MESH, tls_key, cert, root, "alpine", NULL, admit, user, &profile, &info);
 *     struct crypto_channel *channel = malloc(crypto_channel_size());
 *     crypto_channel_init(channel, profile, false, peer_id_hex, io);
 *     while ((err = crypto_channel_handshake(channel)) == E_BUSY) { wait for the socket }
 *     crypto_channel_write(channel, bytes, &len);
 *     crypto_channel_fini(channel);
 *
 * Always: TLS 1.2 exactly, ECDHE-ECDSA with ChaCha20-Poly1305 or AES-256-GCM, X25519 or P-256, no renegotiation, no
 * tickets, extended master secret required (otherwise the exporter value would not be bound to the session). In a mesh
 * both sides show a certificate of the federation's shape (certificate.h) signed by the federation's root, valid now by
 * the library's clock, and `admit` has the last word while the handshake runs, so that a revoked member gets no further.
 * Exporter: RFC 5705, label EXPORTER-concordat-channel-v1, no context, 32 bytes; equal at both ends and at no others.
 * Threads: a profile may be shared by any number of threads; a channel belongs to one at a time.
 * Limits: one record is at most 16 KiB; write takes at most that much at a time. */
#ifndef CONCORDAT_CRYPTO_CHANNEL_H
#define CONCORDAT_CRYPTO_CHANNEL_H

#include "crypto/certificate.h"

#define CRYPTO_CHANNEL_EXPORTER_SIZE 32

struct crypto_channel_profile;

enum crypto_channel_mode {
    CRYPTO_CHANNEL_MESH,         /* mutual, always; as client and as server */
    CRYPTO_CHANNEL_ENROL_SERVER, /* no client certificate is asked for; sends the root along */
    CRYPTO_CHANNEL_ENROL_CLIENT, /* knows the root only by the SHA-256 of its SPKI; has no certificate */
};

/* Called inside the handshake, on whatever thread runs it: member, not revoked, this TLS key bound to it?
 * `peer` is borrowed for the call. */
typedef bool crypto_channel_admit(void *user, const struct crypto_certificate_info *peer);

/* MESH: tls_key, cert_der, root_der, federation and admit are required. ENROL_SERVER: the same without admit.
 * ENROL_CLIENT: root_pin is required, federation and admit are optional, the rest is NULL or SPAN_NONE. Everything is copied
 * except `user`.
 * Errors: E_USAGE something required is missing; E_INVALID a certificate's shape; E_AUTH the key is not the certificate's, or
 * the root did not sign it; E_NO_MEMORY. */
MUST_CHECK enum err
crypto_channel_profile_new(enum crypto_channel_mode mode, const struct crypto_identity *tls_key,
                           struct span cert_der, struct span root_der, const char *federation,
                           const uint8_t root_pin[32], crypto_channel_admit *admit, void *user,
                           struct crypto_channel_profile **ret, struct err_info *reterr);
/* When this returns, `admit` is not running and won't be called any more. Channels that are still there (NNG ends those of a
 * closed socket on a thread of its own, later) keep what they need of the profile and admit nobody new. */
void crypto_channel_profile_free(struct crypto_channel_profile *profile);
/* For who has a profile of somebody else's beyond a call: its memory lasts until the last of them has let go. */
struct crypto_channel_profile *
crypto_channel_profile_hold(const struct crypto_channel_profile *profile);
void crypto_channel_profile_release(struct crypto_channel_profile *profile);

struct crypto_channel;

/* Bytes moved; 0 would block; below 0 broken or closed. */
struct crypto_channel_io {
    int (*send)(void *ctx, const uint8_t *bytes, size_t len);
    int (*recv)(void *ctx, uint8_t *bytes, size_t len);
    void *ctx;
};

/* Storage that init needs, aligned as malloc does. */
size_t crypto_channel_size(void);
/* The channel holds PROFILE. expected_node_id_hex (32 digits, copied) is required for a client in a mesh, optional
 * otherwise; a peer with another id is refused.
 * Errors: E_USAGE, E_NO_MEMORY, E_INTERNAL; the storage then needs no fini, though fini is harmless. */
MUST_CHECK enum err crypto_channel_init(struct crypto_channel *channel,
                                        const struct crypto_channel_profile *profile,
                                        bool is_server, const char *expected_node_id_hex,
                                        struct crypto_channel_io io);
void crypto_channel_fini(struct crypto_channel *channel);

/* E_OK done; E_BUSY would block, call again; E_AUTH the peer was refused or refused us; E_IO the transport broke. */
MUST_CHECK enum err crypto_channel_handshake(struct crypto_channel *channel);
/* E_OK moved *inout_len > 0 bytes; E_BUSY none now; E_IO closed or broken; E_AUTH a record was forged.
 * After E_BUSY from write the same bytes must be offered again. */
MUST_CHECK enum err crypto_channel_read(struct crypto_channel *channel, uint8_t *to,
                                        size_t *inout_len);
MUST_CHECK enum err crypto_channel_write(struct crypto_channel *channel, const uint8_t *from,
                                         size_t *inout_len);
/* Says goodbye, best effort. */
void crypto_channel_close(struct crypto_channel *channel);

/* NULL before the handshake is done, and at an enrolment server. At an enrolment client: the server's. */
const struct crypto_certificate_info *crypto_channel_peer(const struct crypto_channel *channel);
/* 32 bytes; NULL before the handshake is done. */
const uint8_t *crypto_channel_exporter(const struct crypto_channel *channel);
/* "TLS-ECDHE-ECDSA-WITH-..."; NULL before the handshake is done. */
const char *crypto_channel_suite(const struct crypto_channel *channel);

#endif
