#include "config.h"
#include "node/query/ask.h"

#include "node/query/known.h"
#include "proto/manifest.h"
#include "proto/nearest.h"
#include "store/records.h"

/* E_NOT_FOUND: this member does not publish it, or not in a form that we understand. */
static enum err load(struct query_context *context, const char *name, struct arena *arena,
                     struct query_publisher *to)
{
    const struct query_record *known;
    enum err err = query_record_get(context, to->member.id, name, PROTO_RECORD_DATASET, arena,
                                    &known, NULL, NULL);
    if (err || !known->understood || (known->record.envelope.flags & PROTO_RECORD_FINAL)) {
        return err == E_NO_MEMORY ? err : E_NOT_FOUND;
    }
    to->dataset = known->dataset;
    to->schema = known->schema;
    memcpy(to->schema_hash, known->schema_hash, 32);
    if (query_record_get(context, to->member.id, name, PROTO_RECORD_LICENCE, arena, &known, NULL,
                         NULL) == E_OK &&
        !(known->record.envelope.flags & PROTO_RECORD_FINAL)) {
        to->has_licence = known->understood;
        if (known->understood) {
            to->licence = known->licence;
        }
        memcpy(to->licence_id, known->record.id, 16);
    }
    return E_OK;
}

#define NAMES_MAX 1024

struct names {
    struct arena *arena;
    const char *names[NAMES_MAX];
    size_t count;
};

static enum err add_name(void *user, struct span bytes, bool forked)
{
    struct names *names = user;
    struct proto_record record;
    struct proto_dataset dataset;
    struct arena arena = {0};
    (void)forked;
    if (names->count < NAMES_MAX &&
        proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        !(record.envelope.flags & PROTO_RECORD_FINAL) &&
        proto_dataset_decode(record.envelope.body, &arena, &dataset, NULL) == E_OK) {
        const char *name = arena_strdup(names->arena, dataset.name);
        names->names[names->count] = name;
        names->count += name != NULL;
    }
    arena_fini(&arena);
    return E_OK;
}

static enum err nobody(struct query_context *context, const char *dataset, struct arena *arena,
                       struct err_info *reterr)
{
    struct names *names = arena_alloc(arena, 1, sizeof *names);
    const char *near = NULL;
    if (names) {
        names->arena = arena;
        (void)!store_records_each(context->store, PROTO_RECORD_DATASET, add_name, names);
        near = proto_suggest(names->names, names->count, dataset);
    }
    return proto_err_set(reterr, E_NOT_FOUND,
                         "nobody in the federation publishes a dataset %s%s%s%s; `concordat "
                         "catalog` lists what there is",
                         dataset, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

enum err query_publishers(struct query_context *context, const char *dataset, struct arena *arena,
                          struct query_publisher **ret, size_t *ret_count, struct err_info *reterr)
{
    struct peer_member none;
    size_t cap = peer_members(context->peer, &none, 0) + 1; /* room for one that joins meanwhile */
    struct peer_member *members = proto_alloc(cap, sizeof *members);
    size_t count = members ? peer_members(context->peer, members, cap) : 0;
    count = count < cap ? count : cap;
    struct query_publisher *publishers = arena_alloc(arena, count, sizeof *publishers);
    enum err err = members && publishers ? E_OK : E_NO_MEMORY;
    size_t found = 0;
    for (size_t i = 0; !err && i < count; i++) {
        if (members[i].state == PEER_REVOKED) {
            continue;
        }
        publishers[found].member = members[i];
        err = load(context, dataset, arena, &publishers[found]);
        found += err == E_OK;
        err = err == E_NOT_FOUND ? E_OK : err;
    }
    proto_free(members);
    if (!err && found == 0) {
        err = nobody(context, dataset, arena, reterr);
    }
    *ret = publishers;
    *ret_count = found;
    return err;
}

size_t query_publishers_schema(const struct query_context *context,
                               const struct query_publisher *publishers, size_t count)
{
    size_t best = 0;
    size_t best_votes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t votes = memcmp(publishers[i].member.id, context->node_id, 16) == 0 ? count : 0;
        for (size_t j = 0; j < count; j++) {
            votes += memcmp(publishers[i].schema_hash, publishers[j].schema_hash, 32) == 0;
        }
        if (votes > best_votes) {
            best = i;
            best_votes = votes;
        }
    }
    return best;
}
