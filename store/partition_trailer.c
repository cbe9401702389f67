#include "config.h"
#include "store/partition_trailer.h"

#include "crypto/chunk.h"
#include "crypto/kdf.h"
#include "crypto/provider.h"
#include "store/env.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE        STORE_PARTITION_PAGE
#define TAG         ((size_t)16)
#define AT_ONCE     ((size_t)32) /* pages of one read */
#define OF_HEADER   (STORE_PARTITION_KEY + TAG)
#define MAC_COVERS  40
#define LARGE_VALUE 4 /* LMDB's P_OVERFLOW */

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

static enum err write_exactly(int fd, struct span bytes, uint64_t at)
{
    while (bytes.len) {
        ssize_t put = pwrite(fd, bytes.ptr, bytes.len, (off_t)at);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return put < 0 && errno != ENOSPC && errno != EDQUOT ? E_IO : E_DISK_FULL;
        }
        bytes = span_of(bytes.ptr + put, bytes.len - (size_t)put);
        at += (uint64_t)put;
    }
    return E_OK;
}

/* --- table --------------------------------------------------------------------------------- */

/* It begins right behind the header of its first page, where no other can: those stand behind a node's key. */
void *store_partition_pages_of(const MDB_val *value)
{
    uint8_t *bytes = value->mv_data;
    return (uintptr_t)bytes % PAGE == STORE_PAGE_HEADER ? bytes - STORE_PAGE_HEADER : NULL;
}

static void line_of(const uint8_t key[STORE_PARTITION_KEY], const MDB_val *value,
                    uint8_t ret[STORE_TABLE_LINE])
{
    const uint8_t *bytes = value->mv_data;
    memset(ret, 0, STORE_TABLE_LINE);
    memcpy(ret, key, STORE_PARTITION_KEY);
    memcpy(ret + STORE_PARTITION_KEY, bytes + value->mv_size - TAG, TAG);
    const void *header = store_partition_pages_of(value);
    if (header) {
        memcpy(ret + OF_HEADER, header, STORE_PAGE_HEADER);
    }
}

enum err store_partition_table_read(MDB_txn *txn, MDB_dbi dbi, struct buf *to,
                                    struct err_info *reterr)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc) {
        return store_env_error(rc, "reading a partition", reterr);
    }
    MDB_val key;
    MDB_val value;
    enum err err = E_OK;
    while (!err && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint8_t line[STORE_TABLE_LINE];
        if (key.mv_size != STORE_PARTITION_KEY || value.mv_size < CRYPTO_CHUNK_OVERHEAD) {
            err = E_CORRUPT;
        } else {
            line_of(key.mv_data, &value, line);
            err = buf_put(to, span_of(line, sizeof line));
        }
    }
    mdb_cursor_close(cursor);
    if (err) {
        return proto_err_set(reterr, err, "reading a partition: %s", proto_err_text(err));
    }
    return rc == MDB_NOTFOUND ? E_OK : store_env_error(rc, "reading a partition", reterr);
}

enum err store_partition_root_of(struct span table, const uint8_t meta[STORE_PARTITION_KEY],
                                 uint8_t ret[32])
{
    struct buf list = {.max = STORE_TABLE_MAX};
    enum err err = E_OK;
    for (size_t at = 0; at < table.len && !err; at += STORE_TABLE_LINE) {
        if (memcmp(table.ptr + at, meta, STORE_PARTITION_KEY) != 0) {
            err = buf_put(&list, span_of(table.ptr + at, OF_HEADER));
        }
    }
    if (!err) {
        struct span parts[2] = {span_str("concordat/partition-root/1"), buf_span(&list)};
        crypto_sha256(parts, 2, ret);
    }
    buf_fini(&list);
    return err;
}

static int by_key(const void *key, const void *line)
{
    return memcmp(key, line, STORE_PARTITION_KEY);
}

size_t store_partition_table_find(struct span table, const uint8_t key[STORE_PARTITION_KEY])
{
    const uint8_t *found =
        table.len ? bsearch(key, table.ptr, table.len / STORE_TABLE_LINE, STORE_TABLE_LINE, by_key)
                  : NULL;
    return found ? (size_t)(found - table.ptr) / STORE_TABLE_LINE : STORE_TABLE_NONE;
}

bool store_partition_table_has(struct span table, size_t line, const MDB_val *value)
{
    uint8_t is[STORE_TABLE_LINE];
    const uint8_t *must = table.ptr + line * STORE_TABLE_LINE;
    if (value->mv_size < CRYPTO_CHUNK_OVERHEAD) {
        return false;
    }
    line_of(must, value, is);
    return memcmp(is, must, sizeof is) == 0;
}

