/* Who belongs to the federation: the charter's council, and the members that it signed, with their addresses. Filled by
 * signed records only; nothing that happens on the network removes a member.
 *
 *     peer_directory_charter(directory, charter_bytes, &info);          the one that came with enrolment
 *     verdict = peer_directory_judge(directory, record_bytes);          signature and, for MEMBER, CHARTER, REVOKE, the council's
 *     change = peer_directory_apply(directory, record_bytes);           after it was stored
 *
 * A MEMBER counts with at least `threshold` signatures of different council seats over its body, under an envelope of
 * any known issuer. An expulsion is a REVOKE with as many signatures whose issuer is the expelled node and whose key is
 * zero; it is for good. Records of an expelled node are still accepted, so that all nodes keep one set; they give it
 * nothing.
 *
 * A charter follows the one whose epoch is one less and whose hash it names, when as many of the old council as that one
 * asks for and as many of its own have signed it. What an older council signed before its charter was replaced counts for
 * PEER_COUNCIL_GRACE_MS more, so that nodes that were away take it from each other; after that it is taken only with
 * enrolment.
 *
 * Threads: any; one lock inside, never held while a signature is checked. Limits: PEER_MEMBERS_MAX, 16 seats. */
#ifndef CONCORDAT_NODE_PEER_DIRECTORY_H
#define CONCORDAT_NODE_PEER_DIRECTORY_H

#include "crypto/certificate.h"
#include "node/peer/peer.h"
#include "proto/body.h"
#include "proto/gossip.h"

#define PEER_COUNCIL_MAX      16
#define PEER_COUNCIL_GRACE_MS (INT64_C(30) * 86400 * 1000)

struct peer_directory;

MUST_CHECK enum err peer_directory_new(const uint8_t federation_id[16], const uint8_t self[16],
                                       struct peer_directory **ret);
void peer_directory_free(struct peer_directory *directory);

/* Trusts this record without asking anybody. Errors: E_CORRUPT it is no charter; E_AUTH another federation's, or not
 * signed by its own council. */
MUST_CHECK enum err peer_directory_charter(struct peer_directory *directory, struct span record,
                                           struct err_info *reterr);
enum proto_gossip_verdict peer_directory_judge(struct peer_directory *directory,
                                               struct span record);

struct peer_directory_change {
    int member; /* index, or -1: nothing about members changed */
    bool added;
    bool revoked; /* just now */
    bool tls_key; /* another TLS key is bound now */
    bool address;
};
struct peer_directory_change peer_directory_apply(struct peer_directory *directory,
                                                  struct span record);

/* Known, not expelled, within its membership at NOW, and this TLS key is bound to it. */
bool peer_directory_admits(struct peer_directory *directory,
                           const struct crypto_certificate_info *who, int64_t now);

size_t peer_directory_count(struct peer_directory *directory);
/* Indexes are stable while the process lives. */
bool peer_directory_get(struct peer_directory *directory, size_t index, struct peer_member *ret);
int peer_directory_find(struct peer_directory *directory, const uint8_t id[16]);
/* What the loop knows of a link, shown in snapshots. */
void peer_directory_seen(struct peer_directory *directory, size_t index, enum peer_state state,
                         int64_t last_seen, int64_t certificate_until);
void peer_directory_root(struct peer_directory *directory, size_t index, bool equal,
                         uint64_t count);

/* How far a member's clock is ahead of ours; then the median over those that are up, and how many they are. */
void peer_directory_clock(struct peer_directory *directory, size_t index, int64_t ahead_ms);
size_t peer_directory_clocks(struct peer_directory *directory, int64_t *ret_ahead_ms);

struct peer_council {
    size_t seats;
    uint64_t threshold;
    uint64_t epoch;
    uint8_t charter_id[16]; /* of SHA-256 of the charter without its signatures */
    struct {
        uint8_t id[16];
        uint8_t point[65];
    } seat[PEER_COUNCIL_MAX];
};
void peer_directory_council(struct peer_directory *directory, struct peer_council *ret);
/* Of the charter in its bytes; false: too many seats. */
bool peer_council_of(const struct proto_charter *charter, struct peer_council *ret);
/* Different seats of COUNCIL that signed BYTES. */
uint64_t peer_council_signatures(const struct peer_council *council, const char *domain,
                                 const uint8_t federation_id[16], struct span bytes,
                                 const struct proto_list *signatures);

#endif
