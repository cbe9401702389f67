#include "config.h"
#include "store/partition_file.h"

#include "crypto/kdf.h"
#include "crypto/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMIT_BYTES ((size_t)32 << 20) /* values in one transaction, which LMDB keeps in memory */
#define PAGE         ((size_t)4096)
#define PAGE_HEADER  ((size_t)16)   /* of an LMDB page, in front of a large value */
#define LARGE        ((size_t)2000) /* larger values get pages of their own */

/* --- names and places ---------------------------------------------------------------------- */

void store_partition_file_name(const uint8_t uuid[16], char to[64])
{
    char hex[33];
    span_to_hex(span_of(uuid, 16), hex);
    snprintf(to, 64, "%s.mdb", hex);
}

bool store_partition_path(const char *home, const uint8_t uuid[16], const char *suffix, char *to,
                          size_t size)
{
    char name[64];
    store_partition_file_name(uuid, name);
    return snprintf(to, size, "%s/partitions/%s%s", home, name, suffix) < (int)size;
}

enum err store_partition_index_key(const struct crypto_key *dek, struct crypto_key **ret)
{
    struct crypto_key *key = crypto_key_new();
    if (!key) {
        return E_NO_MEMORY;
    }
    enum err err = crypto_hkdf_expand(dek->bytes, span_str("concordat/partition-index/1"),
                                      key->bytes, CRYPTO_KEY_SIZE);
    if (err) {
        crypto_key_free(key);
        return err;
    }
    *ret = key;
    return E_OK;
}

void store_partition_key(const struct crypto_key *index, enum store_partition_kind kind,
                         const char *name, uint32_t number, uint8_t ret[STORE_PARTITION_KEY])
{
    uint8_t mac[32];
    uint8_t byte = (uint8_t)kind;
    struct span parts[2] = {span_of(&byte, 1), span_str(name)};
    crypto_hmac(span_of(index->bytes, CRYPTO_KEY_SIZE), parts, 2, mac);
    memcpy(ret, mac, 16);
    put_be32(ret + 16, number);
}

size_t store_partition_aad(const struct store_partition_place *place,
                           enum store_partition_kind kind, const char *name, uint32_t number,
                           uint32_t rows, uint8_t ret[STORE_PARTITION_AAD])
{
    uint8_t *p = ret;
    memcpy(p, "CCP1", 4);
    memcpy(p + 4, place->uuid, 16);
    memcpy(p + 20, place->schema_hash, 32);
    p[52] = (uint8_t)kind;
    p[53] = 1; /* version of the chunk encoding */
    put_be16(p + 54, STORE_DEK_VERSION);
    put_be32(p + 56, number);
    put_be32(p + 60, rows);
    size_t len = strlen(name);
    memcpy(p + 64, name, len);
    return 64 + len;
}

struct span store_partition_context(void)
{
    return span_str("concordat/partition/1");
}

/* --- trailer ------------------------------------------------------------------------------- */

static enum err read_exactly(int fd, uint8_t *to, size_t len, uint64_t at)
{
    while (len) {
        ssize_t got = pread(fd, to, len, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? E_IO : E_CORRUPT;
        }
        to += got;
        len -= (size_t)got;
        at += (uint64_t)got;
    }
    return E_OK;
}

/* LMDB's page header in the machine's own byte order: page number (a word), u16, u16 flags, and of
 * a large value's first page the number of its pages. */
static bool large_value(const uint8_t *page, uint64_t *ret_pages)
{
    uint16_t flags;
    uint32_t pages;
    memcpy(&flags, page + sizeof(size_t) + 2, sizeof flags);
    memcpy(&pages, page + sizeof(size_t) + 4, sizeof pages);
    *ret_pages = pages;
    return flags == 0x04;
}

/* Chain over all pages; of a large value only the header, as its tag covers the rest. A large value
 * is never freed or overwritten in a partition, so a header that says so tells the truth. */
