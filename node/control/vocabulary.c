#include "config.h"
#include "node/control/vocabulary.h"
#include "node/control/call.h"

#include "proto/duo.h"
#include "proto/explain.h"
#include "proto/request.h"
#include "proto/schema.h"
#include "proto/spdx.h"
#include "proto/time.h"

#include <stdio.h>

/* --- Names ------------------------------------------------------------------------------------------------------------- */

static json_t *text(struct span span)
{
    return json_stringn((const char *)span.ptr, span.len);
}

static json_t *moment(uint64_t unix_s)
{
    char buffer[PROTO_TIME_SIZE];
    return json_string(proto_time_format((int64_t)unix_s, buffer));
}

/* "urn:concordat:dataset:alpha/flchain" */
static json_t *asset(const struct control_vocabulary_source *s)
{
    bool model = s->licence->derived_from.count > 0;
    return json_sprintf("urn:concordat:%s:%s/%.*s", model ? "model" : "dataset", s->member->name,
                        (int)s->licence->dataset.len, (const char *)s->licence->dataset.ptr);
}

static json_t *record_name(const struct control_vocabulary_source *s)
{
    char hex[33];
    span_to_hex(span_of(s->record->id, 16), hex);
    return json_sprintf("urn:concordat:record:%s", hex);
}

static json_t *duo(uint64_t code)
{
    return json_sprintf("duo:%07u", (unsigned)(code % 10000000));
}

/* "MONDO:0004992" is obo:MONDO_0004992; ICD-10 and EFO have addresses of their own. */
static json_t *disease(struct span curie)
{
    const uint8_t *colon = memchr(curie.ptr, ':', curie.len);
    int prefix = colon ? (int)(colon - curie.ptr) : 0;
    int local = colon ? (int)curie.len - prefix - 1 : 0;
    if (!colon) {
        return text(curie);
    }
    bool obo = span_is(span_of(curie.ptr, (size_t)prefix), "MONDO") ||
               span_is(span_of(curie.ptr, (size_t)prefix), "DOID");
    return json_sprintf(obo ? "http://purl.obolibrary.org/obo/%.*s_%.*s"
                        : span_is(span_of(curie.ptr, (size_t)prefix), "EFO")
                            ? "http://www.ebi.ac.uk/efo/%.*s_%.*s"
                            : "urn:concordat:disease:%.*s:%.*s",
                        prefix, (const char *)curie.ptr, local, (const char *)colon + 1);
}

static json_t *place(struct span code)
{
    return json_sprintf("https://www.iso.org/obp/ui/#iso:code:3166:%.*s", (int)code.len,
                        (const char *)code.ptr);
}

static json_t *plain(struct span span)
{
    return text(span);
}

static json_t *each(const struct proto_list *list, json_t *(*name)(struct span))
{
    json_t *array = json_array();
    const struct proto_text *items = list->items;
    for (size_t i = 0; i < list->count; i++) {
        json_array_append_new(array, name(items[i].text));
    }
    return array;
}

/* --- ODRL -------------------------------------------------------------------------------------------------------------- */

/* takes RIGHT. */
static json_t *constraint(const char *left, const char *operator, json_t * right)
{
    return json_pack("{s:s, s:s, s:o}", "leftOperand", left, "operator", operator, "rightOperand",
                     right);
}

static json_t *duty(const char *action, const struct proto_list *parties)
{
    json_t *view = json_pack("{s:s}", "action", action);
    if (parties && parties->count) {
        json_object_set_new(view, "attributedParty", each(parties, plain));
    }
    return view;
}

static json_t *organisations(const char *kind)
{
    return json_pack("{s:s, s:[o]}", "@type", "PartyCollection", "refinement",
                     constraint("duodrl:OrganisationType", "isA", json_string(kind)));
}

static json_t *prohibition(json_t *target, const char *action, json_t *limit)
{
    json_t *view = json_pack("{s:o, s:s}", "target", target, "action", action);
    if (limit) {
        json_object_set_new(view, "constraint", json_pack("[o]", limit));
    }
    return view;
}

