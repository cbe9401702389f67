/* What a coordinator and the sites of a training job say to each other. Sealed and opened by node/query/message.h, so each
 * message is signed by its sender's identity key and can be shown later.
 *
 * A plan is fixed for the whole job: its hash names it in every round. A site answers one update per (job, round, plan),
 * keeps the bytes before it sends them, and sends the same bytes again to whoever asks again.
 * Threads: pure. Limits: in the tables of message.c. */
#ifndef CONCORDAT_NODE_TRAIN_MESSAGE_H
#define CONCORDAT_NODE_TRAIN_MESSAGE_H

#include "node/query/message.h"

#define TRAIN_VERSION      2
#define TRAIN_FEATURES_MAX 256
#define TRAIN_WEIGHTS_MAX                                                                          \
    4097 /* numbers of a tabular model: MODEL_FEATURES_MAX and the intercept */
#define TRAIN_BINS_MAX 64
#define TRAIN_BLOB_MAX ((size_t)64 << 20)

#define TRAIN_PLAN_DOMAIN   "concordat1-train-plan"
#define TRAIN_ADMIT_DOMAIN  "concordat1-train-admit"
#define TRAIN_ROUND_DOMAIN  "concordat1-train-round"
#define TRAIN_UPDATE_DOMAIN "concordat1-train-update"

/* The same bytes go to every site, so that all hash the same plan. */
struct train_plan {
    uint64_t version;
    struct span job_id; /* 16 */
    struct span job;    /* name */
    struct span dataset;
    struct span schema_hash;    /* 32 */
    struct proto_list features; /* struct proto_text: column names */
    struct span target;
    bool midpoint; /* a missing feature takes the middle of its bounds; else the row is left out */
    uint64_t rounds;
    uint64_t epochs;
    uint64_t batch;
    double learning_rate;
    double momentum;
    double clip;
    double epsilon;
    uint64_t delta_e12;
    double eval_split;
    uint64_t eval_every;
    double eval_share;
    uint64_t bins; /* of the score histograms at the end, from which the AUC comes; 0: none */
    struct proto_purpose purpose;
    struct proto_list sites; /* struct query_node_ref */
    int64_t time;
};
extern const struct proto_message train_plan_message;

/* Wraps a plan for one site. */
struct train_offer {
    struct span to; /* 16 */
    bool explain;   /* say what you would say, change nothing */
    bool stop;      /* the job has ended: give back what was not started */
    int64_t time;
    struct span plan; /* encoded train_plan */
};
extern const struct proto_message train_offer_message;

struct train_admit {
    uint64_t version;
    struct span job_id;
    struct span plan_hash; /* 32 */
    bool admitted;
    struct span error;
    struct span reason;
    struct span detail;
    struct proto_list clauses; /* struct query_clause, of explain */
    uint64_t size; /* declared units: the weight of this site, and batch / size its sampling rate */
    double sigma;  /* noise multiplier that its own calibration gave */
    uint64_t steps;     /* of one round */
    uint64_t cost_nano; /* reserved in all */
    uint64_t cap_nano;
    uint64_t spent_nano;
    uint64_t account_delta_e12;
    struct span licence_id;   /* 16: the record that permits it */
    uint64_t release;         /* enum proto_release of a model from it */
    struct proto_list duties; /* struct proto_text: ids of the obligations that the model carries */
    struct span head;         /* signed audit head */
};
extern const struct proto_message train_admit_message;

struct train_round {
    uint64_t version;
    struct span to;
    struct span job_id;
    struct span plan_hash;
    uint64_t
        round; /* 1 to rounds: train from WEIGHTS, which are the result of round - 1; rounds + 1: only evaluate, the end */
    uint64_t term;       /* how often the coordinator has taken the job up */
    bool evaluate;       /* release figures of WEIGHTS as well */
    struct span weights; /* 8 bytes each: big-endian IEEE double */
    int64_t time;
};
extern const struct proto_message train_round_message;

/* Noisy sums over the site's held-out rows, centred as node/train/evaluate.h says; one charge was made for them. */
struct train_evaluation {
    bool present;
    double count;
    double loss;
    double correct;
    struct span
        histograms; /* 2 * bins big-endian doubles at the end of a job: scores of target 0, then of target 1; else empty */
};

struct train_update {
    uint64_t version;
    struct span job_id;
    struct span plan_hash;
    uint64_t round;
    bool updated; /* false: only evaluated, or refused */
    struct span error;
    struct span reason;
    struct span detail;
    struct span weights;
    uint64_t steps_started; /* of the whole job */
    struct train_evaluation evaluation;
    struct span head;
};
extern const struct proto_message train_update_message;

/* SHA-256 over a domain and the encoded plan. */
void train_plan_hash(struct span plan, uint8_t ret[32]);

/* Doubles to bytes and back; non-finite ones are refused on the way in. */
MUST_CHECK enum err train_pack_doubles(const double *from, size_t count, struct arena *arena,
                                       struct span *ret);
MUST_CHECK enum err train_unpack_doubles(struct span from, double *to, size_t count);

#endif