static enum err digest_pages(int fd, uint64_t pages, uint32_t page_size, uint8_t ret[32])
{
    uint8_t *page = proto_alloc(1, page_size);
    if (!page) {
        return E_NO_MEMORY;
    }
    uint8_t state[32] = {0};
    enum err err = E_OK;
    for (uint64_t at = 0; at < pages && !err;) {
        uint64_t run = 1;
        uint8_t number[8];
        err = read_exactly(fd, page, PAGE_HEADER, at * page_size);
        bool large = !err && large_value(page, &run);
        if (!err && !large) {
            err = read_exactly(fd, page, page_size, at * page_size);
        }
        if (!large) {
            run = 1;
        } else if (run == 0 || run > pages - at) {
            err = E_CORRUPT;
        }
        put_be64(number, at);
        struct span parts[3] = {span_of(state, sizeof state), span_of(number, sizeof number),
                                span_of(page, large ? PAGE_HEADER : page_size)};
        uint8_t next[32];
        crypto_sha256(parts, 3, next);
        memcpy(state, next, sizeof state);
        at += run;
    }
    memcpy(ret, state, sizeof state);
    proto_free(page);
    return err;
}

static void trailer_mac(const struct crypto_key *index, const uint8_t *trailer,
                        const uint8_t digest[32], uint8_t ret[32])
{
    struct span parts[3] = {span_str("concordat/partition-trailer/1"), span_of(trailer, 40),
                            span_of(digest, 32)};
    crypto_hmac(span_of(index->bytes, CRYPTO_KEY_SIZE), parts, 3, ret);
}

static enum err trailer_make(int fd, const struct crypto_key *index, const uint8_t uuid[16],
                             uint64_t pages, uint8_t ret[STORE_PARTITION_TRAILER])
{
    memset(ret, 0, STORE_PARTITION_TRAILER);
    memcpy(ret, "CCPT", 4);
    put_be32(ret + 4, 1);
    memcpy(ret + 8, uuid, 16);
    put_be32(ret + 24, PAGE);
    put_be64(ret + 32, pages);
    uint8_t digest[32];
    enum err err = digest_pages(fd, pages, PAGE, digest);
    if (!err) {
        trailer_mac(index, ret, digest, ret + 40);
    }
    return err;
}

enum err store_partition_trailer_check(int fd, const struct crypto_key *index, uint8_t ret_uuid[16],
                                       uint64_t *ret_bytes)
{
    struct stat file;
    uint8_t trailer[STORE_PARTITION_TRAILER];
    if (fstat(fd, &file)) {
        return E_IO;
    }
    uint64_t size = (uint64_t)file.st_size;
    if (size < STORE_PARTITION_TRAILER) {
        return E_CORRUPT;
    }
    uint64_t body = size - STORE_PARTITION_TRAILER;
    enum err err = read_exactly(fd, trailer, sizeof trailer, body);
    if (err) {
        return err;
    }
    if (memcmp(trailer, "CCPT", 4) != 0 || get_be32(trailer + 4) != 1 ||
        get_be32(trailer + 24) != PAGE || get_be64(trailer + 32) != body / PAGE || body % PAGE) {
        return E_CORRUPT;
    }
    uint8_t digest[32];
    uint8_t mac[32];
    err = digest_pages(fd, body / PAGE, PAGE, digest);
    if (err) {
        return err;
    }
    trailer_mac(index, trailer, digest, mac);
    if (!crypto_equal(mac, trailer + 40, sizeof mac)) {
        return E_CORRUPT;
    }
    memcpy(ret_uuid, trailer + 8, 16);
    *ret_bytes = body;
    return E_OK;
}

/* --- root ---------------------------------------------------------------------------------- */

