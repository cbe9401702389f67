/* For what a model is used: the purpose that a person states, or the one on record, and the decision on it. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/models.h"
#include "node/control/views.h"

#include "node/query/clock.h"
#include "node/query/project.h"
#include "proto/duo.h"
#include "store/records.h"

#include <stdio.h>

/* What this node admitted the job for, or as its coordinator stated; false: it had no part in it, or has no record of it. */
static bool approved_purpose(struct control_call *call, const struct proto_record *record,
                             const struct proto_model *model, struct proto_purpose *ret)
{
    const struct query_context *context = &call->node->query;
    struct peer_member self;
    return model->participants.count > 0 &&
           peer_member_by_id(context->peer, context->node_id, &self) &&
           train_model_took_part(&call->node->query, record, model, &self) &&
           train_model_approved(call->node->train, record, model, &call->arena, ret) == E_OK;
}

/* --- deciding ---------------------------------------------------------------------------------------------------------- */

void control_model_decide(struct control_call *call, const struct proto_record *record,
                          const struct proto_model *model, const struct proto_purpose *purpose,
                          const struct proto_use *use, struct train_model_verdict *ret)
{
    struct proto_purpose approved;
    const struct train_model_case what = {
        .record = record,
        .model = model,
        .purpose = purpose,
        .approved = approved_purpose(call, record, model, &approved) ? &approved : NULL,
        .use = use,
        .now = query_now()};
    train_model_decide(call->node->train, &what, &call->arena, ret);
}

struct choice {
    struct control_call *call;
    const struct proto_record *record;
    const struct proto_model *model;
    const struct proto_purpose *said;
    struct train_model_verdict *verdict;
    struct proto_purpose *purpose;
    size_t fitting;
};

static bool permits(struct choice *c, const struct proto_purpose *purpose)
{
    static const struct proto_use apply = {.actions = TRAIN_USE_APPLY};
    control_model_decide(c->call, c->record, c->model, purpose, &apply, c->verdict);
    return c->verdict->decision.verdict == PROTO_PERMIT;
}

/* A project of this node under which the model may be used. */
static enum err try_project(void *user, struct span bytes, bool forked)
{
    struct choice *c = user;
    struct query_context *context = &c->call->node->query;
    struct proto_record record;
    struct proto_project project;
    struct proto_purpose purpose = *c->said;
    uint8_t *copy = arena_alloc(&c->call->arena, bytes.len, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, bytes.ptr, bytes.len);
    if (!forked &&
        proto_record_decode(span_of(copy, bytes.len), &crypto_proto_hash, &record, NULL) == E_OK &&
        !(record.envelope.flags & PROTO_RECORD_FINAL) &&
        memcmp(record.envelope.issuer.ptr, context->node_id, 16) == 0 &&
        proto_project_decode(record.envelope.body, &c->call->arena, &project, NULL) == E_OK) {
        purpose.project = project.name;
        if (query_project_fill(context, &c->call->arena, &purpose, query_now(), NULL) == E_OK &&
            permits(c, &purpose)) {
            *c->purpose = purpose;
            c->fitting++;
        }
    }
    return E_OK;
}

/* The job's purpose, for whoever of this node asks: of the job's project where that is this node's, else of its own. */
static enum err as_approved(struct choice *c, const struct proto_purpose *approved)
{
    struct query_context *context = &c->call->node->query;
    struct proto_purpose own = *c->said;
    enum err err = proto_purpose_fill(approved, c->said, &c->call->arena, c->purpose);
    c->purpose->project = c->said->project;
    c->purpose->agreements = c->said->agreements;
    /* Whether it is commercial is a matter of who asks. */
    c->purpose->has_commercial = c->said->has_commercial;
    c->purpose->commercial = c->said->commercial;
    own.project = approved->project;
    if (!err && query_project_fill(context, &c->call->arena, &own, query_now(), NULL) == E_OK) {
        c->purpose->project = own.project;
    }
    return err;
}