struct rules {
    const struct control_vocabulary_source *source;
    json_t *permissions;
    json_t *prohibitions;
    json_t *obligations;
};

static void forbid(struct rules *r, const char *action, json_t *limit)
{
    json_array_append_new(r->prohibitions, prohibition(asset(r->source), action, limit));
}

/* In force for the whole dataset: time, places and recipients, on every permission. */
static void common_constraints(const struct proto_licence *l, json_t *to)
{
    const struct proto_recipients *r = &l->recipients;
    json_array_append_new(to, constraint("dateTime", "gteq", moment(l->not_before)));
    json_array_append_new(to, constraint("dateTime", "lt", moment(l->expires)));
    if (l->has_geography) {
        json_array_append_new(to, constraint("spatial", "isAnyOf", each(&l->geography, place)));
    }
    if (r->has_institutions) {
        json_array_append_new(to,
                              constraint("recipient", "isAnyOf", each(&r->institutions, plain)));
    }
    if (r->has_users) {
        json_array_append_new(to,
                              constraint("concordat:person", "isAnyOf", each(&r->users, plain)));
    }
    if (r->has_projects) {
        json_array_append_new(to,
                              constraint("duodrl:Project", "isAnyOf", each(&r->projects, plain)));
    }
    if (l->hold) {
        json_array_append_new(to, constraint("concordat:approval", "eq", json_string("manual")));
    }
}

static void purpose_constraints(const struct proto_grant *grant, json_t *to)
{
    if (grant->permission != PROTO_DUO_NRES) {
        json_array_append_new(to, constraint("purpose", "isA", duo(grant->permission)));
    }
    if (grant->diseases.count) {
        json_array_append_new(
            to, constraint("duodrl:Disease", "isAnyOf", each(&grant->diseases, disease)));
    }
}

/* What DUO and ODRL have no word for. */
static void terms_constraints(const struct proto_grant *grant, json_t *to)
{
    json_t *actions = json_array();
    for (int i = 0; i < PROTO_ACTION_TOTAL; i++) {
        if (grant->actions & PROTO_ACTION_BIT(i)) {
            json_array_append_new(actions, json_string(proto_action_name((enum proto_action)i)));
        }
    }
    json_array_append_new(to, constraint("concordat:action", "isAnyOf", actions));
    if (grant->has_columns) {
        json_array_append_new(
            to, constraint("concordat:column", "isAnyOf", each(&grant->columns, plain)));
    }
    const struct proto_visa_wanted *visas = grant->visas.items;
    for (size_t i = 0; i < grant->visas.count; i++) {
        json_t *wanted = json_pack("{s:o, s:o, s:o}", "type", text(visas[i].type), "value",
                                   text(visas[i].value), "issuer", each(&visas[i].issuers, plain));
        if (visas[i].by.count) {
            json_object_set_new(wanted, "by", each(&visas[i].by, plain));
        }
        json_array_append_new(to, constraint("concordat:visa", "eq", wanted));
    }
    json_array_append_new(
        to, constraint("concordat:minCohort", "gteq", json_integer((json_int_t)grant->min_cohort)));
    json_array_append_new(
        to, constraint("concordat:minSites", "gteq", json_integer((json_int_t)grant->min_sites)));
    if (grant->privacy.mechanism != PROTO_MECHANISM_NONE) {
        json_array_append_new(to,
                              constraint("concordat:epsilonTotal", "lteq",
                                         json_real((double)grant->privacy.epsilon_total_u / 1e6)));
        json_array_append_new(
            to, constraint("concordat:epsilonPerQuery", "lteq",
                           json_real((double)grant->privacy.epsilon_per_query_u / 1e6)));
    }
}

static const struct proto_list none;

