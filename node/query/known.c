#include "config.h"
#include "node/query/known.h"

#include "crypto/provider.h"
#include "store/records.h"

#include <pthread.h>
#include <stdatomic.h>

struct entry {
    struct query_record record; /* first: what callers see of it */
    uint8_t issuer[16], key[16];
    uint64_t kind;
    struct span bytes;
    struct arena arena;
    atomic_uint refs;
};

struct query_known {
    pthread_mutex_t lock;
    struct entry *slots[QUERY_KNOWN_SLOTS];
};

static void release(void *user)
{
    struct entry *entry = user;
    if (entry && atomic_fetch_sub(&entry->refs, 1) == 1) {
        arena_fini(&entry->arena);
        proto_free(entry);
    }
}

struct query_known *query_known_new(void)
{
    struct query_known *known = proto_alloc(1, sizeof *known);
    if (known && pthread_mutex_init(&known->lock, NULL)) {
        proto_free(known);
        known = NULL;
    }
    return known;
}

void query_known_free(struct query_known *known)
{
    if (known) {
        for (size_t i = 0; i < QUERY_KNOWN_SLOTS; i++) {
            release(known->slots[i]);
        }
        pthread_mutex_destroy(&known->lock);
        proto_free(known);
    }
}

static struct entry **slot_of(struct query_known *known, const struct entry *of)
{
    uint64_t number = get_be64(of->key) ^ get_be64(of->issuer) ^ of->kind;
    return &known->slots[number % QUERY_KNOWN_SLOTS];
}

/* The entry with the names and bytes of OF; NULL: none. */
static struct entry *find(struct query_known *known, const struct entry *of, struct span bytes)
{
    pthread_mutex_lock(&known->lock);
    struct entry *there = *slot_of(known, of);
    if (there && there->kind == of->kind && memcmp(there->key, of->key, 16) == 0 &&
        memcmp(there->issuer, of->issuer, 16) == 0 && span_equal(there->bytes, bytes)) {
        atomic_fetch_add(&there->refs, 1);
    } else {
        there = NULL;
    }
    pthread_mutex_unlock(&known->lock);
    return there;
}

static void keep(struct query_known *known, struct entry *entry)
{
    atomic_fetch_add(&entry->refs, 1);
    pthread_mutex_lock(&known->lock);
    struct entry **slot = slot_of(known, entry);
    struct entry *old = *slot;
    *slot = entry;
    pthread_mutex_unlock(&known->lock);
    release(old);
}

static enum err understand(struct entry *entry)
{
    struct query_record *to = &entry->record;
    struct span body = to->record.envelope.body;
    enum err err;
    if (entry->kind == PROTO_RECORD_LICENCE) {
        err = proto_licence_decode(body, &entry->arena, &to->licence, NULL);
    } else {
        err = proto_dataset_decode(body, &entry->arena, &to->dataset, NULL);
        err = err ? err : proto_dataset_schema(&to->dataset, &entry->arena, &to->schema, NULL);
        if (!err) {
            proto_schema_hash(&to->schema, &crypto_proto_hash, to->schema_hash);
        }
    }
    to->understood = !err;
    return err == E_NO_MEMORY ? err : E_OK;
}

static enum err make(const struct entry *of, struct span bytes, struct entry **ret,
                     struct err_info *reterr)
{
    struct entry *entry = proto_alloc(1, sizeof *entry);
    uint8_t *copy = entry ? arena_alloc(&entry->arena, bytes.len, 1) : NULL;
    if (!copy) {
        proto_free(entry);
        return E_NO_MEMORY;
    }
    memcpy(copy, bytes.ptr, bytes.len);
    memcpy(entry->issuer, of->issuer, 16);
    memcpy(entry->key, of->key, 16);
    entry->kind = of->kind;
    entry->bytes = span_of(copy, bytes.len);
    atomic_init(&entry->refs, 1);
    enum err err =
        proto_record_decode(entry->bytes, &crypto_proto_hash, &entry->record.record, reterr);
    err = err ? err : understand(entry);
    if (err) {
        release(entry);
        return err;
    }
    *ret = entry;
    return E_OK;
}

enum err query_record_get(struct query_context *context, const uint8_t issuer[16], const char *name,
                          uint64_t kind, struct arena *holder, const struct query_record **ret,
                          bool *ret_forked, struct err_info *reterr)
{
    struct entry of = {.kind = kind};
    struct span bytes;
    memcpy(of.issuer, issuer, 16);
    proto_record_key(&crypto_proto_hash, name, of.key);
    enum err err =
        store_records_get(context->store, issuer, of.key, kind, holder, &bytes, ret_forked);
    if (err) {
        return err;
    }
    struct entry *entry = context->known ? find(context->known, &of, bytes) : NULL;
    if (!entry) {
        err = make(&of, bytes, &entry, reterr);
        if (err) {
            return err;
        }
        if (context->known) {
            keep(context->known, entry);
        }
    }
    if (arena_defer(holder, release, entry)) {
        release(entry);
        return E_NO_MEMORY;
    }
    *ret = &entry->record;
    return E_OK;
}
