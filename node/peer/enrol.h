/* How a node gets into a federation: founding one, one-time tokens, the enrolment listener, and the joining side.
 *
 * Founder, before its daemon ever runs:
 *     peer_enrol_found(&founding, &result, &info);       // root, own certificate, charter, own MEMBER and ADDRESS
 * Inviter, in the daemon:
 *     peer_enrol_new(peer, &options, &enrol, &info);
 *     peer_enrol_invite(enrol, &invitation, token_text, sizeof token_text, &info);   // opens listen port + 1
 * Joining node, in `concordat init`:
 *     peer_enrol_join(&join, &result, &info);            // blocks; asks again while a person has to admit it
 *
 * A token is base64url of msgpack [body, signature by the root key]. It names everything that the certificate will
 * and the MEMBER record will say (name, organisation, its type and country, role): the inviter attests it, and nothing
 * but keys and an address comes from the joining side. Its nonce is burnt on disk
 * before the certificate leaves; the same key may ask again with the same token and gets the same answer, another key
 * raises an alarm. The joining side needs no trust but the token: it pins the root by the SHA-256 of its key.
 *
 * Files: the result is written by the caller. Threads: invite, admit, pending from any thread; join and found block and
 * are pure of the loop. Limits: PEER_ENROL_PENDING outstanding invitations; a token text is below PEER_TOKEN_TEXT; 32
 * connections of people who join, of which the oldest gives way. */
#ifndef CONCORDAT_NODE_PEER_ENROL_H
#define CONCORDAT_NODE_PEER_ENROL_H

#include "node/peer/peer.h"

#define PEER_TOKEN_TEXT    2048
#define PEER_ENROL_PENDING 64

/* All of it is in the token and signed. */
struct peer_token {
    char federation[33];
    uint8_t federation_id[16];
    char address[128];    /* of the enrolment listener: "tls+tcp://HOST:PORT" */
    uint8_t root_pin[32]; /* SHA-256 of the root's SPKI */
    char name[33];
    char org[65];
    char org_type[11]; /* nonprofit, forprofit or government */
    char country[3];
    char role[17];
    int64_t expires;
    uint8_t nonce[16];
    bool has_key;
    uint8_t key[32]; /* SHA-256 of the SPKI of the identity key that alone may use it */
};

/* Reads a token's text; the signature is not checked (the joining side has nothing to check it against but the pin).
 * Errors: E_INVALID, E_LIMIT. */
MUST_CHECK enum err peer_token_decode(const char *text, size_t len, struct peer_token *ret,
                                      struct err_info *reterr);
/* Also: signed by this root. Errors: E_AUTH. */
MUST_CHECK enum err peer_token_verify(const char *text, size_t len, const uint8_t root_point[65],
                                      struct peer_token *ret, struct err_info *reterr);
MUST_CHECK enum err peer_token_encode(const struct peer_token *token,
                                      const struct crypto_identity *root, char *text, size_t cap,
                                      struct err_info *reterr);

/* What a new node needs to have on disk. Free with peer_enrol_result_fini. */
struct peer_enrol_result {
    char federation[33];
    uint8_t federation_id[16];
    struct buf root;        /* DER */
    struct buf certificate; /* DER */
    struct buf charter;     /* a signed record: HOME/identity/charter */
    struct buf
        records; /* more signed records, each after its length (u32, big-endian): put them in the store */
};
void peer_enrol_result_fini(struct peer_enrol_result *result);
/* Next record of `records` from *offset on; false at the end. */
bool peer_enrol_result_next(const struct peer_enrol_result *result, size_t *offset,
                            struct span *ret);

struct peer_enrol_found_options {
    const char *federation;
    const char *name, *org, *org_type, *country;
    const char *listen;                 /* published in ADDRESS; "none" is allowed */
    const char *role;                   /* "node" when NULL */
    const struct crypto_identity *root; /* made by the caller; the holder may invite */
    const struct crypto_identity *identity;
    const struct crypto_identity *tls_key;
    int64_t now;
};
/* A federation of one: root certificate (10 years), charter with the founder as council (threshold 1), its MEMBER and
 * ADDRESS records and certificate. federation_id = SHA-256(SPKI of the root)[0:16].
 * Errors: E_INVALID a name; those of crypto. */
MUST_CHECK enum err peer_enrol_found(const struct peer_enrol_found_options *options,
                                     struct peer_enrol_result *ret, struct err_info *reterr);

struct peer_enrol_join_options {
    const char *token;  /* text, blanks at the ends are allowed */
    const char *name;   /* must be the token's */
    const char *listen; /* published in ADDRESS; "none" is allowed */
    const struct crypto_identity *identity;
    const struct crypto_identity *tls_key;
    uint64_t deadline_ms;
    void (*waiting)(
        void *user,
        const char *fingerprint); /* called once when a person must admit this key; may be NULL */
    /* Called once when the inviter at ADDRESS cannot be reached and is tried again until the deadline; may be NULL. */
    void (*trying)(void *user, const char *address);
    void *user;
};
/* Errors: E_INVALID the token or a name; E_REFUSED by the inviter (text says why); E_AUTH the other side is not this
 * federation's; E_APPROVAL not admitted within the deadline; E_UNREACHABLE; E_TIMEOUT. */
MUST_CHECK enum err peer_enrol_join(const struct peer_enrol_join_options *options,
                                    struct peer_enrol_result *ret, struct err_info *reterr);

struct peer_enrol;
struct peer_enrol_options {
    const struct crypto_identity *root; /* the root's key; borrowed until peer_enrol_free */
    struct span root_der;
    /* Something happened that belongs in the audit: "enrol.invite", "enrol.join", "enrol.admit", "enrol.alarm". Any thread. */
    void (*audit)(void *user, const char *kind, const char *text);
    void *user;
};
/* Opens again the invitations that the store still knows. Loop thread.
 * Errors: E_ROLE this node is not in the charter's council; E_APPROVAL the charter wants more than one signature. */
MUST_CHECK enum err peer_enrol_new(struct peer *peer, const struct peer_enrol_options *options,
                                   struct peer_enrol **ret, struct err_info *reterr);
/* Closes the listener. Call before peer_stop. NULL is allowed. */
void peer_enrol_free(struct peer_enrol *enrol);

struct peer_enrol_invitation {
    const char *name, *org, *role; /* role: "node" when NULL */
    const char *org_type;          /* "nonprofit" when NULL */
    const char *country;           /* this node's own when NULL */
    int64_t valid_s;               /* 0: 24 h */
    const char *key_fingerprint;   /* 64 hexadecimal digits, or NULL: pending until admitted */
    const char *address; /* HOST[:PORT] to put in the token; NULL: the listen address, port + 1 */
};
/* Errors: E_EXISTS the name is taken; E_INVALID; E_LIMIT too many outstanding; E_IO the listener cannot be opened. */
MUST_CHECK enum err peer_enrol_invite(struct peer_enrol *enrol,
                                      const struct peer_enrol_invitation *invitation, char *text,
                                      size_t cap, struct err_info *reterr);
/* NAME waits with this key fingerprint (64 hexadecimal digits): let it in.
 * Errors: E_NOT_FOUND nobody waits under that name; E_AUTH another key waits. */
MUST_CHECK enum err peer_enrol_admit(struct peer_enrol *enrol, const char *name,
                                     const char *key_fingerprint, struct err_info *reterr);

struct peer_enrol_pending {
    char name[33];
    char org[65];
    char fingerprint[65]; /* "" while nobody has come with the token */
    int64_t expires;
};
size_t peer_enrol_list(struct peer_enrol *enrol, struct peer_enrol_pending *to, size_t cap);

#endif