/* A modifier of the grant: a constraint or duty of its permission, or a prohibition beside it. */
static void modifier_rules(struct rules *r, const struct proto_modifier *m, json_t *permission)
{
    json_t *constraints = json_object_get(permission, "constraint");
    json_t *duties = json_object_get(permission, "duty");
    const struct proto_text *params = m->params.items;
    struct span first = m->params.count ? params[0].text : SPAN_NONE;
    switch (m->code) {
    case PROTO_DUO_RS:
        json_array_append_new(constraints,
                              constraint("concordat:research", "isAllOf", each(&m->params, plain)));
        break;
    case PROTO_DUO_GSO:
        json_array_append_new(constraints, constraint("purpose", "isA", json_string("duodrl:GS")));
        break;
    case PROTO_DUO_NMDS:
        forbid(r, "use", constraint("purpose", "isA", json_string("duodrl:MDS")));
        break;
    case PROTO_DUO_NPOA:
        forbid(r, "use", constraint("purpose", "isA", json_string("duodrl:POA")));
        break;
    case PROTO_DUO_NPUNCU:
    case PROTO_DUO_NPU:
        json_object_set_new(permission, "assignee", organisations("duodrl:NonProfitOrganisation"));
        json_array_append_new(r->prohibitions,
                              json_pack("{s:o, s:s, s:o}", "target", asset(r->source), "action",
                                        "use", "assignee",
                                        organisations("duodrl:ForProfitOrganisation")));
        if (m->code == PROTO_DUO_NPU) {
            break;
        }
        json_array_append_new(constraints, constraint("purpose", "isA", json_string("duodrl:NCU")));
        break;
    case PROTO_DUO_NCU:
        json_array_append_new(constraints, constraint("purpose", "isA", json_string("duodrl:NCU")));
        break;
    case PROTO_DUO_IRB:
        json_array_append_new(duties, duty("duodrl:ProvideEthicalApproval", &none));
        break;
    case PROTO_DUO_COL:
        json_array_append_new(duties, duty("duodrl:CollaborateWithStudyPI", &m->params));
        break;
    case PROTO_DUO_PUB:
        json_array_append_new(duties, json_pack("{s:s, s:s}", "action", "distribute", "target",
                                                "duodrl:ResultsOfStudies"));
        break;
    case PROTO_DUO_RTN:
        json_array_append_new(duties, duty("duodrl:ReturnDerivedOrEnrichedData", &m->params));
        break;
    case PROTO_DUO_MOR:
        json_array_append_new(r->prohibitions,
                              prohibition(json_string("duodrl:ResultsOfStudies"), "distribute",
                                          constraint("dateTime", "lt", text(first))));
        break;
    case PROTO_DUO_TS:
        for (size_t i = 0; i < m->params.count; i++) {
            struct span limit = ((const struct proto_text *)m->params.items)[i].text;
            json_array_append_new(
                constraints, limit.len > 3 ? constraint("dateTime", "lteq", text(limit))
                                           : constraint("elapsedTime", "lteq",
                                                        json_sprintf("P%.*sM", (int)limit.len,
                                                                     (const char *)limit.ptr)));
        }
        break;
    case PROTO_DUO_GS:
        json_array_append_new(constraints,
                              constraint("spatial", "isAnyOf", each(&m->params, place)));
        break;
    case PROTO_DUO_US:
        json_array_append_new(constraints,
                              constraint("concordat:person", "isAnyOf", each(&m->params, plain)));
        break;
    case PROTO_DUO_PS:
        json_array_append_new(constraints,
                              constraint("duodrl:Project", "isAnyOf", each(&m->params, plain)));
        break;
    case PROTO_DUO_IS:
        json_array_append_new(constraints,
                              constraint("recipient", "isAnyOf", each(&m->params, plain)));
        break;
    default: /* CC is a permission of its own */
        break;
    }
}

