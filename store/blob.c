#include "config.h"
#include "store/blob.h"

#include "crypto/chunk.h"
#include "crypto/provider.h"
#include "crypto/random.h"
#include "store/blob_memory.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTEXT     span_of("concordat/store/blob/2", 22)
#define ID_SIZE     STORE_BLOB_ID_SIZE
#define HEAD_PLAIN  (32 + 8 + ID_SIZE)
#define HEAD_SEALED (HEAD_PLAIN + CRYPTO_CHUNK_OVERHEAD)
#define SEALED      (STORE_BLOB_CHUNK + CRYPTO_CHUNK_OVERHEAD)
#define WHOLE       "blob"
#define PART        "blob part"

/* What both ends of a file know. */
struct head {
    uint8_t hash[32]; /* zeros while it is not known */
    uint64_t size;
    uint8_t id[ID_SIZE];
};

struct store_blob_writer {
    struct store *store;
    struct head head;
    bool known;                         /* the hash, from the start */
    struct store_blob_passing *passing; /* NULL: a file */
    struct crypto_hash *hash;
    uint64_t done;                  /* bytes of whole chunks that are written */
    struct store_blob_chunk *chunk; /* the one at hand; NULL: none was begun */
    /* Of a file: */
    bool durable;
    int fd;
    char *path;
    struct crypto_sealer *sealer;
    uint8_t *sealed;
};

struct store_blob_reader {
    struct store_blob_memory *memory;
    struct head head;
    struct store_blob_passing *passing; /* NULL: a file */
    uint64_t at;                        /* number of CHUNK */
    struct store_blob_chunk *chunk;     /* the one read last; NULL: none was */
    /* Of a file: */
    bool checks; /* what is read is to come from the file */
    int fd;
    char *path;
    struct crypto_opener *opener;
    uint8_t *sealed;
};

/* --- files ------------------------------------------------------------------------------------------------------------- */

static char *blob_path(const struct store *store, const uint8_t *name, size_t len,
                       const char *suffix)
{
    char text[65 + 8];
    span_to_hex(span_of(name, len), text);
    snprintf(text + 2 * len, sizeof text - 2 * len, "%s", suffix);
    return store_file_path(store->home, "models", text);
}

static enum err failed(const char *doing, const char *path, struct err_info *reterr)
{
    enum err err = errno == ENOENT                                        ? E_NOT_FOUND
                   : errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? E_DISK_FULL
                                                                          : E_IO;
    return proto_err_set(reterr, err, "%s %s: %s", doing, path, strerror(errno));
}

static enum err write_at(int fd, const char *path, uint64_t at, const uint8_t *bytes, size_t len,
                         struct err_info *reterr)
{
    while (len) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);
        if (n < 0 && errno != EINTR) {
            return failed("writing", path, reterr);
        }
        if (n > 0) {
            at += (uint64_t)n;
            bytes += n;
            len -= (size_t)n;
        }
    }
    return E_OK;
}

static enum err read_at(int fd, const char *path, uint64_t at, uint8_t *to, size_t len,
                        struct err_info *reterr)
{
    while (len) {
        ssize_t n = pread(fd, to, len, (off_t)at);
        if (n == 0) {
            return proto_err_set(reterr, E_CORRUPT, "%s is cut", path);
        }
        if (n < 0 && errno != EINTR) {
            return failed("reading", path, reterr);
        }
        if (n > 0) {
            at += (uint64_t)n;
            to += n;
            len -= (size_t)n;
        }
    }
    return E_OK;
}

static size_t chunk_len(uint64_t size, uint64_t index)
{
    uint64_t left = size - index * STORE_BLOB_CHUNK;
    return left < STORE_BLOB_CHUNK ? (size_t)left : STORE_BLOB_CHUNK;
}

static uint64_t chunk_at(uint64_t index)
{
    return HEAD_SEALED + index * SEALED;
}

struct chunk_aad {
    uint8_t bytes[ID_SIZE + 16];
};

static struct chunk_aad chunk_aad(const struct head *head, uint64_t index)
{
    struct chunk_aad aad;
    memcpy(aad.bytes, head->id, ID_SIZE);
    put_be64(aad.bytes + ID_SIZE, index);
    put_be64(aad.bytes + ID_SIZE + 8, head->size);
    return aad;
}

