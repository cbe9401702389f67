/* Where things lie in a node's home. Written by `init` and `sandbox create`, read by the daemon and
 * `doctor`. Paths are relative to the home; config_home_path joins them. Private keys are sealed
 * under the keyring's DEK "identity". */
#ifndef CONCORDAT_NODE_CONFIG_HOME_H
#define CONCORDAT_NODE_CONFIG_HOME_H

#include <stdbool.h>
#include <stddef.h>

#define HOME_CONFIG  "node.yaml"
#define HOME_KEYRING "keyring"
#define HOME_KEYRING_NAME                                                                          \
    "identity" /* the keyring's name for the DEK that seals the keys below   \
                                      */
#define HOME_IDENTITY_DIR "identity"
#define HOME_MAPPINGS_DIR "mappings" /* of the operator; need not be there */
#define HOME_IDENTITY_KEY                                                                          \
    "identity/identity.key" /* signs records; its first public key names the node */
#define HOME_TLS_KEY     "identity/tls.key"
#define HOME_ROOT_KEY    "identity/root.key"        /* only where the federation was founded */
#define HOME_CERTIFICATE "identity/certificate.der" /* of the TLS key */
#define HOME_ROOT        "identity/root.der"        /* the federation's root certificate */
#define HOME_CHARTER     "identity/charter" /* the signed record that this node trusts first */
#define HOME_RECORDS                                                                               \
    "identity/records" /* signed records, each after its length (u32, big-endian); put into the    \
                          store at start */
#define HOME_SOCKET        "control.sock"
#define HOME_PID           "pid"
#define HOME_LOG           "log"
#define HOME_CONSOLE_TOKEN "console.token" /* of the HTTP console; made anew at each start */
#define HOME_PREDICT_TOKEN "predict.token" /* of its inference service; the same */
#define HOME_PATH_MAX      4096

/* "HOME/NAME" into TO of HOME_PATH_MAX bytes; an absolute NAME stays. false: too long. */
bool config_home_path(const char *home, const char *name, char to[HOME_PATH_MAX]);

#endif
