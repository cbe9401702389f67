/* One operation in the daemon: who asks, with which arguments, and how it answers.
 *
 *     static enum err peers(struct control_call *call, json_t **ret, struct err_info *reterr);
 *
 * A handler runs on a thread of its own and may block. It returns the JSON that contract states, or an error; the
 * dispatcher makes the error document. Threads: a call belongs to its thread. */
#ifndef CONCORDAT_NODE_CONTROL_CALL_H
#define CONCORDAT_NODE_CONTROL_CALL_H

#include "node/control/node.h"
#include "proto/control.h"
#include "proto/operation.h"

#include <jansson.h>

struct control_call {
    struct node *node;
    const struct proto_operation *operation;
    const struct proto_control_request *request;
    char person[128]; /* from people: in node.yaml, by the socket's uid */
    unsigned roles;
    uint32_t uid;
    uint32_t gid;
    int socket;
    struct span
        body; /* what a program sent over HTTP in place of a file; SPAN_NONE from the command */
    struct control_kept *kept; /* of a service that answers again and again; NULL: none */
    struct arena arena;
    json_t *error_sites;   /* a handler may leave sites here for its error document, */
    json_t *error_rejects; /* or the rows that an import rejected */
    json_t *answer;        /* what the handler returned; the dispatcher's */
    bool cancelled;
};

#define CONTROL_PREDICT_S 60 /* that a service's answer may take */

/* The model that was asked last, ready to answer. Zero but for the initialised lock; several threads may share it. */
struct control_kept {
    pthread_mutex_t lock;
    uint8_t hash[32];
    struct model_predictor *predictor;
};

typedef enum err control_handler(struct control_call *call, json_t **ret, struct err_info *reterr);

/* The argument's value, or NULL when it was not given; lives in the call's arena. */
const char *control_text(struct control_call *call, const char *name);
/* The same for a number; FALLBACK when it was not given. */
double control_number(struct control_call *call, const char *name, double fallback);
bool control_flag(struct control_call *call, const char *name);
uint64_t control_duration_ms(struct control_call *call, const char *name, uint64_t fallback);
/* --since as unix seconds; 0 when it was not given. */
int64_t control_since(struct control_call *call);
/* "a,b,c" split; none when the option was not given. Errors: E_USAGE there are more than CAP; E_NO_MEMORY. */
MUST_CHECK enum err control_list(struct control_call *call, const char *name, const char **to,
                                 size_t cap, size_t *ret_count, struct err_info *reterr);

/* Shows progress; also looks whether the command has gone or sent CANCEL. */
void control_progress(struct control_call *call, const char *text, uint64_t done, uint64_t total);
/* For callbacks that ask: true once the command has cancelled or the node is stopping. USER is the call. */
bool control_cancelled(void *user);

/* Opens PATH for reading only if the person behind the call could: the daemon must not lend its rights. -1 with reterr. */
int control_open(struct control_call *call, const char *path, struct err_info *reterr);

/* The whole of such a file of at most MAX bytes, appended to TO. Errors: as above; E_LIMIT; E_IO. */
MUST_CHECK enum err control_read(struct control_call *call, const char *path, size_t max,
                                 struct buf *to, struct err_info *reterr);

/* Appends an administrative act to the audit chain: {"person": ..., then pairs of texts, NULL at the end}. */
MUST_CHECK enum err control_audit(struct control_call *call, const char *kind,
                                  struct err_info *reterr, ...);

/* JSON helpers: RFC 3339, hexadecimal, spans. */
json_t *control_json_time(int64_t unix_s);
json_t *control_json_hex(const void *bytes, size_t len);
json_t *control_json_span(struct span text);
json_t *control_json_texts(const struct proto_list *texts);
/* rho in nano units as a decimal number of rho. */
json_t *control_json_nano(uint64_t nano);

#endif