enum err store_partition_root_of(MDB_txn *txn, MDB_dbi dbi, const struct crypto_key *index,
                                 uint8_t ret[32], struct err_info *reterr)
{
    uint8_t meta[STORE_PARTITION_KEY];
    store_partition_key(index, STORE_PARTITION_META, "", 0, meta);
    struct buf list = {.max = (size_t)1 << 30};
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc) {
        return store_env_error(rc, "reading a partition", reterr);
    }
    MDB_val key;
    MDB_val value;
    enum err err = E_OK;
    while (!err && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        if (key.mv_size != STORE_PARTITION_KEY || value.mv_size < CRYPTO_CHUNK_OVERHEAD) {
            err = E_CORRUPT;
        } else if (memcmp(key.mv_data, meta, sizeof meta) != 0) {
            const uint8_t *tag = (const uint8_t *)value.mv_data + value.mv_size - 16;
            err = buf_put(&list, span_of(key.mv_data, key.mv_size));
            err = err ? err : buf_put(&list, span_of(tag, 16));
        }
    }
    mdb_cursor_close(cursor);
    if (!err && rc != MDB_NOTFOUND) {
        err = store_env_error(rc, "reading a partition", reterr);
    }
    if (!err) {
        struct span parts[2] = {span_str("concordat/partition-root/1"), buf_span(&list)};
        crypto_sha256(parts, 2, ret);
    }
    buf_fini(&list);
    return err;
}

/* --- zones --------------------------------------------------------------------------------- */

#define ZONE_SIZE 40

static void put_double(uint8_t *to, double value)
{
    uint64_t raw;
    memcpy(&raw, &value, sizeof raw);
    put_be64(to, raw);
}

static double get_double(const uint8_t *p)
{
    uint64_t raw = get_be64(p);
    double value;
    memcpy(&value, &raw, sizeof value);
    return value;
}

enum err store_zones_put(const struct store_zone *zone, const uint32_t *histogram, uint32_t codes,
                         struct buf *out)
{
    uint8_t fixed[ZONE_SIZE] = {0};
    put_be32(fixed, zone->rows);
    put_be32(fixed + 4, zone->nulls);
    put_double(fixed + 8, zone->min);
    put_double(fixed + 16, zone->max);
    put_double(fixed + 24, zone->sum);
    fixed[32] = zone->encoding;
    fixed[33] = zone->bits;
    put_be32(fixed + 36, codes);
    enum err err = buf_put(out, span_of(fixed, sizeof fixed));
    for (uint32_t i = 0; i < codes && !err; i++) {
        uint8_t count[4];
        put_be32(count, histogram[i]);
        err = buf_put(out, span_of(count, sizeof count));
    }
    return err;
}

enum err store_zones_take(struct span bytes, uint32_t count, uint32_t codes,
                          struct store_zone *zones, uint32_t *histogram)
{
    size_t each = ZONE_SIZE + (size_t)codes * 4;
    if (bytes.len < each * count) {
        return E_CORRUPT;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *p = bytes.ptr + i * each;
        zones[i] = (struct store_zone){.rows = get_be32(p),
                                       .nulls = get_be32(p + 4),
                                       .min = get_double(p + 8),
                                       .max = get_double(p + 16),
                                       .sum = get_double(p + 24),
                                       .encoding = p[32],
                                       .bits = p[33]};
        if (get_be32(p + 36) != codes || zones[i].nulls > zones[i].rows ||
            !(zones[i].min <= zones[i].max)) {
            return E_CORRUPT;
        }
        for (uint32_t j = 0; j < codes; j++) {
            histogram[(size_t)i * codes + j] = get_be32(p + ZONE_SIZE + (size_t)j * 4);
        }
    }
    return E_OK;
}

/* --- writer -------------------------------------------------------------------------------- */

struct store_partition_writer {
    char *path;
    const struct crypto_key *dek;
    struct crypto_key *index;
    struct store_partition_place place;
    struct crypto_sealer *sealer;
    struct store_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    size_t uncommitted;
    struct buf padded;
};

static enum err begin(struct store_partition_writer *writer, struct err_info *reterr)
{
    if (writer->txn) {
        return E_OK;
    }
    int rc = mdb_txn_begin(store_env_mdb(writer->env), NULL, 0, &writer->txn);
    rc = rc ? rc : mdb_dbi_open(writer->txn, NULL, 0, &writer->dbi);
    writer->uncommitted = 0;
    return rc ? store_env_error(rc, "writing a partition", reterr) : E_OK;
}

