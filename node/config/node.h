/* node.yaml: what one node is and how it runs. Read at start and on SIGHUP, written by `init` and `sandbox create`.
 *
 *     node: alpha                       # required, as are org and federation
 *     org: alpha
 *     org_type: nonprofit               # nonprofit | forprofit | government
 *     country: DE
 *     federation: demo
 *     listen: tls+tcp://127.0.0.1:7101  # or none: a site that only dials out
 *     advertise: tls+tcp://alpha.example:7101    # default: listen
 *     unlock: keyfile:keyfile           # keyfile:PATH (relative to the home) | passphrase | credential:NAME | pkcs11:... (unlock.h)
 *     commercial: false                 # absent: unknown, and clauses that need it refuse
 *     ontology: mondo.obo               # OBO, or child TAB parent lines; absent: the small one that is shipped; none: only what is listed
 *     methods_on_ds: allow              # deny: no development of methods alone on data for one disease
 *     seeds: ["tls+tcp://127.0.0.1:7102"]
 *     people:
 *       - {user: root, id: operator, roles: [operator, analyst]}
 *       - {uid: 1000, id: ada, roles: [analyst]}
 *     budget:
 *       institution_share: 0.5          # of each dataset's budget; these are the defaults
 *       person_share: 1
 *       project_share: 1
 *       domains:                        # absent: a domain has the largest budget of its datasets
 *         - {name: default, epsilon_total: 10, delta: 1e-6}
 *     release_tick_ms: 100
 *     log_level: info
 *     limits: {query_timeout_ms: 30000, requests_per_second: 400, scan_limit_ms: 600000}
 *     training: {cores: 4, hours: "20:00-06:00"} # rounds only then (local time), on so many cores; absent: always, on all
 *     trainers:                                  # programs that jobs may name (doc/trainer.md); read at start only
 *       - {name: mlp, program: [/usr/lib/concordat/trainer-mlp], memory_mb: 4096, jit: false, read: [/opt/models]}
 *     approvals: {pending: 7d, valid: 30d}       # how long a request waits for a person, how long a decision stands
 *     console: {listen: "127.0.0.1:7480"}        # HTTP for the operator and for metrics; without it there is none
 *                                                # predict: true: and for programs that want a model's answers
 *     notify: {command: [/usr/local/bin/tell, --urgent], timeout: 10s}   # run with the event's name and id behind
 *
 * The home is not part of it: paths are relative to the directory that holds the file.
 * Threads: read-only once read. Memory: lists and strings belong to the structure's arena. */
#ifndef CONCORDAT_NODE_CONFIG_NODE_H
#define CONCORDAT_NODE_CONFIG_NODE_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/manifest.h"

#define CONFIG_NODE_SEEDS_MAX         64
#define CONFIG_NODE_PEOPLE_MAX        256
#define CONFIG_NODE_NOTIFY_MAX        16
#define CONFIG_NODE_DOMAINS_MAX       64
#define CONFIG_NODE_TRAINERS_MAX      32
#define CONFIG_NODE_TRAINER_ARGUMENTS 16
#define CONFIG_NODE_TRAINER_READ      16

enum config_role {
    CONFIG_ROLE_OPERATOR = 1 << 0,
    CONFIG_ROLE_COORDINATOR = 1 << 1,
    CONFIG_ROLE_ANALYST = 1 << 2,
    CONFIG_ROLE_AUDITOR = 1 << 3,
};

enum config_log_level {
    CONFIG_LOG_ERROR,
    CONFIG_LOG_WARN,
    CONFIG_LOG_INFO,
    CONFIG_LOG_DEBUG,
};

struct config_person {
    uint64_t uid; /* one of uid and user is given */
    bool has_uid;
    const char *user; /* a Unix user name, or NULL */
    const char *id;
    unsigned roles; /* bits of enum config_role */
};

struct config_seeds {
    const char **items;
    size_t count;
};

