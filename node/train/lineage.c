#include "config.h"
#include "node/train/lineage.h"

#include "crypto/provider.h"
#include "node/query/site.h"
#include "store/records.h"

#include <math.h>

static enum err add_duty(struct train_lineage *lineage, struct arena *arena, struct span id)
{
    for (size_t i = 0; i < lineage->duty_count; i++) {
        if (span_equal(lineage->duties[i].text, id)) {
            return E_OK;
        }
    }
    if (lineage->duty_count == TRAIN_DUTIES_MAX) {
        return E_LIMIT;
    }
    const char *copy = arena_strdup(arena, id);
    lineage->duties[lineage->duty_count++].text = span_str(copy);
    return copy ? E_OK : E_NO_MEMORY;
}

/* What a site said that its data oblige to; separated by blanks. */
static enum err add_duties(struct train_lineage *lineage, struct arena *arena, const char *duties)
{
    enum err err = E_OK;
    while (!err && *duties) {
        size_t len = strcspn(duties, " ");
        err = len ? add_duty(lineage, arena, span_of(duties, len)) : E_OK;
        duties += len + (duties[len] == ' ');
    }
    return err;
}

static void add_site(const struct train_site *site, struct train_lineage *lineage)
{
    bool known = false;
    lineage->participants[lineage->participant_count++] = (struct proto_model_participant){
        .node = span_of(site->id, 16),
        .org = span_str(site->org),
        .epsilon_u = (uint64_t)ceil(site->epsilon * 1e6),
        .rounds = site->rounds,
    };
    for (size_t i = 0; i < lineage->licence_count; i++) {
        known = known || memcmp(lineage->licences[i].record_id.ptr, site->licence_id, 16) == 0;
    }
    if (!known) {
        lineage->licences[lineage->licence_count++].record_id = span_of(site->licence_id, 16);
    }
    /* What the site itself allowed, by the grant that it chose. */
    if (site->release < lineage->release) {
        lineage->release = (enum proto_release)site->release;
    }
    lineage->epsilon = fmax(lineage->epsilon, site->epsilon);
}

static enum err load(struct train_service *service, const uint8_t id[16], struct arena *arena,
                     struct proto_licence **ret)
{
    struct span bytes;
    struct proto_record record;
    *ret = arena_alloc(arena, 1, sizeof **ret);
    if (!*ret) {
        return E_NO_MEMORY;
    }
    bool gone = store_records_by_id(service->context->store, id, arena, &bytes) ||
                proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) ||
                proto_licence_decode(record.envelope.body, arena, *ret, NULL);
    return gone ? E_NOT_FOUND : E_OK;
}

static enum err derive(struct train_service *service, const char *name, const uint8_t weights[32],
                       struct train_lineage *lineage, struct arena *arena, struct err_info *reterr)
{
    struct proto_derive_parent parents[TRAIN_SITES_MAX];
    const struct proto_derive_terms terms = {.model = span_str(name),
                                             .version = span_str("1"),
                                             .weights = span_of(weights, 32),
                                             .private = lineage->epsilon > 0,
                                             .now = query_now()};
    for (size_t i = 0; i < lineage->licence_count; i++) {
        struct proto_licence *licence;
        const uint8_t *id = lineage->licences[i].record_id.ptr;
        enum err err = load(service, id, arena, &licence);
        if (err) {
            return err;
        }
        parents[i] = (struct proto_derive_parent){licence, id};
    }
    return proto_derive(parents, lineage->licence_count, &terms, service->context->ontology, arena,
                        &lineage->derivation, reterr);
}

/* The narrowest reading where the terms are not at hand. */
static void without_licence(struct train_lineage *lineage)
{
    lineage->derived = false;
    lineage->spdx = "LicenseRef-concordat-see-lineage";
    lineage->release = PROTO_RELEASE_FEDERATION;
}

static enum err take_derived(struct train_lineage *lineage, struct arena *arena)
{
    const struct proto_licence *licence = &lineage->derivation.licence;
    const struct proto_obligation *duties = licence->obligations.items;
    enum err err = E_OK;
    lineage->derived = true;
    lineage->spdx = arena_strdup(arena, licence->spdx);
    if (lineage->derivation.release < lineage->release) {
        lineage->release = lineage->derivation.release;
    }
    for (size_t i = 0; !err && i < licence->obligations.count; i++) {
        err = add_duty(lineage, arena, duties[i].id);
    }
    return err ? err : lineage->spdx ? E_OK : E_NO_MEMORY;
}

enum err train_lineage_gather(struct train_service *service, const struct train_job_state *state,
                              const char *name, const uint8_t weights[32],
                              struct train_lineage *ret, struct arena *arena,
                              struct err_info *reterr)
{
    enum err err = E_OK;
    memset(ret, 0, sizeof *ret);
    ret->release = PROTO_RELEASE_PUBLIC;
    for (size_t i = 0; i < state->site_count; i++) {
        if (state->sites[i].admitted && state->sites[i].rounds) {
            add_site(&state->sites[i], ret);
            err = err ? err : add_duties(ret, arena, state->sites[i].duties);
        }
    }
    enum err derived = err ? err : derive(service, name, weights, ret, arena, reterr);
    if (derived == E_NOT_FOUND || derived == E_INVALID) {
        without_licence(ret);
    } else {
        err = derived ? derived : take_derived(ret, arena);
    }
    return err == E_LIMIT
               ? proto_err_set(reterr, err, "the licences' obligations do not fit in one record")
               : err;
}

enum err train_lineage_publish(struct train_service *service, const char *name,
                               const struct train_lineage *lineage, struct err_info *reterr)
{
    const struct proto_licence *licence = &lineage->derivation.licence;
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    uint8_t id[16];
    if (!lineage->derived) {
        return E_OK;
    }
    enum err err = proto_licence_encode(licence, &body, reterr);
    if (!err) {
        err = peer_publish(service->context->peer, PROTO_RECORD_LICENCE, name, buf_span(&body), 0,
                           (int64_t)licence->expires, id, reterr);
    }
    buf_fini(&body);
    return err;
}