static enum err commit(struct store_partition_writer *writer, struct err_info *reterr)
{
    MDB_txn *txn = writer->txn;
    writer->txn = NULL;
    int rc = txn ? mdb_txn_commit(txn) : 0;
    return rc ? store_env_error(rc, "writing a partition", reterr) : E_OK;
}

enum err store_partition_writer_open(const char *path, const struct crypto_key *dek,
                                     const struct store_partition_place *place, size_t map_bytes,
                                     struct store_partition_writer **ret, struct err_info *reterr)
{
    struct store_partition_writer *writer = proto_alloc(1, sizeof *writer);
    if (!writer) {
        return proto_err_set(reterr, E_NO_MEMORY, "writing a partition");
    }
    writer->dek = dek;
    writer->place = *place;
    writer->padded.max = STORE_CHUNK_BYTES_MAX + 2 * PAGE;
    writer->path = proto_strdup(path);
    enum err err = writer->path ? E_OK : E_NO_MEMORY;
    err = err ? err : store_partition_index_key(dek, &writer->index);
    err = err ? err : crypto_sealer_open(dek, store_partition_context(), &writer->sealer);
    if (err) {
        proto_err_set(reterr, err, "writing a partition");
    } else {
        err = store_env_open(path, STORE_ENV_CREATE | STORE_ENV_BULK, map_bytes, &writer->env,
                             reterr);
    }
    if (err) {
        store_partition_writer_close(writer);
        return err;
    }
    *ret = writer;
    return E_OK;
}

/* Large values are padded so that value and LMDB's page header fill whole pages: lengths then say
 * little, and no byte of a value's pages is outside its tag. */
static enum err pad(struct store_partition_writer *writer, struct span *inout)
{
    size_t sealed = inout->len + CRYPTO_CHUNK_OVERHEAD + PAGE_HEADER;
    if (sealed < LARGE) {
        return E_OK;
    }
    size_t padding = (PAGE - sealed % PAGE) % PAGE;
    writer->padded.len = 0;
    enum err err = buf_put(&writer->padded, *inout);
    err = err ? err : buf_reserve(&writer->padded, padding);
    if (!err && padding) {
        memset(writer->padded.ptr + writer->padded.len, 0, padding);
        writer->padded.len += padding;
    }
    *inout = buf_span(&writer->padded);
    return err;
}

enum err store_partition_writer_put(struct store_partition_writer *writer,
                                    enum store_partition_kind kind, const char *name,
                                    uint32_t number, uint32_t rows, struct span plain,
                                    struct err_info *reterr)
{
    enum err err = pad(writer, &plain);
    if (err) {
        return proto_err_set(reterr, err, "sealing a column: %s", proto_err_text(err));
    }
    err = begin(writer, reterr);
    if (err) {
        return err;
    }
    uint8_t name_key[STORE_PARTITION_KEY];
    uint8_t aad[STORE_PARTITION_AAD];
    store_partition_key(writer->index, kind, name, number, name_key);
    size_t aad_len = store_partition_aad(&writer->place, kind, name, number, rows, aad);
    MDB_val key = {.mv_size = sizeof name_key, .mv_data = name_key};
    MDB_val value = {.mv_size = plain.len + CRYPTO_CHUNK_OVERHEAD};
    int rc = mdb_put(writer->txn, writer->dbi, &key, &value, MDB_RESERVE | MDB_NOOVERWRITE);
    if (rc) {
        return store_env_error(rc, "writing a partition", reterr);
    }
    size_t len = 0;
    err = crypto_sealer_seal(writer->sealer, span_of(aad, aad_len), plain, value.mv_data,
                             value.mv_size, &len);
    if (err) {
        return proto_err_set(reterr, err, "sealing a column: %s", proto_err_text(err));
    }
    writer->uncommitted += value.mv_size;
    return writer->uncommitted >= COMMIT_BYTES ? commit(writer, reterr) : E_OK;
}

