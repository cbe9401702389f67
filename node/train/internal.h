/* What the files of this folder share; nobody else includes it. */
#ifndef CONCORDAT_NODE_TRAIN_INTERNAL_H
#define CONCORDAT_NODE_TRAIN_INTERNAL_H

#include "node/train/evaluate.h"
#include "node/train/service.h"
#include "node/train/state.h"

#include <pthread.h>
#include <stdatomic.h>

#define TRAIN_CLOCK_TOLERANCE_S 300
#define TRAIN_SITE_REQUESTS     32 /* rounds in our hands at one time */
#define TRAIN_SITE_WORKERS      2  /* of them with a table in memory */
#define TRAIN_FETCHING          8  /* updates that come in at one time */

/* This site's work on a round of a job; one at a time for a job. It is in the service's list until somebody took its result. All
 * but the atomic members under the lock. */
struct train_effort {
    uint8_t job_id[16];
    uint8_t requester[16];
    uint64_t round, term;
    _Atomic bool cancel; /* leave off */
    _Atomic bool look;   /* a licence or member changed: decide anew now */
    _Atomic uint64_t done, total, fetched;
    bool over; /* err and bytes are the result, which leaves at release_ms */
    uint64_t release_ms;
    enum err err;
    struct buf bytes;
    size_t refs;
    struct train_effort *next;
};

/* A vector that others may fetch from us while a job runs; see train_share_put. */
struct train_share {
    uint8_t hash[32];
    uint8_t job_id[16];
    const char
        *kind; /* under which its egress is counted; NULL: it was counted when its name was sent */
    uint8_t (*nodes)[16];
    size_t count;
    struct train_share *next;
};

/* A job that this node coordinates. `state` is written by the job's thread under the lock; the rest of it by anybody. */
struct train_job {
    struct train_service *service;
    struct train_job_state state;
    bool running; /* its thread is alive */
    bool planned; /* the first answers of the sites are in, or it has ended */
    bool joinable;
    _Atomic bool stop; /* `train stop` */
    char
        withdrawn[160]; /* why it was stopped: a site's licence or membership ended; "" otherwise */
    pthread_t thread;
    /* Of a job that several nodes may coordinate; elsewhere there is one holder. */
    struct proto_lease lease;
    uint8_t holders[PROTO_LEASE_HOLDERS][16];
    uint8_t start[32], model[32], model_base[32]; /* blobs that its plan names; zeros: none */
    bool taking;          /* somebody works on its state, which does not run here */
    _Atomic bool deposed; /* another node leads: its thread leaves off */
    struct train_job *next;
};

struct train_service {
    struct query_context *context;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_mutex_t
        offers; /* one admission at a time, so that a plan offered twice at once is admitted once */
    struct train_job *jobs;
    struct train_effort *efforts;
    struct train_share *shares;
    size_t site_requests; /* threads of train_site_round and of its works */
    size_t site_workers;
    size_t fetching; /* updates that come in just now */
    _Atomic bool stopping;
    _Atomic bool paused; /* `train pause`: kept on disk */
    pthread_t watch;     /* over the leaders of jobs that this node stands by for */
    bool watching;
};

/* --- service.c */
/* The lock is held: until something changed, at most MS. */
void train_wait_locked(struct train_service *service, uint64_t ms);
/* The lock is held, the job's thread is not running. */
MUST_CHECK enum err train_job_launch(struct train_job *job, struct err_info *reterr);

/* --- lease.c */
/* Who may coordinate, from the job's plan. Errors: E_INVALID we may not. */
MUST_CHECK enum err train_job_holders(struct train_job *job);
void train_job_blobs(struct train_job *job, const struct train_plan *plan);
/* Whether the means of all rounds stay, for `train verify`. */
bool train_keeps_means(const struct train_job_state *state);
/* Whether a job here needs the blob, and whether NODE may have it from us because it stands by for that job. */
bool train_job_names(struct train_service *service, const uint8_t hash[32]);
bool train_job_lends(struct train_service *service, const uint8_t hash[32], const uint8_t node[16]);
/* JOB, which is not running, is to be led by this node; the lock is held, and let go meanwhile. FORCE: also while another leads.
 * Errors: E_UNREACHABLE no majority; E_BUSY another node leads, or somebody is at it already. */
