#include "config.h"
#include "store/join.h"

#include "crypto/chunk.h"
#include "crypto/provider.h"
#include "crypto/random.h"
#include "store/env.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEY      16
#define HEAD     (KEY + 2) /* of a record: key, length */
#define BLOCK    ((size_t)64 << 10)
#define CACHED   32
#define NO_BLOCK UINT32_MAX

/* A sealed block of records in the order of their keys. */
struct block {
    uint8_t first[KEY];
    uint64_t at;
    uint32_t len;
};

/* Runs of blocks one behind the other in a file without a name. */
struct file {
    int fd; /* -1: none */
    uint8_t number;
    uint64_t bytes;
    struct block *blocks;
    uint32_t count;
    uint32_t cap;
    uint32_t run_start[STORE_JOIN_RUNS + 1]; /* first block of each run; behind the last: count */
    uint32_t runs;
    struct buf plain; /* of the block that is being filled */
};

struct store_join {
    const char *folder;
    struct buf records;
    uint32_t *order; /* offsets of records: by key once sorted */
    uint32_t count;
    uint32_t cap;
    struct crypto_key *key;
    struct crypto_sealer *sealer;
    struct crypto_opener *opener;
    struct buf sealed;
    struct file file;
    uint64_t spilled;
    struct {
        uint32_t block; /* NO_BLOCK: free */
        struct buf plain;
    } cache[CACHED];
};

/* --- records --------------------------------------------------------------------------------- */

static void key_of(struct span name, uint8_t ret[KEY])
{
    uint8_t hash[32];
    crypto_sha256_one(name, hash);
    memcpy(ret, hash, KEY);
}

static size_t record_size(const uint8_t *record)
{
    return HEAD + get_be16(record + KEY);
}

static int by_key(const void *a, const void *b, void *records)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = memcmp((const uint8_t *)records + x, (const uint8_t *)records + y, KEY);
    return order ? order : (x > y) - (x < y);
}

/* In the order of keys; of those with the same the last that came. */
static void sort(struct store_join *join)
{
    uint32_t kept = 0;
    if (join->count == 0) {
        return;
    }
    qsort_r(join->order, join->count, sizeof *join->order, by_key, join->records.ptr);
    for (uint32_t i = 0; i < join->count; i++) {
        bool last = i + 1 == join->count || memcmp(join->records.ptr + join->order[i],
                                                   join->records.ptr + join->order[i + 1], KEY);
        if (last) {
            join->order[kept++] = join->order[i];
        }
    }
    join->count = kept;
}

/* --- the file -------------------------------------------------------------------------------- */

/* Its name, where one is needed for a moment, ends as what store_import_recover removes. */
static enum err open_file(struct store_join *join, struct file *file, uint8_t number,
                          struct err_info *reterr)
{
    char path[PATH_MAX];
    uint8_t random[8];
    char hex[17];
    *file = (struct file){.fd = open(join->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600),
                          .number = number,
                          .plain = {.max = BLOCK}};
    if (file->fd >= 0) {
        return E_OK;
    }
    enum err err = crypto_random(random, sizeof random);
    if (err) {
        return proto_err_set(reterr, err, "the file of a join");
    }
    span_to_hex(span_of(random, sizeof random), hex);
    snprintf(path, sizeof path, "%s/%s.join.new", join->folder, hex);
    file->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return file->fd < 0 || unlink(path) ? store_env_errno(errno, join->folder, reterr) : E_OK;
}

static void close_file(struct file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    proto_free(file->blocks);
    crypto_buf_fini(&file->plain);
    *file = (struct file){.fd = -1};
}

static enum err write_all(const struct store_join *join, int fd, struct span bytes, uint64_t at,
                          struct err_info *reterr)
{
    while (bytes.len) {
        ssize_t put = pwrite(fd, bytes.ptr, bytes.len, (off_t)at);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return store_env_errno(put < 0 ? errno : ENOSPC, join->folder, reterr);
        }
        bytes = span_of(bytes.ptr + put, bytes.len - (size_t)put);
        at += (uint64_t)put;
    }
    return E_OK;
}

/* What authenticates a block's place. */
static struct span place_of(const struct file *file, uint32_t block, uint8_t aad[5])
{
    aad[0] = file->number;
    put_be32(aad + 1, block);
    return span_of(aad, 5);
}

