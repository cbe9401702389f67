/* What the files of a coordinator's side share; nobody else includes it.
 * prepare.c: from a job file to a plan. offers.c: the plan at the sites. ask.c: several sites at once. figures.c: what evaluations
 * say. coordinator.c: the rounds. */
#ifndef CONCORDAT_NODE_TRAIN_COORDINATOR_INTERNAL_H
#define CONCORDAT_NODE_TRAIN_COORDINATOR_INTERNAL_H

#include "node/train/internal.h"

#define OFFER_TIMEOUT_MS 25000
#define LATE_OFFER_MS    5000 /* the same while a round is open, which waits for it */

/* --- ask.c */

/* One site that is asked, each by a thread of its own: a site that went away must not hold the others up until the deadline. */
struct asked {
    struct train_service *service;
    size_t site; /* index into the job's sites */
    struct peer_call call;
    struct buf request;
    uint64_t stall_ms;    /* gives up after so long without progress */
    uint64_t progress_ms; /* when it was last made */
    bool (*cancelled)(void *user);
    void *user;
    uint64_t looked_ms;
    uint64_t patience_ms;
    uint64_t gone_ms; /* since when its link is down; 0: it is up */
    uint64_t busy_ms;
    bool returned; /* it went and came back: what was sent may be lost */
    bool given_up;
    bool joinable;
    pthread_t thread;
    /* Whether the reply is the last word; NULL: any is. Called on the thread. */
    bool (*final)(struct asked *asked);
    /* of a round: what FINAL made of the reply */
    struct train_job *job;
    uint64_t number; /* of the round */
    double norm_bound;
    struct arena arena;
    struct train_update update;
    enum err err;
    char reason[64]; /* why its update was not taken; "" */
    uint64_t bytes;
    uint64_t done, total;
    bool
        taken; /* its vector became a blob of ours, which goes with this: nobody else minds it yet */
};

void asked_init(struct asked *asked, struct train_service *service, const struct train_site *site,
                size_t index, uint32_t type, uint64_t stall_ms, bool (*cancelled)(void *),
                void *user);
void asked_all(struct asked *asked, size_t count);
void asked_fini(struct asked *asked, size_t count);
/* FINAL of a round: goes on while the site works; fetches its update and checks it. */
bool asked_round(struct asked *asked);

/* --- offers.c */

MUST_CHECK enum err offers_seal(struct train_service *service, const struct train_job_state *state,
                                const struct train_site *site, bool explain, enum train_end end,
                                struct buf *out, struct err_info *reterr);
MUST_CHECK enum err offers_ask(struct train_service *service, struct train_job_state *state,
                               size_t index, bool explain, uint64_t timeout_ms,
                               bool (*cancelled)(void *), void *user, struct asked *asked,
                               struct err_info *reterr);
void offers_read(struct train_service *service, struct train_job_state *state, struct asked *asked,
                 bool explain);
/* Every site of SITES (bits) gives back what it did not start. One that is away keeps it reserved; it is told once. */
void offers_end(struct train_job *job, uint64_t sites, enum train_end end);
/* Distinct institutions among the sites whose bit is set. */
size_t offers_institutions(const struct train_job_state *state, uint64_t sites);
uint64_t offers_admitted(const struct train_job_state *state);
MUST_CHECK enum err offers_worst(const struct train_job_state *state, struct err_info *reterr);
/* The site that says that model or licences are not those of the plan; NULL: none does. Then the job must not begin. */
const struct train_site *offers_contradicted(const struct train_job_state *state);

/* --- figures.c */

/* What one site gave: checked, and not counted before the round is closed. */
struct heard {
    bool updated;
    uint8_t hash[32]; /* of its update, which is a blob of ours */
    double *bins;     /* of the histograms; NULL: none */
    bool evaluated;
    double sums[TRAIN_SUMS_MAX];
};

/* A round, or the last evaluation: what was asked and heard, and then the sums over those who took part. */
struct outcome {
    uint64_t number; /* of the round; 0: none is open */
    bool evaluate;
    uint64_t asked; /* bits of sites */
    struct heard heard[TRAIN_SITES_MAX];
    uint64_t bytes_up, bytes_down;
    struct train_row_absent absent[TRAIN_SITES_MAX];
    size_t absent_count;
    uint64_t started_ms;
    uint64_t updated;   /* bits of sites */
    uint64_t evaluated; /* bits of sites */
    double sums[TRAIN_SUMS_MAX];
    double counts[TRAIN_SITES_MAX];
    double histograms[2 * TRAIN_BINS_MAX];
    uint64_t histogram_sites;
};

void figures_fini(struct outcome *outcome);
void figures_open(struct outcome *outcome, const struct train_job_state *state,
                  const struct train_plan *plan, uint64_t number);
/* Notes an update that was taken. Errors: E_INVALID it is no answer to what was asked. */
MUST_CHECK enum err figures_hear(const struct train_job_state *state, const struct train_plan *plan,
                                 const struct train_update *update, struct heard *heard);
/* Adds up what the sites of PARTICIPANTS gave, in the order of the sites. */
void figures_add(const struct train_job_state *state, const struct train_plan *plan,
                 uint64_t participants, struct outcome *outcome);
/* Whoever was asked for figures is counted as having spent them, whether its answer arrived or not. */
void figures_count(struct train_job_state *state, const struct outcome *outcome, bool histogram);
/* Evaluations are of the weights that were sent: the result of the round before. */
void figures_note(struct train_job_state *state, const struct train_plan *plan,
                  const struct outcome *outcome);
/* Of the site that spent most. */
double figures_spent(struct train_job_state *state);

#endif
