/* Private to control: models by id, for the operations of ops_model.c and ops_export.c. Threads: those of a call. */
#ifndef CONCORDAT_NODE_CONTROL_MODELS_H
#define CONCORDAT_NODE_CONTROL_MODELS_H

#include "node/control/call.h"
#include "node/model/package.h"
#include "node/train/use.h"

/* A MODEL record that was looked for. */
struct control_model {
    struct control_call *call;
    const char *id; /* as it was asked for */
    size_t found;
    struct span bytes;
    struct proto_record record;
    struct proto_model model;
};
/* By the operation's ID or its beginning. Errors: E_NOT_FOUND none, or several. */
MUST_CHECK enum err control_model_find(struct control_call *call, struct control_model *ret,
                                       struct err_info *reterr);
/* Scores from a record's metrics, as control_scores_view; null when there are no counts. */
json_t *control_metrics_view(const json_t *metrics, struct buf *text);
json_t *control_model_view(struct control_call *call, const struct control_model *model);
/* Adds "here", "tainted", "tainted_by", "usable" and "reason": whether this node may use it. */
void control_model_use(struct control_call *call, const struct proto_record *record,
                       const struct proto_model *model, json_t *view);
/* Those and "lineage" {statement, signed_by, invalid}. */
void control_model_state(const struct control_model *model, json_t *view);
/* A use that was permitted, for the audit chain; in the call's arena. */
struct control_use {
    const char *purpose, *project;
};
/* May this node fetch, export or apply the model for what the call's purpose options say? Where neither --purpose nor --project is
 * given the purpose on record stands: of the job, for institutions that took part in it; else of this node's one project under
 * which the licence permits it. Errors: E_REFUSED, E_APPROVAL, the text has the reason's code and the cure; those of
 * control_purpose. */
MUST_CHECK enum err control_model_may(const struct control_model *model, struct control_use *ret,
                                      struct err_info *reterr);
/* The decision itself, which `licence check` shows. */
void control_model_decide(struct control_call *call, const struct proto_record *record,
                          const struct proto_model *model, const struct proto_purpose *purpose,
                          const struct proto_use *use, struct train_model_verdict *ret);
/* Writes the signed statement and who is to be named beside an exported model. Errors: those of files. */
MUST_CHECK enum err control_model_papers(const struct control_model *model, const json_t *view,
                                         const char *dir, struct err_info *reterr);

/* A model by its record's id or by the name that `model import` gave it: a package, or the document of a tabular model. */
struct control_opened {
    struct control_model search; /* found 0: a base model of this node */
    char name[65];               /* id or name */
    uint8_t hash[32];            /* of its blob */
    struct buf blob, under;      /* under: what its adapters belong to */
    struct model_package *package, *base;
    bool bare;     /* asked for to describe it: a personal head is not looked for */
    bool own_head; /* of this node: not the published bytes */
    struct control_use use;
};
/* The model that ID names, into O, which is zero: search, name and hash. USE: for more than to describe it, and then what for.
 * Errors: E_NOT_FOUND; those of control_model_may. */
MUST_CHECK enum err control_model_locate(struct control_call *call, struct control_opened *o,
                                         bool use, struct err_info *reterr);
/* Then its bytes. Errors also: E_NOT_FOUND its base model is not at this node. O is to be fini'd in any case. */
MUST_CHECK enum err control_model_load(struct control_call *call, struct control_opened *o,
                                       struct err_info *reterr);
void control_opened_fini(struct control_opened *o);

#endif