/* Nothing was stated. */
static enum err choose(struct choice *c)
{
    struct proto_purpose approved;
    *c->purpose = *c->said;
    if (approved_purpose(c->call, c->record, c->model, &approved)) {
        enum err err = as_approved(c, &approved);
        (void)(err == E_OK && permits(c, c->purpose));
        return err;
    }
    if (permits(c, c->said) || c->verdict->decision.verdict == PROTO_HOLD) {
        return E_OK;
    }
    enum err err = store_records_each(&c->call->node->store, PROTO_RECORD_PROJECT, try_project, c);
    if (!err && c->fitting != 1) {
        *c->purpose = *c->said;
    }
    (void)(err == E_OK && permits(c, c->purpose));
    return err;
}

static void name_purpose(struct control_call *call, const struct proto_purpose *purpose,
                         struct control_use *ret)
{
    char code[PROTO_DUO_SIZE];
    ret->purpose = arena_strdup(
        &call->arena, span_str(purpose->permission ? proto_duo_format(purpose->permission, code)
                                                   : "none stated"));
    ret->project = arena_strdup(&call->arena, purpose->project);
}

/* What the person can do about it; "" where no other words help. */
static void cure_of(const struct choice *c, char *to, size_t size)
{
    int len = (int)(c->model->name.len < 40 ? c->model->name.len : 40);
    const char *name = (const char *)c->model->name.ptr;
    to[0] = '\0';
    switch (c->verdict->decision.reason) {
    case PROTO_REASON_MISSING_PURPOSE:
    case PROTO_REASON_MISSING_DISEASE:
    case PROTO_REASON_MISSING_RESEARCH:
    case PROTO_REASON_MISSING_ETHICS:
        snprintf(to, size,
                 "; state --purpose, such as DUO:0000042, and what goes with it, or "
                 "--project%s",
                 c->fitting > 1 ? ": several projects of this node fit" : "");
        break;
    case PROTO_REASON_MISSING_AGREEMENT:
        snprintf(to, size, "; `concordat agreement request %.*s` asks for one", len, name);
        break;
    case PROTO_REASON_EXPIRED:
    case PROTO_REASON_REVOKED:
    case PROTO_REASON_NO_LICENSE:
    case PROTO_REASON_LICENSE_TAINTED:
    case PROTO_REASON_LICENSE_NONPRIVATE:
        break;
    default:
        if (c->verdict->licence) {
            snprintf(to, size, "; `concordat licence show %.*s` says what it is for", len, name);
        }
    }
}

/* An attempt is on record like a use. */
static enum err refuse(const struct choice *c, const struct control_use *use, enum err err,
                       struct err_info *reterr)
{
    char text[280], cure[160];
    const char *name = arena_strdup(&c->call->arena, c->model->name);
    enum err audit = control_audit(c->call, "model.refused", reterr, "model", name, "reason",
                                   proto_reason_name(c->verdict->decision.reason), "purpose",
                                   use->purpose, "project", use->project, (const char *)NULL);
    if (audit || !reterr) {
        return audit ? audit : err;
    }
    snprintf(text, sizeof text, "%.279s", reterr->text);
    cure_of(c, cure, sizeof cure);
    return proto_err_set(reterr, err, "%s%s", text, cure);
}

enum err control_model_may(const struct control_model *model, struct control_use *ret,
                           struct err_info *reterr)
{
    struct control_call *call = model->call;
    struct proto_purpose said, purpose;
    struct choice c = {.call = call,
                       .record = &model->record,
                       .model = &model->model,
                       .said = &said,
                       .purpose = &purpose,
                       .verdict = arena_alloc(&call->arena, 1, sizeof *c.verdict)};
    bool stated = control_text(call, "--purpose") || control_text(call, "--project");
    enum err err = c.verdict ? control_purpose(call, &said, reterr) : E_NO_MEMORY;
    if (!err && stated) {
        purpose = said;
        (void)permits(&c, &purpose);
    } else if (!err) {
        err = choose(&c);
    }
    if (err) {
        return err;
    }
    name_purpose(call, &purpose, ret);
    const struct train_model_case what = {.model = &model->model};
    err = train_model_error(&what, c.verdict, reterr);
    return err ? refuse(&c, ret, err, reterr) : E_OK;
}