static enum err add_block(struct file *file, const struct block *block)
{
    if (file->count == file->cap) {
        uint32_t cap = file->cap ? file->cap * 2 : 64;
        struct block *blocks = proto_realloc(file->blocks, cap, sizeof *blocks);
        if (!blocks) {
            return E_NO_MEMORY;
        }
        file->blocks = blocks;
        file->cap = cap;
    }
    file->blocks[file->count++] = *block;
    return E_OK;
}

/* The block that was filled goes to the file. */
static enum err flush(struct store_join *join, struct file *file, struct err_info *reterr)
{
    struct block block = {.at = file->bytes};
    uint8_t aad[5];
    size_t len;
    if (file->plain.len == 0) {
        return E_OK;
    }
    memcpy(block.first, file->plain.ptr, KEY);
    join->sealed.len = 0;
    enum err err = buf_reserve(&join->sealed, BLOCK + CRYPTO_CHUNK_OVERHEAD);
    err =
        err ? err
            : crypto_sealer_seal(join->sealer, place_of(file, file->count, aad),
                                 buf_span(&file->plain), join->sealed.ptr, join->sealed.cap, &len);
    if (!err) {
        block.len = (uint32_t)len;
        err = add_block(file, &block);
    }
    if (err) {
        return proto_err_set(reterr, err, "sealing a block of a join");
    }
    file->plain.len = 0;
    file->bytes += len;
    return write_all(join, file->fd, span_of(join->sealed.ptr, len), block.at, reterr);
}

static enum err put_record(struct store_join *join, struct file *file, const uint8_t *record,
                           struct err_info *reterr)
{
    size_t size = record_size(record);
    enum err err = E_OK;
    if (file->plain.len + size > BLOCK) {
        err = flush(join, file, reterr);
    }
    return err ? err : buf_put(&file->plain, span_of(record, size));
}

static enum err read_block(struct store_join *join, const struct file *file, uint32_t number,
                           struct buf *to, struct err_info *reterr)
{
    const struct block *block = &file->blocks[number];
    uint8_t aad[5];
    size_t len = 0;
    join->sealed.len = 0;
    to->max = BLOCK;
    to->len = 0;
    enum err err = buf_reserve(&join->sealed, block->len);
    err = err ? err : buf_reserve(to, BLOCK);
    if (err) {
        return proto_err_set(reterr, err, "reading a block of a join");
    }
    for (size_t got = 0; got < block->len;) {
        ssize_t more =
            pread(file->fd, join->sealed.ptr + got, block->len - got, (off_t)(block->at + got));
        if (more < 0 && errno == EINTR) {
            continue;
        }
        if (more <= 0) {
            return store_env_errno(more < 0 ? errno : EIO, join->folder, reterr);
        }
        got += (size_t)more;
    }
    err = crypto_opener_open(join->opener, place_of(file, number, aad),
                             span_of(join->sealed.ptr, block->len), to->ptr, to->cap, &len);
    to->len = len;
    return err ? proto_err_set(reterr, err, "a block of a join was changed on disk") : E_OK;
}

/* --- filling --------------------------------------------------------------------------------- */

static enum err start_spilling(struct store_join *join, struct err_info *reterr)
{
    struct span context = span_str("concordat/join");
    join->key = crypto_key_new();
    join->sealed.max = BLOCK + 4096;
    enum err err = join->key ? crypto_random(join->key->bytes, CRYPTO_KEY_SIZE) : E_NO_MEMORY;
    err = err ? err : crypto_sealer_open(join->key, context, &join->sealer);
    err = err ? err : crypto_opener_new(join->key, context, &join->opener);
    return err ? proto_err_set(reterr, err, "preparing a join")
               : open_file(join, &join->file, 0, reterr);
}

/* What is in memory becomes a run. */
static enum err spill(struct store_join *join, struct err_info *reterr)
{
    struct file *file = &join->file;
    if (join->count == 0) {
        return E_OK;
    }
    enum err err = file->fd < 0 ? start_spilling(join, reterr) : E_OK;
    if (!err && file->runs == STORE_JOIN_RUNS) {
        err = proto_err_set(reterr, E_LIMIT, "too many records to join: import the data in parts");
    }
    if (err) {
        return err;
    }
    sort(join);
    for (uint32_t i = 0; i < join->count && !err; i++) {
        err = put_record(join, file, join->records.ptr + join->order[i], reterr);
    }
    err = err ? err : flush(join, file, reterr);
    file->run_start[++file->runs] = file->count;
    join->spilled += join->count;
    crypto_wipe(join->records.ptr, join->records.len);
    join->records.len = 0;
    join->count = 0;
    return err;
}