/* --- digest of pages ----------------------------------------------------------------------- */

/* Pages of a large value. */
struct run {
    uint64_t first;
    uint64_t pages;
};

/* LMDB's page header, in the machine's own byte order: page number (a word), u16, u16 flags, and of a large value's first page
 * the number of its pages. */
static bool run_of(const uint8_t header[16], struct run *ret)
{
    uint64_t first;
    uint16_t flags;
    uint32_t pages;
    memcpy(&first, header, sizeof first);
    memcpy(&flags, header + 10, sizeof flags);
    memcpy(&pages, header + 12, sizeof pages);
    *ret = (struct run){.first = first, .pages = pages};
    return flags == LARGE_VALUE;
}

static int by_place(const void *a, const void *b)
{
    const struct run *x = a;
    const struct run *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* The large values of TABLE in the order of their pages, none over another or over the end. */
static enum err runs_of(struct span table, uint64_t pages, struct run **ret, size_t *ret_count)
{
    size_t lines = table.len / STORE_TABLE_LINE;
    struct run *runs = proto_alloc(lines + 1, sizeof *runs);
    size_t count = 0;
    uint64_t end = 0;
    enum err err = runs ? E_OK : E_NO_MEMORY;
    for (size_t i = 0; i < lines && !err; i++) {
        static const uint8_t none[16];
        const uint8_t *header = table.ptr + i * STORE_TABLE_LINE + OF_HEADER;
        if (memcmp(header, none, sizeof none) != 0) {
            err = run_of(header, &runs[count++]) ? E_OK : E_CORRUPT;
        }
    }
    if (!err) {
        qsort(runs, count, sizeof *runs, by_place);
    }
    for (size_t i = 0; i < count && !err; i++) {
        if (runs[i].first < end || runs[i].first > pages || runs[i].pages == 0 ||
            runs[i].pages > pages - runs[i].first) {
            err = E_CORRUPT;
        }
        end = runs[i].first + runs[i].pages;
    }
    if (err) {
        proto_free(runs);
        return err;
    }
    *ret = runs;
    *ret_count = count;
    return E_OK;
}

static void chain(uint8_t state[32], uint64_t number, struct span bytes)
{
    uint8_t place[8];
    uint8_t next[32];
    put_be64(place, number);
    struct span parts[3] = {span_of(state, 32), span_of(place, sizeof place), bytes};
    crypto_sha256(parts, 3, next);
    memcpy(state, next, sizeof next);
}

static enum err digest_between(int fd, uint64_t at, uint64_t end, uint8_t *room, uint8_t state[32])
{
    enum err err = E_OK;
    while (at < end && !err) {
        size_t count = end - at < AT_ONCE ? (size_t)(end - at) : AT_ONCE;
        err = read_exactly(fd, room, count * PAGE, at * PAGE);
        for (size_t i = 0; i < count && !err; i++) {
            chain(state, at + i, span_of(room + i * PAGE, PAGE));
        }
        at += count;
    }
    return err;
}

/* Chain over every page outside of the large values in TABLE. */
static enum err digest_pages(int fd, uint64_t pages, struct span table, uint8_t ret[32])
{
    struct run *runs = NULL;
    size_t count = 0;
    uint64_t at = 0;
    memset(ret, 0, 32);
    enum err err = runs_of(table, pages, &runs, &count);
    uint8_t *room = err ? NULL : proto_alloc(AT_ONCE, PAGE);
    if (!err && !room) {
        err = E_NO_MEMORY;
    }
    for (size_t i = 0; i < count && !err; i++) {
        err = digest_between(fd, at, runs[i].first, room, ret);
        at = runs[i].first + runs[i].pages;
    }
    err = err ? err : digest_between(fd, at, pages, room, ret);
    proto_free(room);
    proto_free(runs);
    return err;
}

/* Of version 1, whose large values are found by their page headers. Such a value is never freed or overwritten in a partition,
 * so a header that says so tells the truth. */
static enum err digest_pages_1(int fd, uint64_t pages, uint8_t ret[32])
{
    uint8_t *page = proto_alloc(1, PAGE);
    enum err err = page ? E_OK : E_NO_MEMORY;
    memset(ret, 0, 32);
    for (uint64_t at = 0; at < pages && !err;) {
        struct run run = {.pages = 1};
        err = read_exactly(fd, page, STORE_PAGE_HEADER, at * PAGE);
        bool large = !err && run_of(page, &run);
        if (large) {
            err = run.pages && run.pages <= pages - at ? E_OK : E_CORRUPT;
        } else if (!err) {
            run.pages = 1;
            err = read_exactly(fd, page, PAGE, at * PAGE);
        }
        chain(ret, at, span_of(page, large ? STORE_PAGE_HEADER : PAGE));
        at += run.pages;
    }
    proto_free(page);
    return err;
}

/* --- trailer ------------------------------------------------------------------------------- */

static void mac_of(const struct crypto_key *index, const uint8_t *trailer, struct span table,
                   const uint8_t digest[32], uint8_t ret[32])
{
    const char *context = get_be32(trailer + 4) == 1 ? "concordat/partition-trailer/1"
                                                     : "concordat/partition-trailer/2";
    struct span parts[4] = {span_str(context), span_of(trailer, MAC_COVERS), table,
                            span_of(digest, 32)};
    crypto_hmac(span_of(index->bytes, CRYPTO_KEY_SIZE), parts, 4, ret);
}

enum err store_partition_trailer_put(int fd, const struct crypto_key *index, const uint8_t uuid[16],
                                     uint64_t pages, struct span table, uint64_t *ret_bytes)
{
    uint8_t trailer[STORE_PARTITION_TRAILER] = "CCPT";
    uint8_t digest[32];
    put_be32(trailer + 4, 2);
    memcpy(trailer + 8, uuid, 16);
    put_be32(trailer + 24, PAGE);
    put_be32(trailer + 28, (uint32_t)(table.len / STORE_TABLE_LINE));
    put_be64(trailer + 32, pages);
    enum err err = digest_pages(fd, pages, table, digest);
    if (err) {
        return err;
    }
    mac_of(index, trailer, table, digest, trailer + MAC_COVERS);
    uint64_t at = pages * PAGE;
    err = write_exactly(fd, table, at);
    err = err ? err : write_exactly(fd, span_of(trailer, sizeof trailer), at + table.len);
    *ret_bytes = at + table.len + sizeof trailer;
    return err;
}

/* BODY: bytes of the file in front of the trailer. */
static enum err read_table(int fd, const uint8_t *trailer, uint64_t body, struct buf *table)
{
    uint64_t lines = get_be32(trailer + 28);
    uint64_t pages = get_be64(trailer + 32);
    uint64_t len = lines * STORE_TABLE_LINE;
    bool has_table = get_be32(trailer + 4) == 2;
    if (memcmp(trailer, "CCPT", 4) != 0 || (!has_table && get_be32(trailer + 4) != 1) ||
        (!has_table && lines) || get_be32(trailer + 24) != PAGE || len > body ||
        (body - len) % PAGE || pages != (body - len) / PAGE) {
        return E_CORRUPT;
    }
    table->len = 0;
    enum err err = len ? buf_reserve(table, (size_t)len) : E_OK;
    err = err || !len ? err : read_exactly(fd, table->ptr, (size_t)len, pages * PAGE);
    table->len = err ? 0 : (size_t)len;
    return err;
}

enum err store_partition_trailer_check(int fd, const struct crypto_key *index, uint8_t ret_uuid[16],
                                       uint64_t *ret_bytes, struct buf *table)
{
    struct stat file;
    uint8_t trailer[STORE_PARTITION_TRAILER];
    uint8_t digest[32];
    uint8_t mac[32];
    if (fstat(fd, &file)) {
        return E_IO;
    }
    if (file.st_size < STORE_PARTITION_TRAILER) {
        return E_CORRUPT;
    }
    uint64_t body = (uint64_t)file.st_size - STORE_PARTITION_TRAILER;
    enum err err = read_exactly(fd, trailer, sizeof trailer, body);
    err = err ? err : read_table(fd, trailer, body, table);
    if (err) {
        return err;
    }
    uint64_t pages = get_be64(trailer + 32);
    err = get_be32(trailer + 4) == 1 ? digest_pages_1(fd, pages, digest)
                                     : digest_pages(fd, pages, buf_span(table), digest);
    if (!err) {
        mac_of(index, trailer, buf_span(table), digest, mac);
        err = crypto_equal(mac, trailer + MAC_COVERS, sizeof mac) ? E_OK : E_CORRUPT;
    }
    if (err) {
        table->len = 0; /* nobody vouches for it */
        return err;
    }
    memcpy(ret_uuid, trailer + 8, 16);
    *ret_bytes = pages * PAGE;
    return E_OK;
}
