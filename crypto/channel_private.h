/* Private to crypto/: what a channel is to the library that speaks TLS for it. channel.c keeps the profile, judges the peer
 * and calls the library through this table; channel_libssl.c and channel_mbedtls.c fill it. Both give the same sessions and
 * understand each other; the tests run every pair. */
#ifndef CONCORDAT_CRYPTO_CHANNEL_PRIVATE_H
#define CONCORDAT_CRYPTO_CHANNEL_PRIVATE_H

#include <pthread.h>

#include "crypto/channel.h"

#define CHANNEL_EXPORTER_LABEL "EXPORTER-concordat-channel-v1"

struct channel_library {
    const char *name;
    /* What sessions of a profile share, into profile->shared; unprepare takes NULL. Both may be missing. */
    enum err (*prepare)(struct crypto_channel_profile *profile);
    void (*unprepare)(void *shared);
    /* A session into channel->session. NAME: canonical digits of the peer that is meant, or NULL. end takes NULL. */
    enum err (*start)(struct crypto_channel *channel, const char *name);
    void (*end)(void *session);
    /* As crypto_channel_handshake; E_OK only when the peer was judged and channel->exporter is filled in. */
    enum err (*handshake)(struct crypto_channel *channel);
    /* As crypto_channel_read and _write. */
    enum err (*read)(void *session, uint8_t *to, size_t *inout_len);
    enum err (*write)(void *session, const uint8_t *from, size_t *inout_len);
    void (*close)(void *session);
    const char *(*suite)(const void *session);
};

/* NULL when not built in. */
const struct channel_library *channel_libssl(void);
const struct channel_library *channel_mbedtls(void);

struct crypto_channel_profile {
    enum crypto_channel_mode mode;
    struct crypto_identity *key; /* NULL at an enrolment client */
    struct buf cert;
    struct buf root;
    char federation[33]; /* empty: not compared */
    uint8_t root_pin[32];
    crypto_channel_admit *admit; /* NULL once the profile was given up; under gate */
    void *user;
    const struct channel_library *library;
    void *shared;
    pthread_rwlock_t gate; /* read: while admit runs */
    bool given_up;         /* under gate */
    _Atomic unsigned holds;
};

struct crypto_channel {
    struct crypto_channel_profile *profile; /* held */
    struct crypto_channel_io io;
    void *session;
    bool is_server;
    bool expects; /* a certain peer */
    bool done;
    bool has_peer;
    uint8_t expected_id[16];
    struct crypto_certificate_info peer;
    uint8_t exporter[CRYPTO_CHANNEL_EXPORTER_SIZE];
};

/* For tests: crypto_channel_profile_new with a library of their choice. */
MUST_CHECK enum err channel_profile_new(const struct channel_library *library,
                                        enum crypto_channel_mode mode,
                                        const struct crypto_identity *tls_key, struct span cert_der,
                                        struct span root_der, const char *federation,
                                        const uint8_t root_pin[32], crypto_channel_admit *admit,
                                        void *user, struct crypto_channel_profile **ret,
                                        struct err_info *reterr);

/* The rules that stand above the chain, for a certificate whose chain is good: federation, the peer that we meant, and the
 * caller's live word. Notes the peer. */
bool channel_admitted(struct crypto_channel *channel, const struct crypto_certificate_info *info);
/* A certificate as a client in an enrolment has it: the root is taken from what the server sent, and must be the pinned
 * one, of a root's shape, signed by itself, and the signer of the server's certificate, valid at NOW. */
bool channel_enrol_admitted(struct crypto_channel *channel, struct span leaf_der,
                            struct span root_der, int64_t now);

#endif
