#include "config.h"
#include "node/query/ask.h"

#include "proto/manifest.h"
#include "proto/nearest.h"
#include "store/records.h"

static enum err get_body(struct query_context *context, const uint8_t issuer[16], const char *name,
                         uint64_t kind, struct arena *arena, struct proto_record *ret)
{
    uint8_t key[16];
    struct span bytes;
    proto_record_key(&crypto_proto_hash, name, key);
    enum err err = store_records_get(context->store, issuer, key, kind, arena, &bytes, NULL);
    if (!err) {
        err = proto_record_decode(bytes, &crypto_proto_hash, ret, NULL);
    }
    return !err && ret->envelope.flags & PROTO_RECORD_FINAL ? E_NOT_FOUND : err;
}

/* E_NOT_FOUND: this member does not publish it, or not in a form that we understand. */
static enum err load(struct query_context *context, const char *name, struct arena *arena,
                     struct query_publisher *to)
{
    struct proto_record record;
    enum err err = get_body(context, to->member.id, name, PROTO_RECORD_DATASET, arena, &record);
    if (!err) {
        err = proto_dataset_decode(record.envelope.body, arena, &to->dataset, NULL);
    }
    if (!err) {
        err = proto_dataset_schema(&to->dataset, arena, &to->schema, NULL);
    }
    if (err) {
        return err == E_NO_MEMORY ? err : E_NOT_FOUND;
    }
    proto_schema_hash(&to->schema, &crypto_proto_hash, to->schema_hash);
    if (get_body(context, to->member.id, name, PROTO_RECORD_LICENCE, arena, &record) == E_OK) {
        to->has_licence =
            proto_licence_decode(record.envelope.body, arena, &to->licence, NULL) == E_OK;
        memcpy(to->licence_id, record.id, 16);
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
