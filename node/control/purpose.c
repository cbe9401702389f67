/* The purpose that a person states on the command line: for questions, for `licence check` and for the catalogue. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/views.h"

#include "node/query/clock.h"
#include "node/query/project.h"
#include "proto/duo.h"
#include "proto/licence.h"
#include "proto/nearest.h"
#include "proto/time.h"

enum err control_text_list(struct control_call *call, const char *name, size_t max,
                           struct proto_list *ret, struct err_info *reterr)
{
    const char **texts = arena_alloc(&call->arena, max, sizeof *texts);
    struct proto_text *items = arena_alloc(&call->arena, max, sizeof *items);
    size_t count = 0;
    if (!texts || !items) {
        return proto_err_set(reterr, E_NO_MEMORY, "%s", name);
    }
    enum err err = control_list(call, name, texts, max, &count, reterr);
    for (size_t i = 0; i < count; i++) {
        items[i].text = span_str(texts[i]);
    }
    *ret = (struct proto_list){items, err ? 0 : count};
    return err;
}

static enum err permission(struct control_call *call, struct proto_purpose *ret,
                           struct err_info *reterr)
{
    const char *text = control_text(call, "--purpose");
    enum err err = text ? proto_duo_parse(text, &ret->permission, reterr) : E_OK;
    if (!err && text && !proto_duo_is_purpose(ret->permission)) {
        err = proto_err_set(
            reterr, E_USAGE,
            "%s is no purpose of a request; use for example DUO:0000042 (general research use)",
            text);
    }
    return err == E_INVALID ? E_USAGE : err;
}

static enum err diseases(struct control_call *call, struct proto_purpose *ret,
                         struct err_info *reterr)
{
    enum err err =
        control_text_list(call, "--disease", PROTO_REQUEST_DISEASES_MAX, &ret->diseases, reterr);
    if (err) {
        return err;
    }
    const struct proto_text *items = ret->diseases.items;
    for (size_t i = 0; i < ret->diseases.count; i++) {
        struct err_info why = {0};
        if (proto_curie_check(items[i].text, &why)) {
            return proto_err_set(reterr, E_USAGE, "--disease %.*s: %.200s", (int)items[i].text.len,
                                 (const char *)items[i].text.ptr, why.text);
        }
    }
    return E_OK;
}

static enum err research(struct control_call *call, struct proto_purpose *ret,
                         struct err_info *reterr)
{
    struct proto_list list;
    struct err_info why = {0};
    enum err err = control_text_list(call, "--research", PROTO_RESEARCH_TOTAL, &list, reterr);
    if (err) {
        return err;
    }
    ret->has_research = control_text(call, "--research") != NULL;
    return proto_research_parse(&list, &ret->research, &why)
               ? proto_err_set(reterr, E_USAGE, "--research: %.300s", why.text)
               : E_OK;
}

static enum err ethics(struct control_call *call, struct proto_purpose *ret,
                       struct err_info *reterr)
{
    const char *ref = control_text(call, "--ethics");
    const char *until = control_text(call, "--ethics-until");
    int64_t time = 0;
    if ((ref != NULL) != (until != NULL)) {
        return proto_err_set(reterr, E_USAGE, "--ethics and --ethics-until need each other");
    }
    if (until && (!proto_time_parse(until, &time) || time <= 0)) {
        return proto_err_set(reterr, E_USAGE, "--ethics-until takes a date such as 2027-12-31");
    }
    ret->ethics_ref = ref ? span_str(ref) : SPAN_NONE;
    ret->ethics_expires = (uint64_t)time;
    return E_OK;
}

static enum err accepted(struct control_call *call, struct proto_purpose *ret,
                         struct err_info *reterr)
{
    enum err err =
        control_text_list(call, "--accept", PROTO_REQUEST_ACCEPTED_MAX, &ret->accepted, reterr);
    if (err) {
        return err;
    }
    const struct proto_text *items = ret->accepted.items;
    for (size_t i = 0; i < ret->accepted.count; i++) {
        bool commitment;
        if (!proto_obligation_known(items[i].text, &commitment)) {
            struct span near = proto_obligation_nearest(items[i].text);
            return proto_err_set(reterr, E_USAGE, "--accept: no obligation is called %.*s%s%.*s",
                                 (int)items[i].text.len, (const char *)items[i].text.ptr,
                                 near.len ? "; the nearest is " : "", (int)near.len,
                                 (const char *)near.ptr);
        }
    }
    return E_OK;
}

enum err control_purpose(struct control_call *call, struct proto_purpose *ret,
                         struct err_info *reterr)
{
    const struct query_context *context = &call->node->query;
    const char *project = control_text(call, "--project");
    *ret = (struct proto_purpose){
        .person = span_str(call->person),
        /* an ad-hoc project is named after its person */
        .project = span_str(project ? project : call->person),
        .has_commercial = context->commercial_known,
        .commercial = context->commercial,
    };
    enum err err = permission(call, ret, reterr);
    err = err ? err : diseases(call, ret, reterr);
    err = err ? err : research(call, ret, reterr);
    err = err ? err : ethics(call, ret, reterr);
    err = err ? err : accepted(call, ret, reterr);
    /* What was not said is the project's; what was said may only narrow it. */
    return err ? err
               : query_project_fill(&call->node->query, &call->arena, ret, query_now(), reterr);
}