static json_t *permission_of(struct rules *r, const struct proto_grant *grant, bool clinical)
{
    const struct proto_modifier *modifiers = grant->modifiers.items;
    json_t *permission =
        json_pack("{s:o, s:s, s:s, s:[], s:[]}", "target", asset(r->source), "assigner",
                  r->source->member->org, "action", "use", "constraint", "duty");
    json_t *constraints = json_object_get(permission, "constraint");
    if (clinical) {
        json_array_append_new(constraints, constraint("purpose", "isA", duo(PROTO_DUO_CC)));
    } else {
        purpose_constraints(grant, constraints);
    }
    common_constraints(r->source->licence, constraints);
    terms_constraints(grant, constraints);
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        modifier_rules(r, &modifiers[i], permission);
    }
    if (json_array_size(json_object_get(permission, "duty")) == 0) {
        json_object_del(permission, "duty");
    }
    return permission;
}

static void grant_rules(struct rules *r, const struct proto_grant *grant)
{
    const struct proto_modifier *modifiers = grant->modifiers.items;
    json_array_append_new(r->permissions, permission_of(r, grant, false));
    for (size_t i = 0; i < grant->modifiers.count; i++) {
        if (modifiers[i].code == PROTO_DUO_CC) {
            json_array_append_new(r->permissions, permission_of(r, grant, true));
        }
    }
}

static void obligation_rules(struct rules *r)
{
    const struct proto_licence *l = r->source->licence;
    const struct proto_obligation *items = l->obligations.items;
    for (size_t i = 0; i < l->obligations.count; i++) {
        struct span id = items[i].id;
        if (span_is(id, "no-reidentify") || span_is(id, "no-relink")) {
            forbid(r, span_is(id, "no-relink") ? "concordat:relink" : "concordat:reidentify", NULL);
            continue;
        }
        json_t *view =
            json_pack("{s:o, s:o}", "action",
                      span_is(id, "attribution")   ? json_string("attribute")
                      : span_is(id, "share-alike") ? json_string("cc:ShareAlike")
                      : span_is(id, "delete-by")
                          ? json_string("delete")
                          : json_sprintf("concordat:%.*s", (int)id.len, (const char *)id.ptr),
                      "target", asset(r->source));
        if (items[i].text.len) {
            json_object_set_new(view, "comment", text(items[i].text));
        }
        json_array_append_new(r->obligations, view);
    }
}

static json_t *contexts(void)
{
    return json_pack("[s, {s:s, s:s, s:s, s:s}]", "http://www.w3.org/ns/odrl.jsonld", "duo",
                     "http://purl.obolibrary.org/obo/DUO_", "duodrl", "https://w3id.org/duodrl#",
                     "cc", "http://creativecommons.org/ns#", "concordat", "urn:concordat:");
}

static void set_if_any(json_t *object, const char *key, json_t *take_array)
{
    if (json_array_size(take_array)) {
        json_object_set(object, key, take_array);
    }
    json_decref(take_array);
}

json_t *control_vocabulary_odrl(const struct control_vocabulary_source *source)
{
    const struct proto_grant *grants = source->licence->grants.items;
    struct rules r = {source, json_array(), json_array(), json_array()};
    for (size_t i = 0; i < source->licence->grants.count; i++) {
        grant_rules(&r, &grants[i]);
    }
    obligation_rules(&r);
    json_t *policy =
        json_pack("{s:o, s:s, s:o, s:s, s:s, s:o}", "@context", contexts(), "@type", "Offer", "uid",
                  record_name(source), "profile", "https://w3id.org/duodrl", "conflict", "prohibit",
                  "permission", r.permissions);
    set_if_any(policy, "prohibition", r.prohibitions);
    set_if_any(policy, "obligation", r.obligations);
    return policy;
}

/* --- Croissant --------------------------------------------------------------------------------------------------------- */

