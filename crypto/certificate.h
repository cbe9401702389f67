/* X.509 of the federation: a self-signed root, certificate requests, and node certificates. DER in, DER out.
 *
 *     struct buf der = {.max = CRYPTO_CERTIFICATE_MAX};
 *     crypto_certificate_root(root, "alpine", from, until, &der, &info);
 *     crypto_certificate_issue(root, root_der, csr, "alpine", "clinic-a", id, from, until, &leaf, &info);
 *     crypto_certificate_verify(leaf, root_der, now, &facts, &info);
 *
 * A node certificate carries exactly two names: DNS = node id in hexadecimal, URI = concordat://FEDERATION/ORG/ID; it is
 * not a CA, KU digitalSignature, EKU server and client. The root is a P-256 CA with pathlen 0, one URI name
 * concordat://FEDERATION, KU keyCertSign and cRLSign. Nothing but the key is taken from a request. Revocation is not
 * here: the caller's admit function looks at live membership.
 * Threads: any; nothing is shared. Limits: federation 1 to 32, organisation 1 to 64 bytes of [A-Za-z0-9._-]; a
 * certificate or request is at most CRYPTO_CERTIFICATE_MAX bytes. No clock is read: times are arguments. */
#ifndef CONCORDAT_CRYPTO_CERTIFICATE_H
#define CONCORDAT_CRYPTO_CERTIFICATE_H

#include "crypto/identity.h"
#include "proto/alloc.h"

#define CRYPTO_CERTIFICATE_MAX ((size_t)4096)

struct crypto_certificate_info {
    uint8_t node_id[16];
    char federation[33];
    char org[65];
    uint8_t point[65];
    uint8_t spki_hash[32];
    uint8_t serial[20];
    size_t serial_len;
    int64_t not_before;
    int64_t not_after;
};

/* All writers append to ret_der (its max must allow it) and leave it unchanged on failure.
 * Errors: E_INVALID a name or a time; E_LIMIT; E_INTERNAL the library failed. */
MUST_CHECK enum err crypto_certificate_root(const struct crypto_identity *root,
                                            const char *federation, int64_t from, int64_t until,
                                            struct buf *ret_der, struct err_info *reterr);
/* A request (PKCS #10), signed by the key it is for. */
MUST_CHECK enum err crypto_certificate_request(const struct crypto_identity *tls_key,
                                               struct buf *ret_der, struct err_info *reterr);
/* Errors also: E_AUTH the request is not signed by its own key, or ROOT is not the key of root_der. */
MUST_CHECK enum err crypto_certificate_issue(const struct crypto_identity *root,
                                             struct span root_der, struct span csr_der,
                                             const char *federation, const char *org,
                                             const uint8_t node_id[16], int64_t from, int64_t until,
                                             struct buf *ret_der, struct err_info *reterr);

/* Reads a node certificate and demands the shape above; no signature is checked.
 * Errors: E_INVALID, E_LIMIT. On failure *ret is unchanged. */
MUST_CHECK enum err crypto_certificate_parse(struct span der, struct crypto_certificate_info *ret,
                                             struct err_info *reterr);
/* Also: signed by this root, of the root's federation, and valid at NOW (unix seconds).
 * Errors: E_AUTH. */
MUST_CHECK enum err crypto_certificate_verify(struct span der, struct span root_der, int64_t now,
                                              struct crypto_certificate_info *ret,
                                              struct err_info *reterr);
/* Reads the federation's name from a root of the shape above and checks its own signature. Errors: E_INVALID, E_AUTH. */
MUST_CHECK enum err crypto_certificate_root_parse(struct span root_der, char ret_federation[33],
                                                  uint8_t ret_point[65], struct err_info *reterr);
/* The P-256 point of a SubjectPublicKeyInfo or of a certificate; it lies on the curve. Errors: E_INVALID. */
MUST_CHECK enum err crypto_certificate_point(struct span spki_or_cert_der, uint8_t ret_point[65]);

#endif
