/* What a coordinator and the sites of a training job say to each other. Sealed and opened by node/query/message.h, so each
 * message is signed by its sender's identity key and can be shown later.
 *
 * A plan is fixed for the whole job: its hash names it in every round. It names the base model and the first weights by their
 * hashes and every site with the licence record that the coordinator relied on, so that two sites which see another model or
 * another set of licences cannot both admit it.
 * Vectors (weights, updates) do not stand in messages: a message names a blob by size and hash, and whoever needs it
 * fetches it (node/peer/transfer.h). Their form: vector.h.
 * A site answers a round at once with how far it is, and with its update when there is one: one update per (job, round, plan),
 * whose bytes it keeps before it sends them, and sends again to whoever asks again.
 * Threads: pure. Limits: in the tables of message.c. */
#ifndef CONCORDAT_NODE_TRAIN_MESSAGE_H
#define CONCORDAT_NODE_TRAIN_MESSAGE_H

#include "node/peer/transfer.h"
#include "node/query/message.h"
#include "proto/job.h"

#define TRAIN_VERSION      9
#define TRAIN_SITES_MAX    64
#define TRAIN_FEATURES_MAX 256
#define TRAIN_LABELS_MAX   256
#define TRAIN_STANDBYS_MAX (PROTO_LEASE_HOLDERS - 1)
#define TRAIN_STATE_MAX    ((size_t)900 << 10)              /* bytes of a job that has standbys */
#define TRAIN_NUMBERS_MAX  (STORE_BLOB_MAX / sizeof(float)) /* of a vector */
#define TRAIN_BINS_MAX     512
#define TRAIN_SUMS_MAX     64
#define TRAIN_TYPES_MAX    20 /* of entities, or classes: each has three sums */
#define TRAIN_BLOB_MAX     ((size_t)64 << 20)

#define TRAIN_PLAN_DOMAIN   "concordat1-train-plan"
#define TRAIN_ADMIT_DOMAIN  "concordat1-train-admit"
#define TRAIN_ROUND_DOMAIN  "concordat1-train-round"
#define TRAIN_UPDATE_DOMAIN "concordat1-train-update"
#define TRAIN_LEASE_DOMAIN  "concordat1-train-lease"

/* A site of the plan: its node and the licence record that the coordinator knew of it. */
struct train_plan_site {
    struct span node;    /* 16 */
    struct span licence; /* 16 */
};

/* The same bytes go to every site, so that all hash the same plan. */
struct train_plan {
    uint64_t version;
    struct span job_id; /* 16 */
    struct span job;    /* name */
    uint64_t task;      /* enum proto_task */
    struct span dataset;
    struct span schema_hash;    /* 32 */
    struct proto_list features; /* struct proto_text: column names; none for notes */
    struct span target;         /* "" for notes */
    /* tables; zero and empty where the task has no such thing */
    uint64_t hidden;        /* units of a small network */
    struct span event_time; /* survival: a column, */
    double horizon;         /* in its units, */
    uint64_t intervals;     /* of the baseline hazard */
    double low, high; /* regression: declared bounds of the target, for whoever reads the figures */
    bool midpoint; /* a missing feature takes the middle of its bounds; else the row is left out */
    /* encoders; all zero for tables */
    struct span model; /* 32: hash of the base model's blob; or empty */
    uint64_t model_size;
    struct span model_name;
    struct span
        model_base; /* 32: of a model of adapters, the blob that they belong to; else empty */
    uint64_t model_base_size;
    uint64_t tune; /* enum proto_tune */
    uint64_t rank;
    double alpha;
    uint64_t targets;         /* set of 1 << enum model_target */
    struct proto_list labels; /* struct proto_text, in their order: tags or classes */
    uint64_t max_length;
    double dropout; /* below 0: as the model says */
    uint64_t seed;
    bool personal_head;  /* the vector has no head: each site keeps its own */
    struct span trainer; /* external: its name in each site's node.yaml; "": none */
    uint64_t trainer_ms; /* that it gets for a round */
    /* the vector */
    uint64_t numbers;
    struct span start; /* 32: hash of the weights before the first round */
    /* rounds */
    uint64_t rounds;
    uint64_t epochs;
    uint64_t batch;
    double learning_rate;
    double momentum;
    double warmup;
    double weight_decay;
    uint64_t method; /* enum proto_aggregation */
    double server_rate;
    double server_momentum;
    double proximal;
    double trim;
    double norm_bound; /* 0: none */
    bool uniform;
    /* privacy */
    bool noise; /* false: a job for data that their licence lets be trained on without */
    double clip;
    double epsilon;
    uint64_t delta_e12;
    double eval_split;
    uint64_t eval_every;
    double eval_share;
    uint64_t entities; /* of one unit and type that count */
    uint64_t
        bins; /* of each of the two histograms at the end, from which the AUC or the concordance comes; 0: none */
    struct proto_purpose purpose;
    struct proto_list sites; /* struct train_plan_site */
    struct proto_list
        coordinators; /* struct query_node_ref: who may ask for rounds; the first begins */
    int64_t time;
};
extern const struct proto_message train_plan_message;
/* What no single field can say. Errors: E_INVALID. */
MUST_CHECK enum err train_plan_check(const struct train_plan *plan, struct err_info *reterr);

