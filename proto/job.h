/* A training job as a person declares it. It carries no code. YAML is its syntax
 * (node/config/yaml.h); node/train reads this.
 *
 *     struct proto_job job = {0};
 *     enum err err = config_yaml_job(path, &job, reterr);    // fills defaults and checks
 *     ...
 *     proto_job_fini(&job);
 *
 * Threads: read-only once checked. Memory: lists and strings belong to job.arena. */
#ifndef CONCORDAT_PROTO_JOB_H
#define CONCORDAT_PROTO_JOB_H

#include "proto/lease.h"
#include "proto/manifest.h"
#include "proto/request.h"

#define PROTO_JOB_FEATURES_MAX 256
#define PROTO_JOB_ROUNDS_MAX   10000
#define PROTO_JOB_SITES_MAX    64
#define PROTO_JOB_EVAL_DEFAULT UINT64_MAX /* of eval_every before the check: what suits the job */

enum proto_task {
    PROTO_TASK_TABULAR_CLASSIFICATION,
    PROTO_TASK_TABULAR_REGRESSION,
    PROTO_TASK_TOKEN_CLASSIFICATION,
    PROTO_TASK_SEQUENCE_CLASSIFICATION,
    PROTO_TASK_MASKED_LM,
    PROTO_TASK_TABULAR_SURVIVAL, /* Cox regression */
    PROTO_TASK_COUNT
};

enum proto_tune {
    PROTO_TUNE_FULL,
    PROTO_TUNE_LORA,
    PROTO_TUNE_FFA_LORA,
    PROTO_TUNE_ALTERNATING_LORA, /* B in odd rounds, A in even ones */
    PROTO_TUNE_COUNT
};

enum proto_aggregation {
    PROTO_FEDAVG, /* with server_momentum above 0: FedAvgM */
    PROTO_FEDADAM,
    PROTO_FEDPROX,
    PROTO_SCAFFOLD,
    PROTO_TRIMMED_MEAN,
    PROTO_AGGREGATION_COUNT
};

/* How much a site's update counts: by its declared number of units, or each alike. */
enum proto_weighting {
    PROTO_WEIGHT_SIZE,
    PROTO_WEIGHT_UNIFORM,
};

enum proto_missing {
    PROTO_MISSING_DROP,
    PROTO_MISSING_MIDPOINT,
};

struct proto_job {
    char name[65];
    enum proto_task task;
    char dataset[65];
    char purpose[32]; /* "DUO:0000042" or "GRU"; "" when the project says it */
    struct proto_text_list diseases;
    char project[65];
    bool has_research;
    struct proto_text_list research; /* kinds of research, names of request.h */
    const char *ethics_ref;          /* NULL: none */
    int64_t ethics_expires;
    struct proto_text_list accepted; /* obligations that the asker promises */

    bool has_model;
    char base[65]; /* encoders only */
    enum proto_tune tune;
    bool has_lora;
    uint64_t lora_rank;
    double lora_alpha;
    struct proto_text_list lora_targets;
    bool personal_head;       /* each site keeps a head of its own, which is not averaged */
    char trainer[65];         /* an external trainer of the sites' node.yaml; "": none */
    uint64_t trainer_time_ms; /* that it gets for a round; default 60 s */

    struct proto_text_list features; /* tabular only */
    char target[PROTO_NAME_SIZE];    /* of a survival job: whether the event was seen */
    enum proto_missing missing;
    uint64_t hidden; /* units of a small network; 0: a linear model */
    char time
        [PROTO_NAME_SIZE]; /* survival: the column of the time to the event, or to the last look */
    double horizon;        /* survival: what is later is not told apart; 0: the column's max */
    uint64_t intervals;    /* survival: of equal length, of the baseline hazard; default 10 */

    uint64_t rounds; /* default 10 */
    uint64_t epochs; /* per round, default 1 */
    uint64_t batch;  /* default 16 for encoders, 256 for tabular */
    double
        learning_rate; /* default 5e-4 for encoders, 2.0 for logistic regression, 0.5 for others */
    double warmup;     /* share of all steps */
    double weight_decay;
    uint64_t max_length;
    double dropout; /* below 0: as the model says */
    uint64_t seed;  /* public: heads and adapters start from it; 0: the coordinator draws one */

    enum proto_aggregation method;
    double server_momentum; /* FedAvgM; of FedAdam the first moment's */
    double server_rate;     /* 0: the method's own */
    double proximal;        /* FedProx: mu */
    double trim;            /* trimmed mean: the share that is left out at each end */
    double norm_bound;      /* updates of a larger L2 norm are refused; 0: none */
    enum proto_weighting weighting;

    uint64_t min_sites;           /* institutions; default 1 */
    struct proto_text_list sites; /* empty: all that hold the dataset */
    uint64_t round_timeout_ms;
    uint64_t standby; /* nodes that can go on in the coordinator's place; default 2 */

    bool has_privacy;
    double epsilon;
    double delta;
    double clip;
    bool secure_aggregation;

    double eval_split;
    uint64_t eval_every;    /* 0: never */
    uint64_t early_stop;    /* evaluations without improvement; 0: off */
    double eval_share;      /* part of epsilon that evaluation may use, default 0.1 */
    uint64_t eval_entities; /* of one unit and type, that count in private evaluation; default 20 */

    struct arena arena;
};

/* Fills the defaults that depend on the task and checks the whole. The text starts with the field's
 * path ("privacy.epsilon: ..."). Errors: E_INVALID; E_UNSUPPORTED for a task, method, tuning or
 * secure aggregation that this version cannot run. */
MUST_CHECK enum err proto_job_check(struct proto_job *job, struct err_info *reterr);
/* What the job states as its purpose; spans point into JOB and PERSON, lists into ARENA. COMMERCIAL is what node.yaml
 * says, NULL when it says nothing. Errors: E_INVALID, E_NO_MEMORY. */
MUST_CHECK enum err proto_job_purpose(const struct proto_job *job, const char *person,
                                      const bool *commercial, struct arena *arena,
                                      struct proto_purpose *ret, struct err_info *reterr);
void proto_job_fini(struct proto_job *job);

const char *proto_task_name(enum proto_task task);
bool proto_task_tabular(enum proto_task task);
const char *proto_tune_name(enum proto_tune tune);
const char *proto_aggregation_name(enum proto_aggregation method);

#endif