/* budget: how much of a dataset's budget one of them may take, 0 to 1. */
struct config_shares {
    double institution;
    double person;
    double project;
};

/* A domain of privacy units: datasets that may hold the same people share its budget. */
struct config_domain {
    const char *name; /* "default": of all datasets whose manifest names no other */
    double epsilon_total;
    double delta;
};

struct config_limits {
    uint64_t query_timeout_ms;
    uint64_t requests_per_second; /* of one peer; bursts of twice as many pass */
    uint64_t scan_limit_ms;       /* of the scan for one question, whoever asks */
};

struct config_approvals {
    uint64_t pending_ms;
    uint64_t valid_ms;
};

/* When and with how much of the machine this site trains for others and itself. */
struct config_training {
    uint64_t cores; /* 0: all */
    char hours[12]; /* "20:00-06:00", local time; "": always */
};

/* A program of this site's operator that trains in a cell of its own (node/train/confine.h). */
struct config_trainer {
    const char *name;
    const char **program; /* an absolute path, and arguments */
    size_t program_count;
    uint64_t memory_mb; /* of its address space; default 4096 */
    bool jit;           /* it may make machine code */
    const char **read;  /* absolute paths that it may read besides /usr, /lib and /bin */
    size_t read_count;
};

/* A program that tells people that something waits; no shell, and nothing of the data in its arguments. */
struct config_notify {
    const char **command;
    size_t count; /* 0: none */
    uint64_t timeout_ms;
};

struct config_node {
    char node[65];
    char org[65];
    char org_type[12];
    char country[3];
    char federation[33];
    char listen[256]; /* "tls+tcp://HOST:PORT" or "none" */
    char advertise[256];
    char unlock[512];
    bool has_commercial;
    bool commercial;
    char ontology[256]; /* relative to the home; read at start only */
    bool methods_on_ds_denied;
    struct config_seeds seeds;
    struct config_person *people;
    size_t person_count;
    struct config_shares shares;
    struct config_domain *domains;
    size_t domain_count;
    uint64_t release_tick_ms; /* times of answers are rounded up to it */
    enum config_log_level log_level;
    struct config_limits limits;
    struct config_approvals approvals;
    struct config_training training;
    struct config_notify notify;
    struct config_trainer *trainers; /* read at start only */
    size_t trainer_count;
    char console[64];         /* "ADDRESS:PORT", read at start only; "": none */
    bool console_predict;     /* and its inference service, which answers for this purpose: */
    char console_purpose[32]; /* "DUO:0000042"; "": what is on record, see node/control/models.h */
    char console_project[65];
    struct proto_text_list console_diseases;
    struct arena arena;
};

/* Sets every default; reading starts from it, and so do the writers of a new home. */
void config_node_defaults(struct config_node *node);
/* Errors: E_INVALID with the text "people[0].roles: ...". */
MUST_CHECK enum err config_node_check(const struct config_node *node, struct err_info *reterr);
/* Writes PATH whole (a new file, synced, then renamed), mode 0600; it reads back equal.
 * Errors: E_INVALID when NODE does not pass the check; E_IO, E_DISK_FULL; E_NO_MEMORY. On failure
 * the old file is intact. */
MUST_CHECK enum err config_node_write(const char *path, const struct config_node *node,
                                      struct err_info *reterr);
/* The same text into a buffer. */
MUST_CHECK enum err config_node_format(const struct config_node *node, struct buf *ret);
void config_node_fini(struct config_node *node);

/* "HH:MM-HH:MM" as minutes of the day; false when it has another form. */
bool config_hours(const char *text, uint32_t *ret_from, uint32_t *ret_to);
/* Splits "tls+tcp://HOST:PORT"; a host in brackets is an IPv6 address and is returned without them.
 * False when it has another form. */
bool config_url_split(const char *url, char host[254], uint16_t *ret_port);
const char *config_role_name(enum config_role role);

#endif
