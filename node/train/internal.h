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

/* A job in whose round this site is at work; lives on the stack of the thread that works. */
struct train_busy {
    uint8_t job_id[16];
    _Atomic bool cancel; /* the job was stopped */
    struct train_busy *next;
};

/* A job that this node coordinates. `state` is written by the job's thread under the lock; the rest of it by anybody. */
struct train_job {
    struct train_service *service;
    struct train_job_state state;
    bool running; /* its thread is alive */
    bool planned; /* the first answers of the sites are in, or it has ended */
    bool joinable;
    _Atomic bool stop; /* `train stop` */
    pthread_t thread;
    struct train_job *next;
};

struct train_service {
    struct query_context *context;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_mutex_t
        offers; /* one admission at a time, so that a plan offered twice at once is admitted once */
    struct train_job *jobs;
    struct train_busy *busy;
    size_t site_requests; /* threads of train_site_round */
    size_t site_workers;
    _Atomic bool stopping;
};

/* --- site.c's shared parts */
/* Ids of a site's reservations: one for each kind of cost of a plan. */
void train_charge_id(const char *kind, const uint8_t job_id[16], const uint8_t plan_hash[32],
                     uint8_t ret[16]);
/* Under which id a site's part is stored: not the job's own, since a coordinator may be a site as well. */
void train_part_id(const uint8_t job_id[16], uint8_t ret[16]);
MUST_CHECK enum err train_part_load(struct train_service *service, const uint8_t job_id[16],
                                    struct arena *arena, struct train_part *ret,
                                    struct err_info *reterr);

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
