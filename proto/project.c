#include "config.h"
#include "proto/project.h"

#include "proto/duo.h"

static const char *const fault_texts[] = {
#define X(name, text) text,
    PROTO_PROJECT_FAULTS(X)
#undef X
};

const char *proto_project_fault_text(enum proto_project_fault fault)
{
    return (size_t)fault < sizeof fault_texts / sizeof *fault_texts ? fault_texts[fault]
                                                                    : "unknown";
}

void proto_project_purpose(const struct proto_project *project, struct span person,
                           struct proto_purpose *ret)
{
    *ret = (struct proto_purpose){
        .person = person,
        .project = project->name,
        .permission = project->permission,
        .diseases = project->diseases,
        .has_research = project->has_research,
        .research = project->research,
        .has_commercial = project->has_commercial,
        .commercial = project->commercial,
        .ethics_ref = project->ethics_ref,
        .ethics_expires = project->ethics_expires,
        .accepted = project->obligations,
    };
}

static bool in_list(const struct proto_list *list, struct span text)
{
    const struct proto_text *items = list->items;
    for (size_t i = 0; i < list->count; i++) {
        if (span_equal(items[i].text, text)) {
            return true;
        }
    }
    return false;
}

/* DUO's tree of permissions, with methods development below general research. */
static bool permission_covers(uint64_t outer, uint64_t inner)
{
    switch (outer) {
    case PROTO_DUO_GRU:
        return inner == PROTO_DUO_GRU || inner == PROTO_DUO_HMB || inner == PROTO_DUO_DS ||
               inner == PROTO_DUO_POA || inner == PROTO_DUO_MDS;
    case PROTO_DUO_HMB:
        return inner == PROTO_DUO_HMB || inner == PROTO_DUO_DS;
    default:
        return outer == inner;
    }
}

static bool diseases_cover(const struct proto_list *outer, const struct proto_list *inner,
                           const struct proto_ontology *ontology)
{
    const struct proto_text *given = outer->items;
    const struct proto_text *asked = inner->items;
    for (size_t i = 0; i < inner->count; i++) {
        bool covered = outer->count == 0; /* a project for no certain disease covers each */
        for (size_t j = 0; j < outer->count && !covered; j++) {
            covered = span_equal(given[j].text, asked[i].text) ||
                      proto_ontology_is_a(ontology, asked[i].text, given[j].text);
        }
        if (!covered) {
            return false;
        }
    }
    return inner->count > 0 || outer->count == 0;
}

enum proto_project_fault proto_purpose_fault(const struct proto_purpose *outer,
                                             const struct proto_purpose *inner,
                                             const struct proto_ontology *ontology)
{
    if (!permission_covers(outer->permission, inner->permission)) {
        return PROTO_PROJECT_PURPOSE;
    }
    if (!diseases_cover(&outer->diseases, &inner->diseases, ontology)) {
        return PROTO_PROJECT_DISEASE;
    }
    if (outer->has_research && (!inner->has_research || (inner->research & ~outer->research))) {
        return PROTO_PROJECT_RESEARCH;
    }
    if (outer->has_commercial &&
        (!inner->has_commercial || inner->commercial > outer->commercial)) {
        return PROTO_PROJECT_COMMERCIAL;
    }
    bool same_ethics = span_equal(inner->ethics_ref, outer->ethics_ref) &&
                       inner->ethics_expires <= outer->ethics_expires;
    return inner->ethics_ref.ptr && !same_ethics ? PROTO_PROJECT_ETHICS : PROTO_PROJECT_NONE;
}

enum proto_project_fault proto_project_fault(const struct proto_project *project,
                                             const struct proto_purpose *purpose, int64_t now,
                                             const struct proto_ontology *ontology)
{
    struct proto_purpose outer;
    proto_project_purpose(project, purpose->person, &outer);
    if (project->ends && now >= (int64_t)project->ends) {
        return PROTO_PROJECT_ENDED;
    }
    if (project->people.count && !in_list(&project->people, purpose->person)) {
        return PROTO_PROJECT_PERSON;
    }
    return proto_purpose_fault(&outer, purpose, ontology);
}

static enum err unite(const struct proto_list *a, const struct proto_list *b, struct arena *arena,
                      struct proto_list *ret)
{
    const struct proto_text *more = b->items;
    struct proto_text *items = arena_alloc(arena, a->count + b->count + 1, sizeof *items);
    if (!items) {
        return E_NO_MEMORY;
    }
    *ret = (struct proto_list){items, a->count};
    if (a->count) {
        memcpy(items, a->items, a->count * sizeof *items);
    }
    for (size_t i = 0; i < b->count; i++) {
        if (!in_list(ret, more[i].text)) {
            items[ret->count++] = more[i];
        }
    }
    return ret->count <= PROTO_REQUEST_ACCEPTED_MAX ? E_OK : E_LIMIT;
}

enum err proto_purpose_fill(const struct proto_purpose *outer, const struct proto_purpose *stated,
                            struct arena *arena, struct proto_purpose *ret)
{
    *ret = *outer;
    ret->person = stated->person;
    ret->permission = stated->permission ? stated->permission : outer->permission;
    ret->diseases = stated->diseases.count ? stated->diseases : outer->diseases;
    if (stated->has_research) {
        ret->has_research = true;
        ret->research = stated->research;
    }
    if (!outer->has_commercial || (stated->has_commercial && !stated->commercial)) {
        ret->has_commercial = stated->has_commercial;
        ret->commercial = stated->commercial;
    }
    if (stated->ethics_ref.ptr) {
        ret->ethics_ref = stated->ethics_ref;
        ret->ethics_expires = stated->ethics_expires;
    }
    return unite(&outer->accepted, &stated->accepted, arena, &ret->accepted);
}
