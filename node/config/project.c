/* The rows of a project's file. What they mean is checked by proto/project. */
#include "config.h"
#include "node/config/bind.h"
#include "node/config/yaml.h"

#include "proto/body.h"
#include "proto/duo.h"
#include "proto/licence.h"
#include "proto/ontology.h"
#include "proto/request.h"

#define PROJECT(m) offsetof(struct config_project, m)
#define TEXTS(m)   .type = CONFIG_TEXTS, .offset = PROJECT(m.items), .count_offset = PROJECT(m.count)

static const struct config_row ethics_rows[] = {
    {.name = "ref",
     .type = CONFIG_CHARS,
     .required = true,
     .offset = PROJECT(ethics_ref),
     .max = 129},
    {.name = "expires", .type = CONFIG_TIME, .required = true, .offset = PROJECT(ethics_expires)},
    CONFIG_ROWS_END,
};

static const struct config_row project_rows[] = {
    {.name = "project", .type = CONFIG_CHARS, .required = true, .offset = PROJECT(name), .max = 65},
    {.name = "purpose",
     .type = CONFIG_CHARS,
     .required = true,
     .offset = PROJECT(purpose),
     .max = 32},
    {.name = "diseases", TEXTS(diseases), .min = 1, .max = 64},
    {.name = "disease", TEXTS(diseases), .min = 1, .max = 64},
    {.name = "research", TEXTS(research), .min = 1, .max = 32},
    {.name = "commercial",
     .type = CONFIG_BOOL,
     .offset = PROJECT(commercial),
     .present = PROJECT(has_commercial)},
    {.name = "ethics", .type = CONFIG_MAP, .rows = ethics_rows},
    {.name = "recipients", TEXTS(recipients), .min = 1, .max = 64},
    {.name = "obligations", TEXTS(accepted), .min = 1, .max = 32},
    {.name = "accept", TEXTS(accepted), .min = 1, .max = 32},
    {.name = "people", TEXTS(people), .min = 1, .max = 64},
    {.name = "ends", .type = CONFIG_TIME, .offset = PROJECT(ends)},
    CONFIG_ROWS_END,
};

static enum err check_project(void *object, struct err_info *reterr)
{
    const struct config_project *project = object;
    struct err_info why = {0};
    uint64_t code;
    enum proto_research type;
    bool commitment;
    if (!proto_dataset_name_valid(span_str(project->name))) {
        return proto_err_set(reterr, E_INVALID, "project: must match [a-z0-9][a-z0-9._-]{0,63}");
    }
    if (proto_duo_parse(project->purpose, &code, &why) || !proto_duo_is_purpose(code)) {
        return proto_err_set(reterr, E_INVALID, "purpose: %.300s",
                             why.text[0] ? why.text : "it is no purpose of a request");
    }
    for (size_t i = 0; i < project->diseases.count; i++) {
        if (proto_curie_check(span_str(project->diseases.items[i]), &why)) {
            return proto_err_set(reterr, E_INVALID, "diseases[%zu]: %.300s", i, why.text);
        }
    }
    for (size_t i = 0; i < project->research.count; i++) {
        if (!proto_research_by_name(span_str(project->research.items[i]), &type)) {
            return proto_err_set(reterr, E_INVALID, "research[%zu]: no such kind of research", i);
        }
    }
    for (size_t i = 0; i < project->accepted.count; i++) {
        if (!proto_obligation_known(span_str(project->accepted.items[i]), &commitment)) {
            return proto_err_set(
                reterr, E_INVALID, "obligations[%zu]: not known; the nearest is %.*s", i,
                (int)proto_obligation_nearest(span_str(project->accepted.items[i])).len,
                (const char *)proto_obligation_nearest(span_str(project->accepted.items[i])).ptr);
        }
    }
    return E_OK;
}

enum err config_yaml_project_bytes(struct span bytes, const char *name, struct config_project *ret,
                                   struct err_info *reterr)
{
    *ret = (struct config_project){0};
    return config_bind(bytes, name, project_rows, ret, &ret->arena, check_project, reterr);
}