MUST_CHECK enum err train_lease_take(struct train_job *job, bool force, struct err_info *reterr);
MUST_CHECK enum err train_lease_watch(struct train_service *service);
void train_lease_watch_end(struct train_service *service);

/* --- keeping.c: the leader's side. One for a job that runs here; no locks are held by the caller. */
struct train_keeping;
/* RET is set also on failure, and closed by the caller. */
MUST_CHECK enum err train_keeping_open(struct train_job *job, struct train_keeping **ret);
/* Errors: E_LIMIT a state above TRAIN_STATE_MAX. */
MUST_CHECK enum err train_keeping_put(struct train_keeping *keeping, struct span state,
                                      uint64_t term, uint64_t save);
/* Until a majority has what was put last. MS 0: as long as it takes. Errors: E_TIMEOUT; E_CANCELLED, also when deposed. */
MUST_CHECK enum err train_keeping_wait(struct train_keeping *keeping, uint64_t ms,
                                       bool (*cancelled)(void *), void *user);
void train_keeping_close(struct train_keeping *keeping);

/* --- site_work.c's shared parts */
/* Ids of a site's reservations: one for each kind of cost of a plan. */
void train_charge_id(const char *kind, const uint8_t job_id[16], const uint8_t plan_hash[32],
                     uint8_t ret[16]);
/* Under which id a site's part is stored: not the job's own, since a coordinator may be a site as well. */
void train_part_id(const uint8_t job_id[16], uint8_t ret[16]);
MUST_CHECK enum err train_part_load(struct train_service *service, const uint8_t job_id[16],
                                    struct arena *arena, struct train_part *ret,
                                    struct err_info *reterr);

/* --- sweep.c */
/* Removes vectors of jobs that are known here and that nothing names any more, and what writers of blobs left. Before rounds and
 * transfers begin: what they have in hand is named by nothing yet. Failures are told to the log alone. */
void train_sweep(struct query_context *context);

/* --- share.c */
/* Lets NODES (struct query_node_ref) fetch the blob until the job's shares are dropped. The same again replaces the nodes.
 * Errors: E_NO_MEMORY. */
MUST_CHECK enum err train_share_put(struct train_service *service, const uint8_t job_id[16],
                                    const uint8_t hash[32], const char *kind,
                                    const struct proto_list *nodes);
/* HASH NULL: all of the job. */
void train_share_drop(struct train_service *service, const uint8_t job_id[16], const uint8_t *hash);
void train_share_fini(struct train_service *service);
/* The record id of NODE's licence of DATASET as we know it; zeros when it has none but published the dataset. Errors:
 * E_NOT_FOUND we have not heard of the dataset there; those of the store. */
MUST_CHECK enum err train_licence_id(struct query_context *context, const uint8_t node[16],
                                     const char *dataset, uint8_t ret[16]);
/* Threads that local training may use. */
unsigned train_threads(const struct train_service *service);

/* --- limits.c: the site's own say in when it works */
/* Whether a round may be computed now; if not, RET_WHY is a text. */
bool train_may_work(const struct train_service *service, char *ret_why, size_t size);
MUST_CHECK enum err train_limits_load(struct train_service *service);

/* --- coordinator.c */
void *train_coordinator_run(void *job);
/* The plan's bytes and the list of sites from a job as declared. STATE->arena is used. */
MUST_CHECK enum err train_coordinator_prepare(struct train_service *service,
                                              const struct proto_job *job, const char *person,
                                              struct train_job_state *state,
                                              struct err_info *reterr);
/* Asks every site what it would say to the plan; nothing is reserved. */
MUST_CHECK enum err train_coordinator_explain(struct train_service *service,
                                              struct train_job_state *state,
                                              struct err_info *reterr);

/* --- model.c */
MUST_CHECK enum err train_model_publish(struct train_service *service,
                                        struct train_job_state *state, struct err_info *reterr);

#endif