/* Of an id on the list its page there; of what is more than one licence the expression itself. */
static json_t *licence_url(struct span spdx)
{
    struct proto_spdx_expression e;
    bool one = !proto_spdx_parse(spdx, &e, NULL) && e.count == 1 &&
               e.nodes[0].kind == PROTO_SPDX_ID && !e.nodes[0].or_later &&
               !e.nodes[0].exception.len;
    return one ? json_sprintf("https://spdx.org/licenses/%.*s", (int)spdx.len,
                              (const char *)spdx.ptr)
               : text(spdx);
}

static json_t *croissant_context(void)
{
    static const char *const terms[] = {"annotation",    "arrayShape",  "citeAs",
                                        "column",        "containedIn", "equivalentProperty",
                                        "excludes",      "extract",     "field",
                                        "fileProperty",  "fileObject",  "fileSet",
                                        "format",        "includes",    "isArray",
                                        "isLiveDataset", "jsonPath",    "key",
                                        "md5",           "parentField", "recordSet",
                                        "references",    "regex",       "readLines",
                                        "sdVersion",     "separator",   "source",
                                        "subField",      "transform",   "unArchive",
                                        "value"};
    json_t *context = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s}, s:{s:s, s:s}}",
        "@language", "en", "@vocab", "http://schema.org/", "sc", "http://schema.org/", "cr",
        "http://mlcommons.org/croissant/", "rai", "http://mlcommons.org/croissant/RAI/", "dct",
        "http://purl.org/dc/terms/", "odrl", "http://www.w3.org/ns/odrl/2/", "duo",
        "http://purl.obolibrary.org/obo/DUO_", "conformsTo", "dct:conformsTo", "data", "@id",
        "cr:data", "@type", "@json", "dataType", "@id", "cr:dataType", "@type", "@vocab",
        "examples", "@id", "cr:examples", "@type", "@json");
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        json_object_set_new(context, terms[i], json_sprintf("cr:%s", terms[i]));
    }
    return context;
}

static const char *data_type(uint64_t type)
{
    switch (type) {
    case PROTO_COLUMN_INTEGER:
        return "sc:Integer";
    case PROTO_COLUMN_REAL:
        return "sc:Float";
    case PROTO_COLUMN_BOOLEAN:
        return "sc:Boolean";
    case PROTO_COLUMN_DATE:
        return "sc:Date";
    default:
        return "sc:Text";
    }
}

static json_t *record_set(const struct proto_dataset *dataset)
{
    const struct proto_dataset_column *columns = dataset->columns.items;
    json_t *fields = json_array();
    for (size_t i = 0; i < dataset->columns.count; i++) {
        json_t *field = json_pack(
            "{s:s, s:o, s:o, s:s}", "@type", "cr:Field", "@id",
            json_sprintf("rows/%.*s", (int)columns[i].name.len, (const char *)columns[i].name.ptr),
            "name", text(columns[i].name), "dataType", data_type(columns[i].type));
        if (columns[i].code.len) {
            json_object_set_new(field, "equivalentProperty", text(columns[i].code));
        }
        if (columns[i].ucum.len) {
            json_object_set_new(field, "description",
                                json_sprintf("in %.*s (UCUM)", (int)columns[i].ucum.len,
                                             (const char *)columns[i].ucum.ptr));
        }
        json_array_append_new(fields, field);
    }
    return json_pack(
        "[{s:s, s:s, s:s, s:s, s:o}]", "@type", "cr:RecordSet", "@id", "rows", "name", "rows",
        "description",
        "Columns as the site stores them; rows never leave it, questions about them do.", "field",
        fields);
}

static json_t *sentences(const struct proto_sentences *from, json_t *to)
{
    for (size_t i = 0; i < from->count; i++) {
        json_array_append_new(to, json_string(from->items[i]));
    }
    return to;
}