/* How a job has ended, as its coordinator says it to the sites. */
enum train_end {
    TRAIN_END_NONE,
    TRAIN_END_DONE,
    TRAIN_END_STOPPED, /* by a person: it may go on, and the same plan is offered again */
    TRAIN_END_FAILED,
    TRAIN_END_WITHDRAWN, /* stopped for good: a site may no longer let its data be used */
    TRAIN_ENDS
};

/* Wraps a plan for one site. */
struct train_offer {
    struct span to; /* 16 */
    bool explain;   /* say what you would say, change nothing */
    uint64_t end;   /* enum train_end. Other than NONE: give back what was not started */
    uint64_t term;  /* of the coordinator; 0: an explanation, or before the first */
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
    double sigma;  /* noise multiplier that its own calibration gave; 0 without noise */
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

/* A blob in a message. */
struct train_blob {
    struct span hash; /* 32; or empty: none */
    uint64_t size;
};
extern const struct proto_message train_blob_message;
/* What peer_blob_fetch takes. Errors: E_INVALID the parts do not fit each other. */
MUST_CHECK enum err train_blob_open(const struct train_blob *blob, struct peer_blob *ret);
struct train_blob train_blob_of(const struct peer_blob *blob);
#define TRAIN_BLOB_NONE ((struct train_blob){{(const uint8_t *)"", 0}, 0})

struct train_round {
    uint64_t version;
    struct span to;
    struct span job_id;
    struct span plan_hash;
    uint64_t
        round; /* 1 to rounds: train from WEIGHTS, which are the result of round - 1; rounds + 1: only evaluate, the end */
    uint64_t term;             /* of the coordinator's lives, rising */
    bool evaluate;             /* release figures of WEIGHTS as well */
    struct train_blob weights; /* the asking node has them */
    struct train_blob control; /* SCAFFOLD's c; none: it is zero, or the method has none */
    uint64_t counted;          /* the last round whose mean has this site's update; 0: none */
    int64_t time;
};
extern const struct proto_message train_round_message;

/* Noisy sums over the site's held-out rows, as node/train/evaluate.h says; one charge was made for them. */
struct train_evaluation {
    bool present;
    struct span sums; /* big-endian doubles; empty unless present */
    struct span
        histograms; /* 2 * bins big-endian doubles at the end of a job: target 0, then target 1; else empty */
};

enum train_answer {
    TRAIN_WORKING,   /* ask again: done, total */
    TRAIN_UPDATED,   /* update, evaluation */
    TRAIN_EVALUATED, /* the request after the last round: evaluation alone */
    TRAIN_REFUSED,   /* error, reason, detail */
    TRAIN_ANSWERS
};
struct train_update {
    uint64_t version;
    struct span job_id;
    struct span plan_hash;
    uint64_t round;
    uint64_t answer; /* enum train_answer */
    struct span error;
    struct span reason;
    struct span detail;
    struct span base; /* 32: hash of the weights that it started from; empty unless updated */
    struct train_blob update; /* the change of the weights; the site has it */
    uint64_t done, total;     /* steps of the round, roughly; total 0: bytes fetched so far */
    uint64_t steps_started;   /* of the whole job */
    struct train_evaluation evaluation;
    struct span head;
};
extern const struct proto_message train_update_message;

/* Between the nodes that may coordinate a job (proto/lease.h). */
enum train_lease_kind {
    TRAIN_LEASE_KEEP, /* state: have it on disk */
    TRAIN_LEASE_RENEW,
    TRAIN_LEASE_PREPARE,
    TRAIN_LEASE_KINDS
};
struct train_lease {
    uint64_t version;
    struct span to; /* 16 */
    struct span job_id;
    uint64_t kind; /* enum train_lease_kind */
    uint64_t term;
    uint64_t save;
    bool force;
    struct span state; /* an encoded train_job_state, of KEEP; else empty */
    int64_t time;
};
extern const struct proto_message train_lease_message;
struct train_lease_reply {
    uint64_t version;
    struct span job_id;
    uint64_t answer;   /* enum proto_lease_answer */
    uint64_t promised; /* highest term */
    uint64_t term, save;
    struct span state; /* the newest here, of YES to PREPARE; else empty */
};
extern const struct proto_message train_lease_reply_message;

/* SHA-256 over a domain and the encoded plan. */
void train_plan_hash(struct span plan, uint8_t ret[32]);

/* Doubles to bytes and back; non-finite ones are refused on the way in. */
MUST_CHECK enum err train_pack_doubles(const double *from, size_t count, struct arena *arena,
                                       struct span *ret);
MUST_CHECK enum err train_unpack_doubles(struct span from, double *to, size_t count);

#endif