static enum err put_meta(struct store_partition_writer *writer,
                         const struct store_partition_counts *counts, struct span dataset,
                         const uint8_t root[32], struct err_info *reterr)
{
    struct buf meta = {.max = STORE_CHUNK_BYTES_MAX};
    uint8_t fixed[STORE_PARTITION_META_SIZE] = {0};
    memcpy(fixed, "CPM2", 4);
    memcpy(fixed + 4, writer->place.uuid, 16);
    memcpy(fixed + 20, writer->place.schema_hash, 32);
    memcpy(fixed + 52, root, 32);
    put_be64(fixed + 84, counts->rows);
    put_be64(fixed + 92, counts->units);
    put_be32(fixed + 100, counts->unit_rows);
    put_be32(fixed + 104, (uint32_t)dataset.len);
    enum err err = buf_put(&meta, span_of(fixed, sizeof fixed));
    err = err ? err : buf_put(&meta, dataset);
    if (err) {
        proto_err_set(reterr, err, "describing a partition");
    } else {
        err = store_partition_writer_put(writer, STORE_PARTITION_META, "", 0, 0, buf_span(&meta),
                                         reterr);
    }
    buf_fini(&meta);
    return err;
}

/* LMDB writes nothing after this, so the trailer can stand behind its last page. */
static enum err put_trailer(struct store_partition_writer *writer, uint64_t pages,
                            uint64_t *ret_bytes, struct err_info *reterr)
{
    int fd = open(writer->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return store_env_errno(errno, writer->path, reterr);
    }
    uint8_t trailer[STORE_PARTITION_TRAILER];
    enum err err = E_OK;
    if (ftruncate(fd, (off_t)(pages * PAGE))) {
        err = store_env_errno(errno, writer->path, reterr);
    }
    if (!err) {
        err = trailer_make(fd, writer->index, writer->place.uuid, pages, trailer);
        if (err) {
            proto_err_set(reterr, err, "reading a partition again");
        }
    }
    if (!err) {
        ssize_t wrote = pwrite(fd, trailer, sizeof trailer, (off_t)(pages * PAGE));
        if (wrote != (ssize_t)sizeof trailer) {
            err = store_env_errno(wrote < 0 ? errno : ENOSPC, writer->path, reterr);
        }
    }
    if (!err && fsync(fd)) {
        err = store_env_errno(errno, writer->path, reterr);
    }
    if (close(fd) && !err) {
        err = store_env_errno(errno, writer->path, reterr);
    }
    *ret_bytes = pages * PAGE + sizeof trailer;
    return err;
}

enum err store_partition_writer_finish(struct store_partition_writer *writer,
                                       const struct store_partition_counts *counts,
                                       struct span dataset, uint8_t ret_root[32],
                                       uint64_t *ret_bytes, struct err_info *reterr)
{
    enum err err = begin(writer, reterr);
    if (!err) {
        err = store_partition_root_of(writer->txn, writer->dbi, writer->index, ret_root, reterr);
    }
    err = err ? err : put_meta(writer, counts, dataset, ret_root, reterr);
    err = err ? err : commit(writer, reterr);
    err = err ? err : store_env_sync(writer->env, reterr);
    if (err) {
        return err;
    }
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_info(store_env_mdb(writer->env), &info);
    rc = rc ? rc : mdb_env_stat(store_env_mdb(writer->env), &stat);
    if (rc) {
        return store_env_error(rc, "writing a partition", reterr);
    }
    if (stat.ms_psize != PAGE) {
        return proto_err_set(reterr, E_UNSUPPORTED, "pages of %u bytes are not supported",
                             stat.ms_psize);
    }
    store_env_close(writer->env);
    writer->env = NULL;
    return put_trailer(writer, (uint64_t)info.me_last_pgno + 1, ret_bytes, reterr);
}

void store_partition_writer_close(struct store_partition_writer *writer)
{
    if (writer) {
        if (writer->txn) {
            mdb_txn_abort(writer->txn);
        }
        store_env_close(writer->env);
        crypto_sealer_close(writer->sealer);
        crypto_key_free(writer->index);
        if (writer->padded.ptr) {
            crypto_wipe(writer->padded.ptr, writer->padded.cap);
        }
        buf_fini(&writer->padded);
        proto_free(writer->path);
        proto_free(writer);
    }
}