static enum err open_chunk(struct crypto_opener *opener, int fd, const char *path,
                           const struct head *head, uint64_t index, uint8_t *sealed, uint8_t *plain,
                           struct err_info *reterr)
{
    struct chunk_aad aad = chunk_aad(head, index);
    size_t len = chunk_len(head->size, index);
    size_t got = 0;
    enum err err = read_at(fd, path, chunk_at(index), sealed, len + CRYPTO_CHUNK_OVERHEAD, reterr);
    if (!err) {
        err = crypto_opener_open(opener, span_of(aad.bytes, sizeof aad.bytes),
                                 span_of(sealed, len + CRYPTO_CHUNK_OVERHEAD), plain,
                                 STORE_BLOB_CHUNK, &got);
        err = !err && got != len ? E_CORRUPT : err;
        err = err ? proto_err_set(reterr, err, "%s is not what its name says", path) : E_OK;
    }
    return err;
}

static enum err open_head(struct crypto_opener *opener, int fd, const char *path, const char *kind,
                          struct head *ret, struct err_info *reterr)
{
    uint8_t sealed[HEAD_SEALED];
    uint8_t plain[HEAD_PLAIN];
    size_t len = 0;
    enum err err = read_at(fd, path, 0, sealed, sizeof sealed, reterr);
    if (!err) {
        err = crypto_opener_open(opener, span_str(kind), span_of(sealed, sizeof sealed), plain,
                                 sizeof plain, &len);
        err = !err && len != sizeof plain ? E_CORRUPT : err;
        err = err ? proto_err_set(reterr, err, "%s is not what its name says", path) : E_OK;
    }
    if (!err) {
        memcpy(ret->hash, plain, 32);
        ret->size = get_be64(plain + 32);
        memcpy(ret->id, plain + 40, ID_SIZE);
    }
    return err;
}

/* --- writing ----------------------------------------------------------------------------------------------------------- */

static enum err put_head(struct store_blob_writer *writer, const char *kind,
                         struct err_info *reterr)
{
    uint8_t plain[HEAD_PLAIN];
    uint8_t sealed[HEAD_SEALED];
    size_t len = 0;
    memcpy(plain, writer->head.hash, 32);
    put_be64(plain + 32, writer->head.size);
    memcpy(plain + 40, writer->head.id, ID_SIZE);
    enum err err = crypto_sealer_seal(writer->sealer, span_str(kind), span_of(plain, sizeof plain),
                                      sealed, sizeof sealed, &len);
    return err ? proto_err_set(reterr, err, "sealing %s", writer->path)
               : write_at(writer->fd, writer->path, 0, sealed, sizeof sealed, reterr);
}

static enum err no_memory(bool writes, struct err_info *reterr)
{
    return proto_err_set(reterr, E_NO_MEMORY, "%s a model", writes ? "writing" : "reading");
}

static enum err write_chunk(struct store_blob_writer *writer, struct store_blob_chunk *chunk,
                            struct err_info *reterr)
{
    uint64_t index = writer->done / STORE_BLOB_CHUNK;
    struct chunk_aad aad = chunk_aad(&writer->head, index);
    size_t len = 0;
    enum err err =
        crypto_sealer_seal(writer->sealer, span_of(aad.bytes, sizeof aad.bytes),
                           span_of(chunk->bytes, chunk->len), writer->sealed, SEALED, &len);
    err = err ? proto_err_set(reterr, err, "sealing %s", writer->path)
              : write_at(writer->fd, writer->path, chunk_at(index), writer->sealed, len, reterr);
    if (!err) {
        store_blob_recent_put(writer->store->blobs, writer->head.id, index, chunk);
        store_blob_chunk_release(writer->store->blobs, chunk);
    }
    return err;
}

/* The chunk at hand is full. */
static enum err put_chunk(struct store_blob_writer *writer, struct err_info *reterr)
{
    struct store_blob_chunk *chunk = writer->chunk;
    size_t len = chunk->len;
    enum err err = E_OK;
    crypto_provider()->hash_add(writer->hash, span_of(chunk->bytes, len));
    if (writer->passing) {
        store_blob_passing_add(writer->passing, chunk);
    } else {
        err = write_chunk(writer, chunk, reterr);
    }
    if (!err) {
        writer->chunk = NULL;
        writer->done += len;
    }
    return err;
}

