/* Making homes: keys, the federation's root and charter, signed membership records, node.yaml. Used
 * by `init` and by `sandbox create`; it makes nothing that a real federation would not have. It is
 * not enrolment over the network (node/peer/enrol.h).
 *
 *     cli_provision_keys(&node, &info);                      // HOME/keyring, HOME/identity/...key
 *     cli_provision_found(&federation, "demo", &node, now, &info);
 *     cli_provision_admit(&federation, &node, now, &info);   // certificate, MEMBER and ADDRESS
 *     cli_provision_write(&node, &federation, &info);        // the rest of the home
 *
 * Threads: one. Private keys stand in memory in clear until ..._fini; on disk they are sealed. */
#ifndef CONCORDAT_NODE_CLI_PROVISION_H
#define CONCORDAT_NODE_CLI_PROVISION_H

#include "crypto/identity.h"
#include "crypto/keyring.h"
#include "node/config/node.h"
#include "proto/alloc.h"

#define CLI_UNLOCK_DEFAULT     "keyfile:unlock.key"
#define CLI_ROOT_VALID_S       (INT64_C(3650) * 86400)
#define CLI_MEMBERSHIP_VALID_S (INT64_C(365) * 86400)

struct cli_provision_node {
    const char *home;          /* absolute; made when absent */
    struct config_node config; /* name, org, ..., listen, unlock: filled by the caller */
    const char *passphrase;    /* for unlock: passphrase, or a token's PIN */
    /* made here */
    struct crypto_keyring *keyring;
    struct crypto_identity *identity;
    struct crypto_identity *tls_key;
    uint8_t id[16];
    struct buf certificate;
};

struct cli_provision_federation {
    char name[33];
    uint8_t id[16];
    struct crypto_identity *root;
    const struct cli_provision_node *founder; /* the council; borrowed */
    struct buf root_der;
    struct buf charter; /* a signed record */
    struct buf records; /* more of them, each after its length (u32, big-endian) */
};

/* Makes the home (mode 0700) and fresh keys in it, or, where `init --prepare` made them before, opens
 * those. Errors: E_EXISTS a complete node is there; E_REFUSED, E_AUTH its key file or passphrase. */
MUST_CHECK enum err cli_provision_keys(struct cli_provision_node *node, struct err_info *reterr);
/* The root's key is sealed into the founder's home. Errors: E_INVALID the federation's name. */
MUST_CHECK enum err cli_provision_found(struct cli_provision_federation *ret, const char *name,
                                        const struct cli_provision_node *founder, int64_t now,
                                        struct err_info *reterr);
MUST_CHECK enum err cli_provision_admit(struct cli_provision_federation *federation,
                                        struct cli_provision_node *node, int64_t now,
                                        struct err_info *reterr);
/* Errors: E_INVALID node.yaml would not be valid; E_IO, E_DISK_FULL. node.yaml comes last, so that a
 * home without it is not complete. */
MUST_CHECK enum err cli_provision_write(struct cli_provision_node *node, struct span root_der,
                                        struct span charter, struct span records,
                                        struct err_info *reterr);
void cli_provision_node_fini(struct cli_provision_node *node);
void cli_provision_federation_fini(struct cli_provision_federation *federation);

/* A port P of 127.0.0.1 below the ephemeral range such that P and P + 1 (for enrolment) are free. The
 * two sockets in *ret_hold keep them for the caller until it closes both.
 * Errors: E_IO none was found. */
MUST_CHECK enum err cli_provision_port(uint16_t *ret_port, int ret_hold[2],
                                       struct err_info *reterr);

#endif
