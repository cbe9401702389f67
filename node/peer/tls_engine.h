/* TLS for stock NNG sockets: an engine of our own over crypto/channel, because the one that NNG 1.5.2 brings cannot pin a
 * root by its key. The joining side of enrolment uses it; the mesh has its own sockets (sp.h). It includes no header of the TLS
 * library. A configuration names its crypto_channel_profile by a handle in the place of the certificate text; the name of
 * the server is the node id that is expected.
 *
 *     peer_tls_register(&info);                                   once, after the first socket was opened
 *     peer_tls_config(profile, false, NULL, &config, &info);      -> NNG_OPT_TLS_CONFIG of a dialer
 *
 * Threads: any. Builds with NNG 1.5 to 1.11: newer members of the engine's structs stay NULL, which NNG takes as "not
 * offered". Limits: PEER_TLS_PROFILES profiles at one time. */
#ifndef CONCORDAT_NODE_PEER_TLS_ENGINE_H
#define CONCORDAT_NODE_PEER_TLS_ENGINE_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "crypto/channel.h"

#define PEER_TLS_PROFILES 64

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

#endif
