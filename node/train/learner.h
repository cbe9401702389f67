/* What a site learns with: one thing to open, load, train and evaluate, whatever the task. A learner is made from a plan and the
 * site's own schema; for a round it gets weights and gives back their change. learner_table.c: tables; learner_notes.c: texts;
 * learner_external.c: tables by a program of the operator's.
 *
 *     err = train_learner_open(&wish, &learner, reterr);                     // no row is read
 *     err = train_learner_load(learner, reterr);                             // after the steps were marked as started
 *     err = train_learner_evaluate(learner, weights, &asked, &figures, reterr);
 *     err = train_learner_train(learner, weights, &local, change, reterr);   // CHANGE may leave: it is noised, or the licence allows it
 *     train_learner_close(learner);
 *
 * Numbers that stay at the site (personal heads) are in no vector: train_learner_home gives them, to be read and replaced in place
 * before a call; training moves them.
 * A coordinator opens one without rows, for the weights that a job starts from (train_learner_start).
 * Threads: belongs to one; it may start its own. Everything that load read is private and is wiped at the end. */
#ifndef CONCORDAT_NODE_TRAIN_LEARNER_H
#define CONCORDAT_NODE_TRAIN_LEARNER_H

#include "node/config/node.h"
#include "node/train/evaluate.h"
#include "proto/schema.h"
#include "store/store.h"

struct train_learner_wish {
    struct store *store;
    struct privacy_pool *noise;
    const struct train_plan *plan;
    const struct proto_schema *schema; /* as published; the stored one must have the same columns */
    const char *dataset;
    const struct config_trainer *trainers; /* external ones of this site */
    size_t trainer_count;
    const uint8_t *key; /* 16: picks the rows that count and the units that are held out */
    unsigned threads;
    bool (*cancelled)(void *user);
    void (*tell)(void *user, const char *what); /* for the operator's log alone; may be NULL */
    void *user;
};

/* One round's training. */
struct train_local {
    const struct train_cost *cost; /* sigma 0: without noise */
    uint64_t round;                /* from 1 */
    uint64_t steps;                /* that were granted; without noise the learner counts its own */
    uint64_t size;                 /* declared units */
    const uint8_t *job_id;
    const float *correction; /* SCAFFOLD: c - c_i, as many as weights; NULL: none */
    void (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};

struct train_learner;
struct train_learner_kind {
    enum err (*check)(const struct train_plan *plan, const struct proto_schema *schema,
                      struct err_info *reterr);
    enum err (*open)(const struct train_learner_wish *wish, struct train_learner **ret,
                     struct err_info *reterr);
    size_t (*count)(const struct train_learner *learner);
    enum err (*start)(struct train_learner *learner, float *ret, struct err_info *reterr);
    float *(*home)(struct train_learner *learner, size_t *ret_count); /* NULL: all leave */
    enum err (*load)(struct train_learner *learner, struct err_info *reterr);
    enum err (*train)(struct train_learner *learner, const float *weights,
                      const struct train_local *local, float *ret_change, struct err_info *reterr);
    enum err (*evaluate)(struct train_learner *learner, const float *weights,
                         const struct train_figures_wish *wish, struct train_figures *ret,
                         struct err_info *reterr);
    void (*close)(struct train_learner *learner);
};
/* The beginning of each kind's own structure. */
struct train_learner {
    const struct train_learner_kind *kind;
};
extern const struct train_learner_kind train_learner_table;
extern const struct train_learner_kind train_learner_notes;
extern const struct train_learner_kind train_learner_external;

/* Whether the columns that the plan names are there and fit its task. Errors: E_SCHEMA, E_UNSUPPORTED, E_LIMIT. */
MUST_CHECK enum err train_learner_check(const struct train_plan *plan,
                                        const struct proto_schema *schema, struct err_info *reterr);
/* Errors: E_SCHEMA, E_UNSUPPORTED the columns do not fit the task; E_NOT_FOUND the base model is not in our store; those of
 * the model. Set on success only. */
MUST_CHECK enum err train_learner_open(const struct train_learner_wish *wish,
                                       struct train_learner **ret, struct err_info *reterr);
/* Numbers of a vector. */
size_t train_learner_count(const struct train_learner *learner);
MUST_CHECK enum err train_learner_start(struct train_learner *learner, float *ret,
                                        struct err_info *reterr);
/* Numbers that no vector holds, at first the same public ones at every site; borrowed until close. NULL, count 0: there are none. */
float *train_learner_home(struct train_learner *learner, size_t *ret_count);
/* Errors: those of the store; E_SCHEMA the partition has other columns; E_LIMIT; E_CANCELLED. */
MUST_CHECK enum err train_learner_load(struct train_learner *learner, struct err_info *reterr);
/* On failure RET_CHANGE is anything. Errors: E_CANCELLED; E_INVALID; those of the random source. */
MUST_CHECK enum err train_learner_train(struct train_learner *learner, const float *weights,
                                        const struct train_local *local, float *ret_change,
                                        struct err_info *reterr);
MUST_CHECK enum err train_learner_evaluate(struct train_learner *learner, const float *weights,
                                           const struct train_figures_wish *wish,
                                           struct train_figures *ret, struct err_info *reterr);
/* NULL is allowed. */
void train_learner_close(struct train_learner *learner);

/* How the columns that a tabular plan names become numbers. Errors: as train_learner_check. */
struct train_encoding;
MUST_CHECK enum err train_table_encode(const struct train_plan *plan,
                                       const struct proto_schema *schema,
                                       struct train_encoding *ret, struct err_info *reterr);
/* The external trainer of that name among TRAINERS; NULL: this node has none. */
const struct config_trainer *train_trainer_find(const struct config_trainer *trainers, size_t count,
                                                struct span name);

/* The trained model of a notes' job as a blob of its own (node/model/package.h): whole, or adapters and head. Of a job with personal
 * heads the head is the public start. */
MUST_CHECK enum err train_notes_document(struct store *store, const struct train_plan *plan,
                                         const uint8_t weights[32], const char *name,
                                         const char *licence, struct buf *ret,
                                         struct err_info *reterr);
/* That DOCUMENT with the head of our own blob HEAD in place of the public start. Errors: E_SCHEMA they do not fit each other;
 * E_NOT_FOUND the base of its adapters, or the head. */
MUST_CHECK enum err train_notes_with_head(struct store *store, const struct train_plan *plan,
                                          struct span document, const uint8_t head[32],
                                          struct buf *ret, struct err_info *reterr);

/* Whether the unit is held out for evaluation: by a keyed hash of the unit alone. THRESHOLD: train_held_threshold(split). */
bool train_held_out(const uint8_t key[16], uint32_t unit, uint64_t threshold);
uint64_t train_held_threshold(double split);

#endif
