/* May a model be used, by whom and for what? One decision for every use: `licence check`, fetching, exporting, predicting, training
 * on it, and serving its bytes to another node.
 *
 *     const struct train_model_case what = {.record = &record, .model = &model, .purpose = &purpose, .use = &use, .now = now};
 *     train_model_decide(service, &what, &arena, verdict);              verdict->decision, as of a dataset
 *     err = train_model_error(&what, verdict, reterr);                  E_OK, or a refusal with the reason's code
 *
 * It is proto/policy.h on the model's own licence record, and two rules that no single licence can state: a model is tainted once
 * a licence that it was trained under was withdrawn (unless all of them let it survive), and one that was trained without privacy
 * stays with the institutions that took part. A model that was imported has no licence record: its data licence decides
 * (proto/derive.h, proto_derive_imported). A trained model without a licence may be used by nobody.
 *
 * Which action each use is: TRAIN_USE_APPLY to fetch, export or predict, TRAIN_USE_BASE to train on it.
 * Threads: any. Memory: what a verdict points at lives in the arena and in the records. */
#ifndef CONCORDAT_NODE_TRAIN_USE_H
#define CONCORDAT_NODE_TRAIN_USE_H

#include "node/train/service.h"
#include "proto/body.h"
#include "proto/policy.h"

#define TRAIN_USE_APPLY PROTO_ACTION_BIT(PROTO_ACTION_EVALUATE)
#define TRAIN_USE_BASE  PROTO_ACTION_BIT(PROTO_ACTION_FINETUNE)

#define TRAIN_MODEL_IMPORTED "base" /* the task in the record of a model that was imported */

struct train_model_case {
    const struct proto_record *record;
    const struct proto_model *model;
    const struct peer_member *requester; /* NULL: this node */
    const struct proto_purpose *purpose;
    /* What the job was approved for whose model it is, where this node took part and knows; NULL: not known. A licence that
     * leaves each use to a person is satisfied by a use within that purpose, which a person at each site approved. */
    const struct proto_purpose *approved;
    const struct proto_use *use;
    const struct proto_party *sites; /* that get it too; none: the issuer */
    size_t site_count;
    int64_t now;
};

struct train_model_verdict {
    struct proto_decision decision;
    const struct proto_licence *licence; /* that was decided on; NULL: none that we can read */
    char tainted_by[33];                 /* a site that withdrew, "" */
};

/* Total. */
void train_model_decide(struct train_service *service, const struct train_model_case *what,
                        struct arena *arena, struct train_model_verdict *ret);
/* Errors: E_REFUSED, E_APPROVAL where a person must decide; the text ends with the reason's code in brackets. */
MUST_CHECK enum err train_model_error(const struct train_model_case *what,
                                      const struct train_model_verdict *verdict,
                                      struct err_info *reterr);

/* What can be said while nobody has stated a purpose: NONE, or the reason why MEMBER may use the model for no purpose at all.
 * TAINTED_BY (may be NULL) gets the name of a site that withdrew. */
enum proto_reason train_model_standing(struct train_service *service,
                                       const struct proto_record *record,
                                       const struct proto_model *model,
                                       const struct peer_member *member, char tainted_by[33]);
/* The same as an error. Errors: E_REFUSED. */
MUST_CHECK enum err train_model_may(struct train_service *service,
                                    const struct proto_record *record,
                                    const struct proto_model *model,
                                    const struct peer_member *member, struct err_info *reterr);
/* Whether MEMBER's institution coordinated the job or took part in it. */
bool train_model_took_part(struct query_context *context, const struct proto_record *record,
                           const struct proto_model *model, const struct peer_member *member);

/* Writes down which job made the model of these weights: where it is countersigned, and where it is published.
 * Errors: those of the store. */
MUST_CHECK enum err train_model_remember(struct query_context *context, const uint8_t weights[32],
                                         const uint8_t job_id[16]);
/* The job of these weights. Errors: E_NOT_FOUND nothing was written down; those of the store. */
MUST_CHECK enum err train_model_job(struct query_context *context, const uint8_t weights[32],
                                    uint8_t ret[16]);
/* The purpose that this node admitted, or as coordinator stated, for the job that made the model: of its own copy of the plan.
 * Errors: E_NOT_FOUND nothing was written down, or the model's issuer did not coordinate that job. */
MUST_CHECK enum err train_model_approved(struct train_service *service,
                                         const struct proto_record *record,
                                         const struct proto_model *model, struct arena *arena,
                                         struct proto_purpose *ret);

/* A job's base model by its blob, at the coordinator and at each site. */
struct train_base_case {
    const uint8_t *hash; /* 32 */
    const char *name;    /* for people */
    const char *spdx;    /* the data licence it was imported under here; NULL: not known */
    const struct peer_member *requester; /* the coordinator; NULL: this node */
    const struct proto_purpose *purpose;
    const struct proto_use *use;
    const struct proto_party *sites;
    size_t site_count;
    bool look_inside; /* reads the package where nothing else tells its licence */
};
/* By the records that publish it, of which those of trained models must all permit it; one that nobody published is decided by
 * SPDX, or where that is not known by what its package says (LOOK_INSIDE), and permitted while nothing is known: it is
 * decided again once it is here, before data are touched. Total: *RET is NONE or why not;
 * RET_HOLD: a person must approve. */
void train_base_decide(struct train_service *service, const struct train_base_case *what,
                       enum proto_reason *ret, bool *ret_hold);
/* Both blobs of a plan's base model (its own, and what its adapters belong to) for the job's own purpose, with all its sites as
 * those that get it. REQUESTER: the coordinator, NULL: this node. SPDX: as above, of the first. No base: NONE. */
struct train_plan;
void train_plan_base_decide(struct train_service *service, const struct train_plan *plan,
                            const struct peer_member *requester, const char *spdx, bool look_inside,
                            enum proto_reason *ret, bool *ret_hold);

/* For serving: may MEMBER have the blob as a published model's weights or statement, as far as this node can know? The purpose
 * is stated to the node that fetches, which decides it. A statement is what some record names as one and is one by its bytes.
 * Errors: E_NOT_FOUND no record names it; E_REFUSED. */
MUST_CHECK enum err train_model_may_have(struct train_service *service,
                                         const struct peer_member *member, const uint8_t hash[32]);

#endif
