/* TLS for NNG: an engine of our own over crypto/channel, because the one that NNG 1.5.2 brings cannot tell who the peer
 * is. It includes no header of the TLS library. A configuration names its crypto_channel_profile by a handle in the
 * place of the certificate text; the name of the server is the node id that is expected.
 *
 *     peer_tls_register(&info);                                   once, after the first socket was opened
 *     peer_tls_config(profile, true, NULL, &config, &info);       -> NNG_OPT_TLS_CONFIG of a listener
 *     in pipe_notify(ADD_PRE):  if (!peer_tls_identity(pipe, &who)) { nng_pipe_close(pipe); }
 *
 * How the identity reaches the pipe: asking a pipe for NNG_OPT_TLS_VERIFIED makes NNG call the engine on the same thread
 * for exactly this connection; the engine leaves what it knows in a thread-local.
 * Threads: any. Builds with NNG 1.5 to 1.11: newer members of the engine's structs stay NULL, which NNG takes as "not
 * offered". Limits: PEER_TLS_PROFILES profiles at one time. */
#ifndef CONCORDAT_NODE_PEER_TLS_ENGINE_H
#define CONCORDAT_NODE_PEER_TLS_ENGINE_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "crypto/channel.h"

#define PEER_TLS_PROFILES 64

struct peer_tls_identity {
    bool
        enrolling; /* an enrolment connection: there is no certificate of the other side, or it is the root holder's */
    struct crypto_certificate_info certificate;
    uint8_t exporter[CRYPTO_CHANNEL_EXPORTER_SIZE];
};

/* Errors: E_IO NNG refused the engine. Further calls do nothing. */
MUST_CHECK enum err peer_tls_register(struct err_info *reterr);

/* PROFILE must outlive every connection made by the config; the handle is given back by peer_tls_forget. EXPECTED (32
 * hexadecimal digits) is required for a mesh client. Free with nng_tls_config_free.
 * Errors: E_LIMIT too many profiles, E_NO_MEMORY. */
MUST_CHECK enum err peer_tls_config(const struct crypto_channel_profile *profile, bool server,
                                    const char *expected, nng_tls_config **ret,
                                    struct err_info *reterr);
/* When no connection or config uses PROFILE any more. */
void peer_tls_forget(const struct crypto_channel_profile *profile);

/* Allowed inside pipe_notify. false: the handshake is not done or it is not our engine's connection. */
bool peer_tls_identity(nng_pipe pipe, struct peer_tls_identity *ret);

#endif