static void close_file(struct store_blob_writer *writer)
{
    crypto_sealer_close(writer->sealer);
    if (writer->fd >= 0) {
        close(writer->fd);
    }
    proto_free(writer->sealed);
    proto_free(writer->path);
}

static void writer_free(struct store_blob_writer *writer)
{
    struct store_blob_memory *memory = writer->store->blobs;
    if (writer->hash) {
        crypto_provider()->hash_end(writer->hash, NULL);
    }
    if (writer->passing) {
        store_blob_passing_release(memory, writer->passing);
    }
    store_blob_chunk_release(memory, writer->chunk);
    close_file(writer);
    proto_free(writer);
}

/* Whole chunks of an earlier writer are taken over as far as they open; anything else is begun anew. */
static void take_over(struct store_blob_writer *writer, uint8_t *plain)
{
    struct head head;
    struct stat st;
    struct crypto_opener *opener = NULL;
    bool good = fstat(writer->fd, &st) == 0 && st.st_size > (off_t)HEAD_SEALED &&
                crypto_opener_new(writer->store->dek, CONTEXT, &opener) == E_OK &&
                open_head(opener, writer->fd, writer->path, PART, &head, NULL) == E_OK &&
                memcmp(head.hash, writer->head.hash, 32) == 0 && head.size == writer->head.size;
    uint64_t whole = good ? ((uint64_t)st.st_size - HEAD_SEALED) / SEALED : 0;
    for (uint64_t i = 0; i < whole && (i + 1) * STORE_BLOB_CHUNK < head.size; i++) {
        memcpy(writer->head.id, head.id, ID_SIZE);
        if (open_chunk(opener, writer->fd, writer->path, &head, i, writer->sealed, plain, NULL)) {
            break;
        }
        crypto_provider()->hash_add(writer->hash, span_of(plain, STORE_BLOB_CHUNK));
        writer->done += STORE_BLOB_CHUNK;
    }
    crypto_opener_free(opener);
}

