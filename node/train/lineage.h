/* Where a model comes from and what follows from that: who took part, under which licences, and the licence of the model
 * itself, derived from them (proto/derive.h).
 *
 *     struct train_lineage *lineage = arena_alloc(&arena, 1, sizeof *lineage);
 *     err = train_lineage_gather(service, state, name, weights, lineage, &arena, reterr);
 *     ... the MODEL record takes licences, participants, duties, spdx, release ...
 *     err = train_lineage_publish(service, name, lineage, reterr);          the model's own LICENCE record
 *
 * Threads: one. Memory: spans and lists point into STATE and the arena. */
#ifndef CONCORDAT_NODE_TRAIN_LINEAGE_H
#define CONCORDAT_NODE_TRAIN_LINEAGE_H

#include "node/train/internal.h"
#include "proto/derive.h"

#define TRAIN_DUTIES_MAX 64

struct train_lineage {
    struct proto_model_licence licences[TRAIN_SITES_MAX]; /* each once */
    size_t licence_count;
    struct proto_model_participant participants[TRAIN_SITES_MAX];
    size_t participant_count;
    struct proto_text duties[TRAIN_DUTIES_MAX]; /* ids, each once */
    size_t duty_count;
    const char *spdx;
    enum proto_release release;
    double epsilon; /* the largest of any site */
    /* false: a training set's licence is not at hand any more, or they contradict each other. The model then has no
     * licence of its own and stays in the federation. */
    bool derived;
    struct proto_derivation derivation;
};

/* Errors: E_REFUSED a data licence allows no training; E_LIMIT the duties do not fit in a record; E_NO_MEMORY. */
MUST_CHECK enum err train_lineage_gather(struct train_service *service,
                                         const struct train_job_state *state, const char *name,
                                         const uint8_t weights[32], struct train_lineage *ret,
                                         struct arena *arena, struct err_info *reterr);
/* Nothing where none was derived. */
MUST_CHECK enum err train_lineage_publish(struct train_service *service, const char *name,
                                          const struct train_lineage *lineage,
                                          struct err_info *reterr);

#endif
