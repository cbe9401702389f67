/* What both sides of enrolment share: the messages, and how MEMBER, ADDRESS and CHARTER records are made. */
#ifndef CONCORDAT_NODE_PEER_ENROL_INTERNAL_H
#define CONCORDAT_NODE_PEER_ENROL_INTERNAL_H

#include "crypto/certificate.h"
#include "node/peer/enrol.h"
#include "proto/body.h"

#define ENROL_DOMAIN        "concordat1-enrol"
#define ENROL_RECORDS_MAX   ((size_t)900 << 10)
#define ENROL_CERTIFICATE_S ((int64_t)90 * 86400)
#define ENROL_MEMBER_S      ((int64_t)365 * 86400)
#define ENROL_ROOT_S        ((int64_t)3650 * 86400)
#define ENROL_CLOCK_S                                                                              \
    ((int64_t)300) /* certificates begin a little earlier, for clocks that are behind */

struct enrol_request {
    uint64_t v;
    struct span token; /* text */
    struct span point; /* identity key */
    struct span csr;   /* of the TLS key */
    struct span address_record;
    struct span signature; /* identity key, over enrol_signed */
};
struct enrol_reply {
    uint64_t v;
    struct span certificate;
    struct span charter;
    struct span records;
};
extern const struct proto_message enrol_request_message, enrol_reply_message;

/* What the identity key signs: token | csr | address record, each after its length. */
MUST_CHECK enum err enrol_signed(const struct enrol_request *request, struct buf *out);

struct enrol_names {
    const char *name, *org, *org_type, *country, *role;
    const uint8_t *point;    /* identity */
    const uint8_t *tls_spki; /* SHA-256 */
};
/* The MEMBER body, signed by COUNCIL as one seat. */
MUST_CHECK enum err enrol_member_body(const struct enrol_names *names,
                                      const struct crypto_identity *council,
                                      const uint8_t federation_id[16], int64_t now, struct buf *out,
                                      struct err_info *reterr);
/* A first version of a record, signed by ISSUER. */
MUST_CHECK enum err enrol_record(const struct crypto_identity *issuer,
                                 const uint8_t federation_id[16], uint64_t kind,
                                 const char *key_name, struct span body, int64_t now,
                                 struct buf *out, struct err_info *reterr);
MUST_CHECK enum err enrol_address_record(const struct crypto_identity *issuer,
                                         const uint8_t federation_id[16], const char *listen,
                                         int64_t now, struct buf *out, struct err_info *reterr);
/* Appends (length u32 | record). */
MUST_CHECK enum err enrol_records_add(struct buf *records, struct span record);
#define ENROL_ADDRESS_KEY "address"
#define ENROL_CHARTER_KEY "charter"

#endif