enum err store_join_open(const char *folder, size_t memory_bytes, struct store_join **ret,
                         struct err_info *reterr)
{
    struct store_join *join = proto_alloc(1, sizeof *join);
    if (!join) {
        return proto_err_set(reterr, E_NO_MEMORY, "preparing a join");
    }
    join->folder = folder;
    join->file.fd = -1;
    join->records.max = memory_bytes < UINT32_MAX ? memory_bytes : UINT32_MAX;
    for (size_t i = 0; i < CACHED; i++) {
        join->cache[i].block = NO_BLOCK;
    }
    *ret = join;
    return E_OK;
}

static enum err grow_order(struct store_join *join)
{
    if (join->count < join->cap) {
        return E_OK;
    }
    uint32_t cap = join->cap ? join->cap * 2 : 1024;
    uint32_t *order = proto_realloc(join->order, cap, sizeof *order);
    if (!order) {
        return E_NO_MEMORY;
    }
    join->order = order;
    join->cap = cap;
    return E_OK;
}

enum err store_join_add(struct store_join *join, struct span name, struct span record,
                        struct err_info *reterr)
{
    uint8_t head[HEAD];
    if (record.len > STORE_JOIN_RECORD_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a record to join is longer than %d bytes",
                             STORE_JOIN_RECORD_MAX);
    }
    size_t used = join->records.len + (size_t)join->count * sizeof *join->order;
    enum err err = E_OK;
    if (used + HEAD + record.len > join->records.max) {
        err = spill(join, reterr);
    }
    err = err ? err : grow_order(join);
    if (err) {
        return err == E_NO_MEMORY ? proto_err_set(reterr, err, "joining") : err;
    }
    key_of(name, head);
    put_be16(head + KEY, (uint16_t)record.len);
    join->order[join->count] = (uint32_t)join->records.len;
    err = buf_put(&join->records, span_of(head, sizeof head));
    err = err ? err : buf_put(&join->records, record);
    join->count += !err;
    return err ? proto_err_set(reterr, err, "joining") : E_OK;
}

/* --- merging --------------------------------------------------------------------------------- */

/* A run that is being read. */
struct cursor {
    struct buf plain;
    size_t at;
    uint32_t block; /* the next one */
    uint32_t end;
};

static enum err advance(struct store_join *join, struct cursor *cursor, struct err_info *reterr)
{
    cursor->at += cursor->plain.len ? record_size(cursor->plain.ptr + cursor->at) : 0;
    if (cursor->at < cursor->plain.len) {
        return E_OK;
    }
    cursor->at = cursor->plain.len = 0;
    return cursor->block == cursor->end
               ? E_OK
               : read_block(join, &join->file, cursor->block++, &cursor->plain, reterr);
}

/* The run with the least key; of several the last one. -1: all are done. */
static int least(const struct cursor *cursors, uint32_t count)
{
    int found = -1;
    for (uint32_t i = 0; i < count; i++) {
        const struct cursor *cursor = &cursors[i];
        if (cursor->plain.len &&
            (found < 0 || memcmp(cursor->plain.ptr + cursor->at,
                                 cursors[found].plain.ptr + cursors[found].at, KEY) <= 0)) {
            found = (int)i;
        }
    }
    return found;
}

static enum err merge_into(struct store_join *join, struct cursor *cursors, struct file *to,
                           struct err_info *reterr)
{
    uint32_t runs = join->file.runs;
    enum err err = E_OK;
    for (uint32_t i = 0; i < runs && !err; i++) {
        cursors[i].block = join->file.run_start[i];
        cursors[i].end = join->file.run_start[i + 1];
        err = advance(join, &cursors[i], reterr);
    }
    for (int from; !err && (from = least(cursors, runs)) >= 0;) {
        uint8_t key[KEY];
        const uint8_t *record = cursors[from].plain.ptr + cursors[from].at;
        memcpy(key, record, KEY);
        err = put_record(join, to, record, reterr);
        for (uint32_t i = 0; i < runs && !err; i++) {
            struct cursor *cursor = &cursors[i];
            if (cursor->plain.len && memcmp(cursor->plain.ptr + cursor->at, key, KEY) == 0) {
                err = advance(join, cursor, reterr);
            }
        }
    }
    return err ? err : flush(join, to, reterr);
}

