/* Training jobs of one node: those it coordinates, and its part as a site in the jobs of others.
 *
 *     err = train_service_new(&context, &service, reterr);     at start; jobs that were running are now `waiting`
 *     peer_handle(peer, PEER_MSG_TRAIN_PLAN, 0, train_site_plan, service);  ... ROUND, STOP alike
 *     err = train_start(service, &job, yaml, person, job_id, reterr);       a thread of its own drives the rounds
 *     train_service_stop(service);                              running jobs leave off; they can be resumed
 *
 * A job's state (plan, round, term, weights, history) is durable after each round, before the next is asked for; a killed
 * coordinator loses no finished round. A job that has standbys (its plan names them) goes on at one of them by itself when its
 * coordinator is gone, and is stopped and resumed at any of them. Threads: any. Limits: TRAIN_JOBS_MAX running at a time. */
#ifndef CONCORDAT_NODE_TRAIN_SERVICE_H
#define CONCORDAT_NODE_TRAIN_SERVICE_H

#include "node/query/context.h"
#include "node/train/message.h"
#include "proto/job.h"

#define TRAIN_JOBS_MAX 16

enum train_state {
    TRAIN_RUNNING,
    TRAIN_DONE,
    TRAIN_FAILED,
    TRAIN_STOPPED,
    TRAIN_WAITING, /* interrupted: `train resume` goes on */
};

struct train_site_view {
    char node[33];
    /* "admitted", "refused", "unreachable", "absent"; once the job has ended, instead of "admitted": "done", "stopped" with it, or
     * "left", a job that failed. */
    char state[16];
    bool admitted; /* and neither absent nor refused since */
    char reason[64];
    char detail[256];
    double sigma, rate;
    uint64_t size, steps, cost_nano, cap_nano, spent_nano, account_delta_e12;
    double epsilon;
    uint64_t done, total; /* of the open round's steps, as the site says; total 0: bytes fetched */
    const struct query_clause *clauses; /* of train_explain */
    size_t clause_count;
};

struct train_absent {
    char node[33];
    char reason[64];
};

struct train_round_view {
    uint64_t round;
    bool evaluated;
    double eval_loss, accuracy, auc;          /* noisy, released; NAN: not known; see state.h */
    double eval_loss_margin, accuracy_margin; /* 95 %, of the noise alone */
    uint32_t types; /* of entities or classes; their names stand in the view */
    double type_counts[TRAIN_TYPES_MAX][3]; /* matched, predicted, gold; noisy */
    double type_sigma;                      /* standard deviation of each; 0: exact */
    double epsilon; /* spent so far, of the site that spent most; NAN: without noise */
    uint64_t term;
    uint8_t mean[32], weights[32]; /* blobs: of the updates, and after the server's step */
    uint64_t bytes_up, bytes_down;
    double seconds; /* rounded up to the round tick */
    size_t participant_count, absent_count;
    char (*participants)[33];
    struct train_absent *absent;
};

/* The figures of a round of a table, under the names that its task gives them: accuracy and auc; rmse and r2; concordance.
 * Returns how many. TASK as proto_task_name. */
struct train_named {
    const char *name;
    double value;
};
#define TRAIN_NAMED_MAX 4
size_t train_figures_name(const char *task, double scale, const struct train_round_view *round,
                          struct train_named ret[TRAIN_NAMED_MAX]);

/* A snapshot; everything lives in the arena. */
struct train_view {
    struct arena arena;
    uint8_t id[16];
    char name[65];
    char dataset[65];
    char task[32];
    char coordinator[33];
    char person[129];
    enum train_state state;
    char error[512];
    enum err error_code;
    uint64_t round, rounds;
    int64_t started;
    bool noise;
    double epsilon, delta;
    double
        scale; /* of a regression: half of its target's range, in which its loss is counted; else 0 */
    uint32_t type_count;
    const char *types[TRAIN_TYPES_MAX];
    size_t site_count, history_count;
    struct train_site_view *sites;
    struct train_round_view *history;
    char model[65]; /* "" until done */
};

struct train_service;
MUST_CHECK enum err train_service_new(struct query_context *context, struct train_service **ret,
                                      struct err_info *reterr);
/* Takes nothing new and tells running jobs and rounds to leave off; returns at once and may be called again. */
void train_service_stop(struct train_service *service);
/* How many threads are still at work; 0 some time after train_service_stop, while the peer goes on. */
size_t train_service_busy(struct train_service *service);
/* Waits for the threads; they end soon once the peer was stopped or train_service_busy is 0. */
void train_service_free(struct train_service *service);