/* What the licence says, in sentences, where a reader of RAI fields looks for it. */
static void rai_fields(const struct control_vocabulary_source *s, json_t *to)
{
    struct arena arena = {0};
    struct proto_explanation *e = proto_alloc(1, sizeof *e);
    json_t *uses = json_array(), *limits = json_array(), *sensitive = json_array();
    if (e && !proto_licence_explain(s->licence, s->ontology, &arena, e)) {
        for (size_t i = 0; i < e->grant_count; i++) {
            sentences(&e->grants[i].permits, uses);
            sentences(&e->grants[i].forbids, limits);
            sentences(&e->grants[i].needs, limits);
        }
    }
    if (s->licence->has_deidentified) {
        const struct proto_text *items = s->licence->deidentified.items;
        for (size_t i = 0; i < s->licence->deidentified.count; i++) {
            json_array_append_new(sensitive,
                                  json_sprintf("de-identified: %.*s", (int)items[i].text.len,
                                               (const char *)items[i].text.ptr));
        }
    }
    json_object_set_new(to, "rai:dataUseCases", uses);
    json_object_set_new(to, "rai:dataLimitations", limits);
    set_if_any(to, "rai:personalSensitiveInformation", sensitive);
    arena_fini(&arena);
    proto_free(e);
}

json_t *control_vocabulary_croissant(const struct control_vocabulary_source *s)
{
    const struct proto_dataset *dataset = s->dataset;
    struct span title = dataset && dataset->title.len ? dataset->title : s->licence->dataset;
    json_t *offer = control_vocabulary_odrl(s);
    json_object_del(offer, "@context");
    json_object_set_new(offer, "@type", json_pack("[s, s]", "CreativeWork", "odrl:Offer"));
    json_t *view = json_pack(
        "{s:o, s:s, s:[s, s], s:o, s:o, s:o, s:o, s:o, s:{s:s, s:s}, s:o, s:[], s:o}", "@context",
        croissant_context(), "@type", "sc:Dataset", "conformsTo",
        "http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0", "name",
        text(s->licence->dataset), "description", text(title), "license",
        licence_url(s->licence->spdx), "url", asset(s), "version", text(s->licence->version),
        "creator", "@type", "sc:Organization", "name", s->member->org, "datePublished",
        moment(s->record->envelope.hlc >> 16 ? (s->record->envelope.hlc >> 16) / 1000
                                             : s->licence->not_before),
        "distribution", "usageInfo", offer);
    if (dataset) {
        json_object_set_new(view, "recordSet", record_set(dataset));
    }
    rai_fields(s, view);
    return view;
}

/* --- DCAT -------------------------------------------------------------------------------------------------------------- */

json_t *control_vocabulary_dcat(const struct control_vocabulary_source *s)
{
    const struct proto_dataset *dataset = s->dataset;
    struct span title = dataset && dataset->title.len ? dataset->title : s->licence->dataset;
    json_t *policy = control_vocabulary_odrl(s);
    json_object_del(policy, "@context");
    json_t *view = json_pack(
        "{s:{s:s, s:s, s:s, s:s, s:s}, s:s, s:o, s:o, s:o, s:o, s:o, s:{s:s, s:s}, s:o, s:o, s:o}",
        "@context", "dcat", "http://www.w3.org/ns/dcat#", "dct", "http://purl.org/dc/terms/",
        "foaf", "http://xmlns.com/foaf/0.1/", "odrl", "http://www.w3.org/ns/odrl/2/", "duo",
        "http://purl.obolibrary.org/obo/DUO_", "@type", "dcat:Dataset", "@id", asset(s),
        "dct:identifier", record_name(s), "dct:title", text(title), "dcat:version",
        text(s->licence->version), "dct:license", licence_url(s->licence->spdx), "dct:publisher",
        "@type", "foaf:Organization", "foaf:name", s->member->org, "dct:issued",
        moment(s->licence->not_before), "dct:valid", moment(s->licence->expires), "odrl:hasPolicy",
        policy);
    if (s->licence->has_geography) {
        json_object_set_new(view, "dct:spatial", each(&s->licence->geography, place));
    }
    if (s->licence->contact.len) {
        json_object_set_new(view, "dcat:contactPoint", text(s->licence->contact));
    }
    return view;
}