/* All runs become one, so that a lookup opens one block. */
static enum err merge(struct store_join *join, struct err_info *reterr)
{
    struct file merged = {.fd = -1};
    struct cursor *cursors = proto_alloc(join->file.runs, sizeof *cursors);
    if (!cursors) {
        return proto_err_set(reterr, E_NO_MEMORY, "joining");
    }
    enum err err = open_file(join, &merged, 1, reterr);
    err = err ? err : merge_into(join, cursors, &merged, reterr);
    for (uint32_t i = 0; i < join->file.runs; i++) {
        crypto_buf_fini(&cursors[i].plain);
    }
    proto_free(cursors);
    if (err) {
        close_file(&merged);
        return err;
    }
    close_file(&join->file);
    join->file = merged;
    return E_OK;
}

static void free_records(struct store_join *join)
{
    size_t max = join->records.max;
    crypto_buf_fini(&join->records);
    join->records = (struct buf){.max = max};
    proto_free(join->order);
    join->order = NULL;
    join->cap = join->count = 0;
}

enum err store_join_finish(struct store_join *join, struct err_info *reterr)
{
    if (join->file.fd < 0) {
        sort(join);
        return E_OK;
    }
    enum err err = spill(join, reterr);
    free_records(join);
    return err || join->file.runs == 1 ? err : merge(join, reterr);
}

/* --- looking up ------------------------------------------------------------------------------ */

static enum err find_in_memory(const struct store_join *join, const uint8_t *key, struct span *ret)
{
    uint32_t low = 0, high = join->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *record = join->records.ptr + join->order[middle];
        int order = memcmp(key, record, KEY);
        if (order == 0) {
            *ret = span_of(record + HEAD, get_be16(record + KEY));
            return E_OK;
        }
        low = order > 0 ? middle + 1 : low;
        high = order < 0 ? middle : high;
    }
    return E_NOT_FOUND;
}

/* The last block whose first key is not above KEY. */
static uint32_t find_block(const struct file *file, const uint8_t *key)
{
    uint32_t low = 0, high = file->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memcmp(file->blocks[middle].first, key, KEY) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low ? low - 1 : NO_BLOCK;
}

static enum err find_on_disk(struct store_join *join, const uint8_t *key, struct span *ret,
                             struct err_info *reterr)
{
    uint32_t block = find_block(&join->file, key);
    if (block == NO_BLOCK) {
        return E_NOT_FOUND;
    }
    size_t slot = block % CACHED;
    struct buf *plain = &join->cache[slot].plain;
    if (join->cache[slot].block != block) {
        join->cache[slot].block = NO_BLOCK;
        enum err err = read_block(join, &join->file, block, plain, reterr);
        if (err) {
            return err;
        }
        join->cache[slot].block = block;
    }
    for (size_t at = 0; at < plain->len; at += record_size(plain->ptr + at)) {
        if (memcmp(plain->ptr + at, key, KEY) == 0) {
            *ret = span_of(plain->ptr + at + HEAD, get_be16(plain->ptr + at + KEY));
            return E_OK;
        }
    }
    return E_NOT_FOUND;
}

enum err store_join_find(struct store_join *join, struct span name, struct span *ret,
                         struct err_info *reterr)
{
    uint8_t key[KEY];
    key_of(name, key);
    return join->file.fd < 0 ? find_in_memory(join, key, ret)
                             : find_on_disk(join, key, ret, reterr);
}

uint64_t store_join_spilled(const struct store_join *join)
{
    return join->spilled;
}

void store_join_close(struct store_join *join)
{
    if (!join) {
        return;
    }
    free_records(join);
    close_file(&join->file);
    for (size_t i = 0; i < CACHED; i++) {
        crypto_buf_fini(&join->cache[i].plain);
    }
    crypto_sealer_close(join->sealer);
    crypto_opener_free(join->opener);
    crypto_key_free(join->key);
    buf_fini(&join->sealed);
    proto_free(join);
}
