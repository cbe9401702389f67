/* What a job leaves on disk: the coordinator's state after each round, and a site's part in a job. Sealed by store/job.
 *
 * Both begin with four letters that no JSON document begins with, since questions asked are kept in the same table.
 * A coordinator's state is a sequence of framed messages (u32 length | msgpack): head, the machine of proto/round.h as it
 * was then, sites, then one for each round. Vectors are blobs that it names; they are on disk before it is.
 * Threads: pure. Limits: STORE_JOB_MAX; TRAIN_SITES_MAX sites. */
#ifndef CONCORDAT_NODE_TRAIN_STATE_H
#define CONCORDAT_NODE_TRAIN_STATE_H

#include "node/train/aggregate.h"
#include "node/train/message.h"
#include "node/train/plan.h"
#include "node/train/service.h"
#include "proto/round.h"
#include "proto/round_site.h"

#define TRAIN_YAML_MAX (1 << 20)

/* A site's part. Spans point into the decoded bytes. */
struct train_part {
    uint64_t version;
    struct span job_id;      /* 16 */
    struct span plan_hash;   /* 32 */
    struct span coordinator; /* 16 */
    struct span key;         /* 16, random: picks rows and held-out units, the same in each round */
    struct span plan;
    struct span admit; /* the signed answer, for whoever offers the plan again */
    double rate;
    double sigma;
    uint64_t size;
    uint64_t steps;
    uint64_t rounds;
    uint64_t evaluations;
    uint64_t sums_nano;
    uint64_t hist_nano;
    uint64_t last_round; /* highest whose work began */
    uint64_t end;        /* enum train_end */
    int64_t time;
    uint64_t term;      /* highest of a coordinator's that was worked for */
    bool charged;       /* steps were reserved in the ledger */
    struct span update; /* 32: the blob of the last update; or empty */
    /* SCAFFOLD: blobs of c_i, and of what it becomes if the update of pending_round is counted; empty: zero, or nothing. */
    struct span control, pending;
    uint64_t pending_round;
};
MUST_CHECK enum err train_part_encode(const struct train_part *part, struct buf *out);
/* Errors: E_INVALID it is something else; those of the codec. */
MUST_CHECK enum err train_part_decode(struct span bytes, struct arena *arena,
                                      struct train_part *ret);
/* What is on disk of a site's part, as proto/round_site.h takes it; LEFT: of the reserved steps. */
void train_part_machine(const struct train_part *part, uint64_t left, struct proto_round_site *ret);
struct train_cost train_part_cost(const struct train_part *part);

/* The coordinator's view of a site. */
struct train_site {
    uint8_t id[16];
    char node[33];
    char org[65];
    bool admitted;
    enum err error; /* what decides the exit code when too few admit */
    char state[16]; /* "admitted", "refused", "unreachable", "offered" */
    char reason[64];
    char detail[256];
    uint8_t licence_id[16];
    uint64_t release;
    char duties[512];       /* separated by blanks */
    struct train_cost cost; /* by our own arithmetic on what the site declared */
    uint64_t size;
    uint64_t cost_nano, cap_nano, spent_nano, account_delta_e12;
    uint64_t steps_started, evaluations, histograms, rounds;
    uint64_t done, total; /* of the open round, as the site says; not stored */
    double epsilon;
    uint64_t counts;
    double
        count_sum; /* its noisy numbers of held-out rows, added up over COUNTS evaluations: their mean is less noisy */
    const struct query_clause *clauses; /* of explain; not stored */
    size_t clause_count;
};

struct train_round_row {
    uint64_t round;
    bool evaluated;
    /* NAN: not known. accuracy: of a regression R^2; auc: of a survival model the concordance. */
    double loss, loss_margin, accuracy, accuracy_margin, auc;
    /* Of entity types or classes, in the order of train_plan_types: matched, predicted, gold over all sites, noisy; TYPE_SIGMA is
     * the standard deviation of each. */
    uint32_t types;
    double type_counts[TRAIN_TYPES_MAX][3];
    double type_sigma;
    double epsilon; /* NAN: without noise */
    uint64_t bytes_up, bytes_down;
    double seconds;
    uint64_t participants; /* bits: numbers of sites */
    uint64_t term;         /* of the coordinator that closed it */
    uint8_t coordinator[16];
    uint8_t mean[32];    /* the weighted mean of the updates */
    uint8_t weights[32]; /* after the server's step */
    struct train_row_absent {
        uint64_t site;
        char reason[PROTO_ROUND_REASON];
    } absent[TRAIN_SITES_MAX];
    size_t absent_count;
};

struct train_job_state {
    struct arena arena; /* plan and yaml live here */
    uint8_t id[16];
    char name[65];
    char dataset[65];
    char task[32];
    char coordinator[33];
    char person[129];
    uint64_t state; /* enum train_state */
    enum err error; /* kept on disk by name */
    char error_text[512];
    struct span yaml;
    struct span plan;
    uint8_t plan_hash[32];
    uint64_t min_sites;
    uint64_t round_timeout_ms;
    uint64_t early_stop;
    bool noise;
    double epsilon, delta;
    uint64_t max_rows_per_unit;
    bool planned;
    bool has_machine; /* false: not begun */
    struct proto_round machine;
    uint64_t promised; /* proto/lease.h: no lower term is listened to */
    uint64_t
        save; /* counts what the leaders wrote; with the machine's term the age of this state */
    uint64_t term;
    uint64_t round; /* finished ones */
    uint64_t
        saved; /* of them on disk: nobody is shown a round that a crash could take back; not stored */
    uint64_t rounds;
    bool finished; /* the last evaluation is in, or was not wanted */
    int64_t started;
    uint64_t numbers; /* of a vector */
    struct train_server_state server;
    double best_loss; /* of released ones; 0: none yet */
    uint64_t stale;   /* evaluations since it fell */
    char model[65];
    size_t site_count;
    struct train_site sites[TRAIN_SITES_MAX];
    size_t history_count, history_cap;
    struct train_round_row *history; /* by proto_alloc */
};

MUST_CHECK enum err train_job_state_encode(const struct train_job_state *state, struct buf *out,
                                           struct err_info *reterr);
/* RET is zeroed by the caller and freed with train_job_state_fini, also on failure. Errors: E_INVALID it is something else. */
MUST_CHECK enum err train_job_state_decode(struct span bytes, struct train_job_state *ret,
                                           struct err_info *reterr);
void train_job_state_fini(struct train_job_state *state);
/* One more row of history, zeroed. */
MUST_CHECK enum err train_job_state_row(struct train_job_state *state,
                                        struct train_round_row **ret);

#endif
