#include "config.h"
#include "node/train/base.h"

#include "crypto/provider.h"
#include "proto/codec.h"
#include "proto/manifest.h"
#include "store/blob.h"
#include "store/job.h"

#include <stdio.h>

#define MAGIC_SIZE 4
static const char magic[MAGIC_SIZE + 1] = "CTB1";

struct disk_base {
    struct span name, hash;
    uint64_t size;
    struct span spdx, under;
    uint64_t under_size;
    int64_t time;
};
static const struct proto_field base_fields[] = {
    PROTO_FIELD(struct disk_base, name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct disk_base, hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct disk_base, size, PROTO_U64, 1, STORE_BLOB_MAX),
    PROTO_FIELD(struct disk_base, spdx, PROTO_STR, 0, 128),
    PROTO_FIELD(struct disk_base, under, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct disk_base, under_size, PROTO_U64, 0, STORE_BLOB_MAX),
    PROTO_FIELD(struct disk_base, time, PROTO_I64, 0, INT64_C(1) << 40),
};
static const struct proto_message base_message =
    PROTO_MESSAGE("base model", struct disk_base, base_fields);

static void row_id(const char *name, uint8_t ret[16])
{
    uint8_t hash[32];
    const struct span parts[] = {span_of("concordat1-train-base", 22), span_str(name)};
    crypto_sha256(parts, 2, hash);
    memcpy(ret, hash, 16);
}

enum err train_base_put(struct store *store, const struct train_base *base, struct err_info *reterr)
{
    struct buf out = {.max = 4096};
    uint8_t id[16];
    struct disk_base disk = {
        .name = span_str(base->name),
        .hash = span_of(base->hash, 32),
        .size = base->size,
        .spdx = span_str(base->spdx),
        .under = span_of(base->under, 32),
        .under_size = base->under_size,
        .time = base->time,
    };
    if (!proto_dataset_name_valid(span_str(base->name))) {
        return proto_err_set(reterr, E_INVALID,
                             "a model's name must match [a-z0-9][a-z0-9._-]{0,63}");
    }
    row_id(base->name, id);
    enum err err = buf_put(&out, span_of(magic, MAGIC_SIZE));
    err = err ? err : proto_codec_encode(&base_message, &disk, &out, reterr);
    err = err ? err : store_job_put(store, id, buf_span(&out), reterr);
    buf_fini(&out);
    return err;
}

static enum err decode(struct span bytes, struct train_base *ret)
{
    struct arena arena = {0};
    struct disk_base disk;
    if (bytes.len < MAGIC_SIZE || memcmp(bytes.ptr, magic, MAGIC_SIZE) != 0) {
        return E_INVALID;
    }
    enum err err =
        proto_codec_decode(&base_message, span_of(bytes.ptr + MAGIC_SIZE, bytes.len - MAGIC_SIZE),
                           &arena, &disk, NULL);
    if (!err) {
        *ret = (struct train_base){
            .size = disk.size, .under_size = disk.under_size, .time = disk.time};
        (void)span_to_cstr(disk.name, ret->name, sizeof ret->name);
        (void)span_to_cstr(disk.spdx, ret->spdx, sizeof ret->spdx);
        memcpy(ret->hash, disk.hash.ptr, 32);
        memcpy(ret->under, disk.under.ptr, 32);
    }
    arena_fini(&arena);
    return err;
}

enum err train_base_find(struct store *store, const char *name, struct train_base *ret,
                         struct err_info *reterr)
{
    struct buf bytes = {.max = 4096};
    uint8_t id[16];
    row_id(name, id);
    enum err err = store_job_get(store, id, &bytes, NULL);
    err = err ? err : decode(buf_span(&bytes), ret);
    buf_fini(&bytes);
    return err == E_NOT_FOUND
               ? proto_err_set(reterr, err,
                               "no base model is called %s here; `concordat model import` brings "
                               "one in",
                               name)
               : err;
}

struct each {
    train_base_fn *fn;
    void *user;
};

static enum err on_row(void *user, const uint8_t id[16], struct span state)
{
    struct each *each = user;
    struct train_base base;
    (void)id;
    return decode(state, &base) ? E_OK : each->fn(each->user, &base);
}

enum err train_base_each(struct store *store, train_base_fn *each, void *user,
                         struct err_info *reterr)
{
    struct each with = {each, user};
    return store_job_each(store, on_row, &with, reterr);
}
