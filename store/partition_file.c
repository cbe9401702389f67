#include "config.h"
#include "store/partition_file.h"

#include "crypto/kdf.h"
#include "crypto/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define COMMIT_BYTES ((size_t)32 << 20) /* values in one transaction, which LMDB keeps in memory */
#define PAGE         STORE_PARTITION_PAGE
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
    size_t sealed = inout->len + CRYPTO_CHUNK_OVERHEAD + STORE_PAGE_HEADER;
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

/* What the file holds now that everything is committed, for the trailer. */
static enum err read_table(struct store_partition_writer *writer, struct buf *table,
                           uint64_t *ret_pages, struct err_info *reterr)
{
    MDB_envinfo info;
    MDB_stat stat;
    MDB_txn *txn = NULL;
    int rc = mdb_env_info(store_env_mdb(writer->env), &info);
    rc = rc ? rc : mdb_env_stat(store_env_mdb(writer->env), &stat);
    rc = rc ? rc : mdb_txn_begin(store_env_mdb(writer->env), NULL, MDB_RDONLY, &txn);
    if (rc) {
        return store_env_error(rc, "writing a partition", reterr);
    }
    enum err err = stat.ms_psize == PAGE
                       ? store_partition_table_read(txn, writer->dbi, table, reterr)
                       : proto_err_set(reterr, E_UNSUPPORTED, "pages of %u bytes are not supported",
                                       stat.ms_psize);
    mdb_txn_abort(txn);
    *ret_pages = (uint64_t)info.me_last_pgno + 1;
    return err;
}

/* LMDB writes nothing after this, so the trailer can stand behind its last page. */
static enum err put_trailer(struct store_partition_writer *writer, uint64_t pages,
                            struct span table, uint64_t *ret_bytes, struct err_info *reterr)
{
    int fd = open(writer->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return store_env_errno(errno, writer->path, reterr);
    }
    enum err err = E_OK;
    if (ftruncate(fd, (off_t)(pages * PAGE))) {
        err = store_env_errno(errno, writer->path, reterr);
    }
    if (!err) {
        err = store_partition_trailer_put(fd, writer->index, writer->place.uuid, pages, table,
                                          ret_bytes);
        if (err) {
            proto_err_set(reterr, err, "writing a partition's end: %s", proto_err_text(err));
        }
    }
    if (!err && fsync(fd)) {
        err = store_env_errno(errno, writer->path, reterr);
    }
    if (close(fd) && !err) {
        err = store_env_errno(errno, writer->path, reterr);
    }
    return err;
}

static enum err root_so_far(struct store_partition_writer *writer, uint8_t ret[32],
                            struct err_info *reterr)
{
    struct buf table = {.max = STORE_TABLE_MAX};
    uint8_t meta[STORE_PARTITION_KEY];
    store_partition_key(writer->index, STORE_PARTITION_META, "", 0, meta);
    enum err err = store_partition_table_read(writer->txn, writer->dbi, &table, reterr);
    if (!err && store_partition_root_of(buf_span(&table), meta, ret)) {
        err = proto_err_set(reterr, E_NO_MEMORY, "writing a partition");
    }
    buf_fini(&table);
    return err;
}

enum err store_partition_writer_finish(struct store_partition_writer *writer,
                                       const struct store_partition_counts *counts,
                                       struct span dataset, uint8_t ret_root[32],
                                       uint64_t *ret_bytes, struct err_info *reterr)
{
    struct buf table = {.max = STORE_TABLE_MAX};
    uint64_t pages = 0;
    enum err err = begin(writer, reterr);
    err = err ? err : root_so_far(writer, ret_root, reterr);
    err = err ? err : put_meta(writer, counts, dataset, ret_root, reterr);
    err = err ? err : commit(writer, reterr);
    err = err ? err : store_env_sync(writer->env, reterr);
    err = err ? err : read_table(writer, &table, &pages, reterr);
    if (!err) {
        store_env_close(writer->env);
        writer->env = NULL;
        err = put_trailer(writer, pages, buf_span(&table), ret_bytes, reterr);
    }
    buf_fini(&table);
    return err;
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