static enum err create_file(struct store_blob_writer *writer, struct err_info *reterr)
{
    uint8_t name[32];
    size_t len = writer->known ? 32 : ID_SIZE;
    enum err err = crypto_random(writer->head.id, ID_SIZE);
    memcpy(name, writer->known ? writer->head.hash : writer->head.id, len);
    writer->path = blob_path(writer->store, name, len, writer->known ? ".part" : ".new");
    writer->sealed = proto_alloc_raw(SEALED, 1);
    if (err || !writer->path || !writer->sealed) {
        return err ? proto_err_set(reterr, err, "writing a model") : no_memory(true, reterr);
    }
    err = crypto_sealer_open(writer->store->dek, CONTEXT, &writer->sealer);
    if (err) {
        return proto_err_set(reterr, err, "writing a model");
    }
    writer->fd = open(writer->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (writer->fd < 0) {
        return failed("creating", writer->path, reterr);
    }
    if (flock(writer->fd, LOCK_EX | LOCK_NB)) {
        return proto_err_set(reterr, E_BUSY, "this model is being written already");
    }
    return E_OK;
}

/* The file, with what an earlier writer left in it. */
static enum err open_file(struct store_blob_writer *writer, struct err_info *reterr)
{
    enum err err = create_file(writer, reterr);
    if (!err && writer->known) {
        struct store_blob_chunk *chunk = store_blob_chunk_new(writer->store->blobs);
        err = chunk ? E_OK : no_memory(true, reterr);
        if (chunk) {
            take_over(writer, chunk->bytes);
            store_blob_chunk_release(writer->store->blobs, chunk);
        }
    }
    if (!err && ftruncate(writer->fd, (off_t)chunk_at(writer->done / STORE_BLOB_CHUNK))) {
        err = failed("cutting", writer->path, reterr);
    }
    return err ? err : put_head(writer, PART, reterr);
}

static bool has_file(struct store *store, const uint8_t hash[32], const char *suffix)
{
    char *path = blob_path(store, hash, 32, suffix);
    bool has = path && store_file_exists(path);
    proto_free(path);
    return has;
}

/* A blob that stands in memory alone gets a file that lasts. */
static enum err make_durable(struct store *store, struct store_blob_passing *passing,
                             const uint8_t hash[32], struct err_info *reterr)
{
    struct store_blob_writer *writer = proto_alloc(1, sizeof *writer);
    uint64_t size = store_blob_passing_size(passing);
    if (!writer) {
        return no_memory(true, reterr);
    }
    *writer = (struct store_blob_writer){
        .store = store, .known = true, .durable = true, .fd = -1, .head = {.size = size}};
    memcpy(writer->head.hash, hash, 32);
    writer->hash = crypto_provider()->hash_new();
    enum err err = writer->hash ? open_file(writer, reterr) : no_memory(true, reterr);
    while (!err && writer->done < size) {
        writer->chunk = store_blob_passing_chunk(passing, writer->done / STORE_BLOB_CHUNK);
        err = put_chunk(writer, reterr);
    }
    if (err) {
        store_blob_leave(writer);
        return err;
    }
    return store_blob_commit(writer, NULL, reterr);
}

/* Whether a blob of that name is there already, as durable as is wanted. E_NOT_FOUND: no. */
static enum err find_made(struct store *store, const uint8_t hash[32], enum store_blob_keep keep,
                          struct err_info *reterr)
{
    struct store_blob_passing *passing = store_blob_passing_find(store->blobs, hash);
    bool has = has_file(store, hash, "");
    enum err err = E_OK;
    if (passing && !has && keep == STORE_BLOB_DURABLE) {
        err = make_durable(store, passing, hash, reterr);
    }
    if (passing) {
        store_blob_passing_release(store->blobs, passing);
    }
    return err              ? err
           : passing || has ? proto_err_set(reterr, E_EXISTS, "the model is there already")
                            : E_NOT_FOUND;
}

/* In memory, unless an earlier writer left a part of it on disk or there is no room. */
static enum err open_writer(struct store_blob_writer *writer, enum store_blob_keep keep,
                            struct err_info *reterr)
{
    const uint8_t *hash = writer->known ? writer->head.hash : NULL;
    bool passes = keep == STORE_BLOB_PASSING && !(hash && has_file(writer->store, hash, ".part"));
    enum err err = passes ? store_blob_passing_begin(writer->store->blobs, hash, writer->head.size,
                                                     &writer->passing)
                          : E_LIMIT;
    if (err == E_EXISTS || err == E_BUSY) {
        return proto_err_set(reterr, err, "this model is there already, or about to be");
    }
    writer->durable = keep == STORE_BLOB_DURABLE;
    return err ? open_file(writer, reterr) : E_OK;
}

enum err store_blob_begin(struct store *store, const uint8_t *hash, uint64_t size,
                          enum store_blob_keep keep, struct store_blob_writer **ret,
                          uint64_t *ret_offset, struct err_info *reterr)
{
    if (size > STORE_BLOB_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a model of %llu bytes", (unsigned long long)size);
    }
    enum err err = hash ? find_made(store, hash, keep, reterr) : E_NOT_FOUND;
    if (err != E_NOT_FOUND) {
        return err;
    }
    struct store_blob_writer *writer = proto_alloc(1, sizeof *writer);
    if (!writer) {
        return no_memory(true, reterr);
    }
    *writer = (struct store_blob_writer){
        .store = store, .known = hash != NULL, .fd = -1, .head = {.size = size}};
    if (hash) {
        memcpy(writer->head.hash, hash, 32);
    }
    writer->hash = crypto_provider()->hash_new();
    err = writer->hash ? open_writer(writer, keep, reterr) : no_memory(true, reterr);
    if (err) {
        writer_free(writer);
        return err;
    }
    *ret_offset = writer->done;
    *ret = writer;
    return E_OK;
}

enum err store_blob_append(struct store_blob_writer *writer, struct span bytes,
                           struct err_info *reterr)
{
    size_t filled = writer->chunk ? writer->chunk->len : 0;
    if (bytes.len > writer->head.size - writer->done - filled) {
        return proto_err_set(reterr, E_LIMIT, "more bytes than the model has");
    }
    enum err err = E_OK;
    while (!err && bytes.len) {
        struct store_blob_chunk *chunk = writer->chunk;
        if (!chunk && !(chunk = writer->chunk = store_blob_chunk_new(writer->store->blobs))) {
            return no_memory(true, reterr);
        }
        size_t want = chunk_len(writer->head.size, writer->done / STORE_BLOB_CHUNK);
        size_t n = want - chunk->len < bytes.len ? want - chunk->len : bytes.len;
        memcpy(chunk->bytes + chunk->len, bytes.ptr, n);
        chunk->len += n;
        err = chunk->len == want ? put_chunk(writer, reterr) : E_OK;
        bytes = span_of(bytes.ptr + n, bytes.len - n);
    }
    return err;
}

static enum err publish(struct store_blob_writer *writer, struct err_info *reterr)
{
    if (writer->passing) {
        store_blob_passing_settle(writer->store->blobs, writer->passing, writer->head.hash);
        writer->passing = NULL;
        return E_OK;
    }
    char *to = blob_path(writer->store, writer->head.hash, 32, "");
    enum err err = to ? put_head(writer, WHOLE, reterr)
                      : proto_err_set(reterr, E_NO_MEMORY, "writing a model");
    if (!err && writer->durable && fdatasync(writer->fd)) {
        err = failed("syncing", writer->path, reterr);
    }
    if (!err && rename(writer->path, to)) {
        err = failed("renaming", writer->path, reterr);
    }
    if (!err && writer->durable) {
        err = store_file_sync_parent(to, reterr);
    }
    proto_free(to);
    return err;
}

enum err store_blob_commit(struct store_blob_writer *writer, uint8_t *ret_hash,
                           struct err_info *reterr)
{
    uint8_t hash[32];
    enum err err = E_OK;
    if (writer->done != writer->head.size) {
        err = proto_err_set(reterr, E_TRUNCATED, "the model ends too early");
    } else {
        crypto_provider()->hash_end(writer->hash, hash);
        writer->hash = NULL;
        err = writer->known && memcmp(hash, writer->head.hash, 32) != 0
                  ? proto_err_set(reterr, E_AUTH, "the bytes are not those that were named")
                  : E_OK;
    }
    if (!err) {
        memcpy(writer->head.hash, hash, 32);
        err = publish(writer, reterr);
    }
    if (err && writer->path) {
        unlink(writer->path);
    }
    if (!err && ret_hash) {
        memcpy(ret_hash, hash, 32);
    }
    writer_free(writer);
    return err;
}

/* What came of a blob that was to stay in memory becomes a part on disk, if that is possible. */
static void leave_part(struct store_blob_writer *writer)
{
    struct store_blob_writer part = {
        .store = writer->store, .known = true, .fd = -1, .head = writer->head};
    part.hash = crypto_provider()->hash_new();
    enum err err = part.hash ? open_file(&part, NULL) : E_NO_MEMORY;
    while (!err && part.done < writer->done) {
        part.chunk = store_blob_passing_chunk(writer->passing, part.done / STORE_BLOB_CHUNK);
        err = put_chunk(&part, NULL);
    }
    if (part.hash) {
        crypto_provider()->hash_end(part.hash, NULL);
    }
    store_blob_chunk_release(part.store->blobs, part.chunk);
    close_file(&part);
}

void store_blob_leave(struct store_blob_writer *writer)
{
    if (writer) {
        if (writer->passing && writer->known && writer->done) {
            leave_part(writer);
        } else if (writer->path && !writer->known) {
            unlink(writer->path);
        }
        writer_free(writer);
    }
}

enum err store_blob_put(struct store *store, struct span bytes, uint8_t ret_hash[32],
                        struct err_info *reterr)
{
    uint8_t hash[32];
    struct store_blob_writer *writer;
    uint64_t offset;
    crypto_sha256_one(bytes, hash);
    if (!has_file(store, hash, "")) {
        enum err err =
            store_blob_begin(store, NULL, bytes.len, STORE_BLOB_DURABLE, &writer, &offset, reterr);
        if (err) {
            return err;
        }
        err = store_blob_append(writer, bytes, reterr);
        if (err) {
            store_blob_leave(writer);
            return err;
        }
        err = store_blob_commit(writer, NULL, reterr);
        if (err) {
            return err;
        }
    }
    memcpy(ret_hash, hash, 32);
    return E_OK;
}

/* --- reading ----------------------------------------------------------------------------------------------------------- */

void store_blob_close(struct store_blob_reader *reader)
{
    if (!reader) {
        return;
    }
    store_blob_chunk_release(reader->memory, reader->chunk);
    if (reader->passing) {
        store_blob_passing_release(reader->memory, reader->passing);
    }
    crypto_opener_free(reader->opener);
    if (reader->fd >= 0) {
        close(reader->fd);
    }
    proto_free(reader->sealed);
    proto_free(reader->path);
    proto_free(reader);
}

static enum err open_blob_file(struct store *store, const uint8_t hash[32],
                               struct store_blob_reader *reader, struct err_info *reterr)
{
    reader->path = blob_path(store, hash, 32, "");
    reader->fd = reader->path ? open(reader->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (!reader->path) {
        return no_memory(false, reterr);
    }
    if (reader->fd < 0) {
        return failed("opening", reader->path, reterr);
    }
    enum err err = crypto_opener_new(store->dek, CONTEXT, &reader->opener);
    if (!err) {
        err = open_head(reader->opener, reader->fd, reader->path, WHOLE, &reader->head, reterr);
    }
    if (!err && (memcmp(reader->head.hash, hash, 32) != 0 || reader->head.size > STORE_BLOB_MAX)) {
        err = proto_err_set(reterr, E_CORRUPT, "%s is not what its name says", reader->path);
    }
    return err;
}

/* CHECKS: from the file, where there is one. */
static enum err open_reader(struct store *store, const uint8_t hash[32], bool checks,
                            struct store_blob_reader **ret, struct err_info *reterr)
{
    struct store_blob_reader *reader = proto_alloc(1, sizeof *reader);
    if (!reader) {
        return no_memory(false, reterr);
    }
    reader->memory = store->blobs;
    reader->checks = checks;
    reader->fd = -1;
    if (!checks || !has_file(store, hash, "")) {
        reader->passing = store_blob_passing_find(store->blobs, hash);
    }
    enum err err = E_OK;
    if (reader->passing) {
        reader->head.size = store_blob_passing_size(reader->passing);
    } else {
        err = open_blob_file(store, hash, reader, reterr);
    }
    if (err) {
        store_blob_close(reader);
        return err;
    }
    *ret = reader;
    return E_OK;
}

enum err store_blob_open(struct store *store, const uint8_t hash[32],
                         struct store_blob_reader **ret, uint64_t *ret_size,
                         struct err_info *reterr)
{
    enum err err = open_reader(store, hash, false, ret, reterr);
    if (!err) {
        *ret_size = (*ret)->head.size;
    }
    return err;
}

/* Held for the caller. */
static enum err read_chunk(struct store_blob_reader *reader, uint64_t index,
                           struct store_blob_chunk **ret, struct err_info *reterr)
{
    if (!reader->sealed && !(reader->sealed = proto_alloc_raw(SEALED, 1))) {
        return no_memory(false, reterr);
    }
    struct store_blob_chunk *chunk = store_blob_chunk_new(reader->memory);
    if (!chunk) {
        return no_memory(false, reterr);
    }
    enum err err = open_chunk(reader->opener, reader->fd, reader->path, &reader->head, index,
                              reader->sealed, chunk->bytes, reterr);
    if (err) {
        store_blob_chunk_release(reader->memory, chunk);
        return err;
    }
    chunk->len = chunk_len(reader->head.size, index);
    *ret = chunk;
    return E_OK;
}

/* The chunk with that number becomes the one at hand. */
static enum err load(struct store_blob_reader *reader, uint64_t index, struct err_info *reterr)
{
    struct store_blob_chunk *chunk = NULL;
    enum err err = E_OK;
    if (reader->chunk && index == reader->at) {
        return E_OK;
    }
    if (reader->passing) {
        chunk = store_blob_passing_chunk(reader->passing, index);
    } else if (!reader->checks) {
        chunk = store_blob_recent_get(reader->memory, reader->head.id, index);
    }
    if (!chunk) {
        err = read_chunk(reader, index, &chunk, reterr);
        if (!err && !reader->checks) {
            store_blob_recent_put(reader->memory, reader->head.id, index, chunk);
        }
    }
    store_blob_chunk_release(reader->memory, reader->chunk);
    reader->chunk = chunk;
    reader->at = index;
    return err;
}

static enum err ends_before(const struct store_blob_reader *reader, struct err_info *reterr)
{
    return proto_err_set(reterr, E_LIMIT, "%s ends before",
                         reader->path ? reader->path : "a model");
}

enum err store_blob_view(struct store_blob_reader *reader, uint64_t index, struct span *ret,
                         struct err_info *reterr)
{
    if (index >= store_blob_chunks(reader->head.size)) {
        return ends_before(reader, reterr);
    }
    enum err err = load(reader, index, reterr);
    if (!err) {
        *ret = span_of(reader->chunk->bytes, reader->chunk->len);
    }
    return err;
}

enum err store_blob_read(struct store_blob_reader *reader, uint64_t offset, size_t len, uint8_t *to,
                         struct err_info *reterr)
{
    if (offset > reader->head.size || len > reader->head.size - offset) {
        return ends_before(reader, reterr);
    }
    while (len) {
        size_t from = (size_t)(offset % STORE_BLOB_CHUNK);
        struct span chunk;
        enum err err = store_blob_view(reader, offset / STORE_BLOB_CHUNK, &chunk, reterr);
        if (err) {
            return err;
        }
        size_t n = chunk.len - from < len ? chunk.len - from : len;
        memcpy(to, chunk.ptr + from, n);
        to += n;
        offset += n;
        len -= n;
    }
    return E_OK;
}

enum err store_blob_get(struct store *store, const uint8_t hash[32], struct buf *ret,
                        struct err_info *reterr)
{
    struct store_blob_reader *reader;
    uint8_t found[32];
    size_t before = ret->len;
    enum err err = open_reader(store, hash, true, &reader, reterr);
    if (err) {
        return err;
    }
    uint64_t size = reader->head.size;
    err = size > ret->max - before
              ? proto_err_set(reterr, E_LIMIT, "a model of %llu bytes", (unsigned long long)size)
              : buf_reserve(ret, (size_t)size);
    uint8_t *to = !err && size ? ret->ptr + before : NULL;
    if (!err) {
        err = store_blob_read(reader, 0, (size_t)size, to, reterr);
    }
    if (!err) {
        crypto_sha256_one(span_of(to, (size_t)size), found);
        err = memcmp(found, hash, 32) == 0
                  ? E_OK
                  : proto_err_set(reterr, E_CORRUPT, "a model's file is not what its name says");
    }
    ret->len = err ? before : before + (size_t)size;
    store_blob_close(reader);
    return err;
}

enum err store_blob_verify(struct store *store, const uint8_t hash[32], struct err_info *reterr)
{
    struct store_blob_reader *reader;
    uint8_t found[32];
    enum err err = open_reader(store, hash, true, &reader, reterr);
    if (err) {
        return err;
    }
    struct crypto_hash *sum = crypto_provider()->hash_new();
    err = sum ? E_OK : no_memory(false, reterr);
    for (uint64_t i = 0; !err && i < store_blob_chunks(reader->head.size); i++) {
        struct span chunk;
        err = store_blob_view(reader, i, &chunk, reterr);
        if (!err) {
            crypto_provider()->hash_add(sum, chunk);
        }
    }
    if (sum) {
        crypto_provider()->hash_end(sum, found);
    }
    store_blob_close(reader);
    return err || memcmp(found, hash, 32) == 0
               ? err
               : proto_err_set(reterr, E_CORRUPT, "a model's file is not what its name says");
}

enum err store_blob_size(struct store *store, const uint8_t hash[32], uint64_t *ret,
                         struct err_info *reterr)
{
    struct store_blob_reader *reader;
    enum err err = open_reader(store, hash, false, &reader, reterr);
    if (!err) {
        *ret = reader->head.size;
        store_blob_close(reader);
    }
    return err;
}

/* --- names ------------------------------------------------------------------------------------------------------------- */

bool store_blob_has(struct store *store, const uint8_t hash[32])
{
    struct store_blob_passing *passing = store_blob_passing_find(store->blobs, hash);
    if (passing) {
        store_blob_passing_release(store->blobs, passing);
    }
    return passing || has_file(store, hash, "");
}

enum err store_blob_remove(struct store *store, const uint8_t hash[32], struct err_info *reterr)
{
    bool passed = store_blob_passing_remove(store->blobs, hash);
    char *path = blob_path(store, hash, 32, "");
    enum err err = path ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "a model");
    if (!err && unlink(path) && !(passed && errno == ENOENT)) {
        err = failed("removing", path, reterr);
    }
    proto_free(path);
    return err;
}

void store_blob_forget(struct store *store, const uint8_t hash[32])
{
    char *path = blob_path(store, hash, 32, ".part");
    if (path) {
        unlink(path);
    }
    proto_free(path);
}
