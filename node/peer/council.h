/* What the council decides with k of n signatures: members, expulsions, its own seats. A seat signs with an ENDORSE record
 * that carries what it signs; others see it by gossip and sign, too; the seat that sees enough of them publishes the result.
 * No meeting, no leader, and it does not matter if two publish it.
 *
 *     err = peer_council_propose(peer, PROTO_RECORD_REVOKE, body_bytes, id, reterr);      our own signature with it
 *     err = peer_council_each(peer, add, &list, reterr);                                  what is open
 *     err = peer_council_endorse(peer, "3fa9", id, reterr);
 *     err = peer_council_settle(peer, reterr);                                            whenever an ENDORSE came
 *
 * A proposal that did not find its signatures in PEER_PROPOSAL_S lapses. Threads: any but the loop's. */
#ifndef CONCORDAT_NODE_PEER_COUNCIL_H
#define CONCORDAT_NODE_PEER_COUNCIL_H

#include "node/peer/directory.h"

#define PEER_PROPOSAL_S    ((int64_t)30 * 86400)
#define PEER_PROPOSALS_MAX 64

struct peer_proposal {
    uint8_t id[16];
    uint64_t kind;                          /* PROTO_RECORD_MEMBER, _CHARTER or _REVOKE */
    struct span subject;                    /* its body without signatures */
    struct proto_list signatures;           /* struct proto_signature, of seats that count */
    uint64_t endorsed, threshold;           /* of the council in force */
    uint64_t next_endorsed, next_threshold; /* of a charter: of the council that it names */
    bool ours;                              /* this node has signed it */
    bool complete;
};
typedef enum err peer_proposal_fn(void *user, const struct peer_proposal *proposal);
/* Those that are open; what they point to lives as long as the call. */
MUST_CHECK enum err peer_council_each(struct peer *peer, peer_proposal_fn *each, void *user,
                                      struct err_info *reterr);
/* RET_ID may be NULL. Errors: E_ROLE this node has no seat; E_EXISTS we signed another charter for that epoch; E_INVALID. */
MUST_CHECK enum err peer_council_propose(struct peer *peer, uint64_t kind, struct span subject,
                                         uint8_t ret_id[16], struct err_info *reterr);
/* ID: 4 to 32 hexadecimal digits. Errors also: E_NOT_FOUND none, or several. */
MUST_CHECK enum err peer_council_endorse(struct peer *peer, const char *id, uint8_t ret_id[16],
                                         struct err_info *reterr);
/* Publishes what has enough signatures, of which ours is one. */
MUST_CHECK enum err peer_council_settle(struct peer *peer, struct err_info *reterr);
/* Proposes the council with NODE, or without it. Errors also: E_EXISTS, E_NOT_FOUND; E_LIMIT. */
MUST_CHECK enum err peer_council_change(struct peer *peer, const uint8_t node[16], bool add,
                                        uint8_t ret_id[16], struct err_info *reterr);
/* Proposes to admit a member, unless that is proposed already; E_APPROVAL until it is one. BODY: proto_member_encode's. */
MUST_CHECK enum err peer_council_admit(struct peer *peer, struct span body,
                                       struct err_info *reterr);
bool peer_council_seated(struct peer *peer);
/* The council in force. */
void peer_council_now(struct peer *peer, struct peer_council *ret);

#endif