/* JOB is checked. YAML is kept with the job. Returns when the sites have answered the plan; rounds go on in the background.
 * RET_ID is set once there is a job, also when it failed at once because too few sites admitted it: the error is then the one
 * that decides (query_worst), and train_show tells why each site said no. A job of which too few sites may take part until
 * their people approve it is no error: it is TRAIN_WAITING, and train_resume asks them again.
 * Errors: E_NOT_FOUND no such dataset; E_SCHEMA a column; E_UNSUPPORTED; E_LIMIT too many jobs; E_IO; those of sites. */
MUST_CHECK enum err train_start(struct train_service *service, const struct proto_job *job,
                                struct span yaml, const char *person, uint8_t ret_id[16],
                                struct err_info *reterr);
/* Asks every site what it would say; nothing is reserved. VIEW is freed by the caller with train_view_fini. */
MUST_CHECK enum err train_explain(struct train_service *service, const struct proto_job *job,
                                  const char *person, struct train_view *ret,
                                  struct err_info *reterr);
/* ID may be a prefix of at least 6 hexadecimal digits. Errors: E_NOT_FOUND. */
MUST_CHECK enum err train_find(struct train_service *service, const char *id, uint8_t ret_id[16],
                               struct err_info *reterr);
MUST_CHECK enum err train_show(struct train_service *service, const uint8_t id[16],
                               struct train_view *ret, struct err_info *reterr);
void train_view_fini(struct train_view *view);
/* Waits at most MS for anything to change in any job. */
void train_wait(struct train_service *service, uint64_t ms);
/* Every job that this node coordinates, then those that it takes part in, each newest first; stops at the first error. */
typedef enum err train_fn(void *user, const struct train_view *view);
MUST_CHECK enum err train_each(struct train_service *service, train_fn *each, void *user,
                               struct err_info *reterr);
/* Errors: E_NOT_FOUND; E_INVALID it has ended. */
MUST_CHECK enum err train_stop(struct train_service *service, const uint8_t id[16],
                               struct err_info *reterr);
/* Errors: E_NOT_FOUND; E_INVALID it is running, done, or was stopped (its steps were given back); E_LIMIT. */
MUST_CHECK enum err train_resume(struct train_service *service, const uint8_t id[16],
                                 struct err_info *reterr);

/* This site takes no part in rounds, of any job, until it is allowed again; kept over restarts. A round under way leaves off.
 * Errors: those of the store. */
MUST_CHECK enum err train_pause(struct train_service *service, bool paused,
                                struct err_info *reterr);
bool train_paused(struct train_service *service);

/* Computes the job again from its first weights and the mean of each round that is on disk, and compares.
 * Errors: E_NOT_FOUND we do not coordinate it, or a mean was not kept; E_CORRUPT a round leads elsewhere; those of the store. */
MUST_CHECK enum err train_verify(struct train_service *service, const uint8_t id[16],
                                 uint64_t *ret_rounds, uint8_t ret_weights[32],
                                 struct err_info *reterr);
/* A member's licence of a dataset was withdrawn or forked (KEY: proto_record_key of its name), or the member was expelled
 * (KEY: zeros): jobs that this node coordinates with it stop for good, and rounds of others' jobs with it are left off. */
void train_withdrawn(struct train_service *service, const uint8_t issuer[16],
                     const uint8_t key[16]);

/* Handlers of PEER_MSG_TRAIN_PLAN, _ROUND, _STOP and of PEER_MSG_BLOB_GET (a model's weights, for members that its licence names). */
void train_site_plan(struct peer_request *request, void *user);
void train_site_round(struct peer_request *request, void *user);
void train_site_stop(struct peer_request *request, void *user);
void train_lease(struct peer_request *request, void *user); /* PEER_MSG_TRAIN_LEASE */
void train_blob_get(struct peer_request *request, void *user);

/* The weights document (JSON) of a MODEL record: from our own store, else fetched from ISSUER, verified and kept. */
MUST_CHECK enum err train_model_fetch(struct train_service *service, const uint8_t issuer[16],
                                      const uint8_t weights_hash[32], uint64_t size,
                                      struct buf *ret, struct err_info *reterr);

/* The model DOCUMENT of those weights, whose heads are personal, with the head that this node kept when it took part.
 * Errors: E_UNSUPPORTED it keeps none; those of the store. */
MUST_CHECK enum err train_head_attach(struct train_service *service, const uint8_t weights[32],
                                      struct span document, struct buf *ret,
                                      struct err_info *reterr);
/* Deletes what this node keeps of personal heads that were trained on the dataset; rounds of them under way leave off. */
MUST_CHECK enum err train_heads_forget(struct train_service *service, const char *dataset,
                                       struct err_info *reterr);

const char *train_state_name(enum train_state state);

#endif
