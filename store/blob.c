#include "config.h"
#include "store/blob.h"

#include "crypto/chunk.h"
#include "crypto/memory.h"
#include "crypto/provider.h"
#include "crypto/random.h"
#include "store/blob_cache.h"
#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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
    bool known; /* the hash, from the start */
    int fd;
    char *path;
    struct crypto_sealer *sealer;
    struct crypto_hash *hash;
    uint64_t done; /* bytes on disk: whole chunks */
    size_t filled; /* of the chunk at hand */
    uint8_t *plain, *sealed;
    uint8_t *chunks; /* hashes of those on disk; NULL: nobody will ask for them */
};

struct store_blob_reader {
    struct head head;
    struct store_blob_cache *cache; /* NULL: all is to come from the file */
    int fd;
    char *path;
    struct crypto_opener *opener;
    uint64_t at;             /* number of the chunk in PLAIN, UINT64_MAX: none */
    uint8_t *plain, *sealed; /* PLAIN: NULL while only whole chunks were read */
};

/* Hashes of chunks that were seen while they were written, so that naming a blob to a peer need not read it again. */
#define DIGESTS 8

struct digest {
    uint8_t hash[32];
    uint64_t size;
    uint8_t *chunks; /* owned; NULL: an empty place */
};

struct store_blob_digests {
    pthread_mutex_t lock;
    struct digest last[DIGESTS];
    size_t next;
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

static enum err put_chunk(struct store_blob_writer *writer, struct span plain,
                          struct err_info *reterr)
{
    uint64_t index = writer->done / STORE_BLOB_CHUNK;
    struct chunk_aad aad = chunk_aad(&writer->head, index);
    size_t len = 0;
    enum err err = crypto_sealer_seal(writer->sealer, span_of(aad.bytes, sizeof aad.bytes), plain,
                                      writer->sealed, SEALED, &len);
    err = err ? proto_err_set(reterr, err, "sealing %s", writer->path)
              : write_at(writer->fd, writer->path, chunk_at(index), writer->sealed, len, reterr);
    if (!err) {
        crypto_provider()->hash_add(writer->hash, plain);
        if (writer->chunks) {
            crypto_sha256_one(plain, writer->chunks + 32 * index);
        }
        store_blob_cache_put(writer->store->blobs, writer->head.id, index, plain);
        writer->done += plain.len;
        writer->filled = 0;
    }
    return err;
}

static void writer_free(struct store_blob_writer *writer)
{
    if (writer->hash) {
        crypto_provider()->hash_end(writer->hash, NULL);
    }
    crypto_sealer_close(writer->sealer);
    if (writer->fd >= 0) {
        close(writer->fd);
    }
    if (writer->plain) {
        crypto_wipe(writer->plain, STORE_BLOB_CHUNK);
    }
    proto_free(writer->plain);
    proto_free(writer->sealed);
    proto_free(writer->chunks);
    proto_free(writer->path);
    proto_free(writer);
}

/* Whole chunks of an earlier writer are taken over as far as they open; anything else is begun anew. */
static void take_over(struct store_blob_writer *writer)
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
        if (open_chunk(opener, writer->fd, writer->path, &head, i, writer->sealed, writer->plain,
                       NULL)) {
            break;
        }
        crypto_provider()->hash_add(writer->hash, span_of(writer->plain, STORE_BLOB_CHUNK));
        writer->done += STORE_BLOB_CHUNK;
    }
    crypto_opener_free(opener);
}

static enum err writer_open(struct store_blob_writer *writer, struct err_info *reterr)
{
    uint8_t name[32];
    size_t len = writer->known ? 32 : ID_SIZE;
    enum err err = crypto_random(writer->head.id, ID_SIZE);
    memcpy(name, writer->known ? writer->head.hash : writer->head.id, len);
    writer->path = blob_path(writer->store, name, len, writer->known ? ".part" : ".new");
    writer->plain = proto_alloc_raw(STORE_BLOB_CHUNK, 1);
    writer->sealed = proto_alloc_raw(SEALED, 1);
    writer->hash = crypto_provider()->hash_new();
    size_t hashes = writer->known ? 0 : store_blob_hashes(writer->head.size);
    writer->chunks = hashes ? proto_alloc(hashes, 32) : NULL;
    if (err || !writer->path || !writer->plain || !writer->sealed || !writer->hash ||
        (hashes && !writer->chunks)) {
        return proto_err_set(reterr, err ? err : E_NO_MEMORY, "writing a model");
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

enum err store_blob_begin(struct store *store, const uint8_t *hash, uint64_t size,
                          struct store_blob_writer **ret, uint64_t *ret_offset,
                          struct err_info *reterr)
{
    if (size > STORE_BLOB_MAX) {
        return proto_err_set(reterr, E_LIMIT, "a model of %llu bytes", (unsigned long long)size);
    }
    if (hash && store_blob_has(store, hash)) {
        return proto_err_set(reterr, E_EXISTS, "the model is there already");
    }
    struct store_blob_writer *writer = proto_alloc(1, sizeof *writer);
    if (!writer) {
        return proto_err_set(reterr, E_NO_MEMORY, "writing a model");
    }
    writer->store = store;
    writer->known = hash != NULL;
    writer->fd = -1;
    writer->head.size = size;
    if (hash) {
        memcpy(writer->head.hash, hash, 32);
    }
    enum err err = writer_open(writer, reterr);
    if (!err && writer->known) {
        take_over(writer);
    }
    if (!err && ftruncate(writer->fd, (off_t)chunk_at(writer->done / STORE_BLOB_CHUNK))) {
        err = failed("cutting", writer->path, reterr);
    }
    if (!err) {
        err = put_head(writer, PART, reterr);
    }
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
    if (bytes.len > writer->head.size - writer->done - writer->filled) {
        return proto_err_set(reterr, E_LIMIT, "more bytes than the model has");
    }
    enum err err = E_OK;
    while (!err && bytes.len) {
        size_t want = chunk_len(writer->head.size, writer->done / STORE_BLOB_CHUNK);
        size_t n = want - writer->filled < bytes.len ? want - writer->filled : bytes.len;
        if (n == want) { /* a whole chunk needs no copy */
            err = put_chunk(writer, span_of(bytes.ptr, n), reterr);
        } else {
            memcpy(writer->plain + writer->filled, bytes.ptr, n);
            writer->filled += n;
            if (writer->filled == want) {
                err = put_chunk(writer, span_of(writer->plain, want), reterr);
            }
        }
        bytes = span_of(bytes.ptr + n, bytes.len - n);
    }
    return err;
}

static enum err publish(struct store_blob_writer *writer, bool durable, struct err_info *reterr)
{
    char *to = blob_path(writer->store, writer->head.hash, 32, "");
    enum err err = to ? put_head(writer, WHOLE, reterr)
                      : proto_err_set(reterr, E_NO_MEMORY, "writing a model");
    if (!err && durable && fdatasync(writer->fd)) {
        err = failed("syncing", writer->path, reterr);
    }
    if (!err && rename(writer->path, to)) {
        err = failed("renaming", writer->path, reterr);
    }
    if (!err && durable) {
        err = store_file_sync_parent(to, reterr);
    }
    proto_free(to);
    return err;
}

static void digests_add(struct store_blob_writer *writer)
{
    struct store_blob_digests *digests = writer->store->digests;
    if (!digests) {
        return;
    }
    pthread_mutex_lock(&digests->lock);
    struct digest *at = &digests->last[digests->next];
    digests->next = (digests->next + 1) % DIGESTS;
    proto_free(at->chunks);
    memcpy(at->hash, writer->head.hash, 32);
    at->size = writer->head.size;
    at->chunks = writer->chunks;
    writer->chunks = NULL;
    pthread_mutex_unlock(&digests->lock);
}

enum err store_blob_commit(struct store_blob_writer *writer, bool durable, uint8_t *ret_hash,
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
        err = publish(writer, durable, reterr);
    }
    if (err) {
        unlink(writer->path);
    } else if (writer->chunks) {
        digests_add(writer);
    }
    if (!err && ret_hash) {
        memcpy(ret_hash, hash, 32);
    }
    writer_free(writer);
    return err;
}

void store_blob_leave(struct store_blob_writer *writer)
{
    if (writer) {
        if (!writer->known) {
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
    if (!store_blob_has(store, hash)) {
        enum err err = store_blob_begin(store, NULL, bytes.len, &writer, &offset, reterr);
        if (err) {
            return err;
        }
        err = store_blob_append(writer, bytes, reterr);
        if (err) {
            store_blob_leave(writer);
            return err;
        }
        err = store_blob_commit(writer, true, NULL, reterr);
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
    crypto_opener_free(reader->opener);
    if (reader->fd >= 0) {
        close(reader->fd);
    }
    if (reader->plain) {
        crypto_wipe(reader->plain, STORE_BLOB_CHUNK);
    }
    proto_free(reader->plain);
    proto_free(reader->sealed);
    proto_free(reader->path);
    proto_free(reader);
}

enum err store_blob_open(struct store *store, const uint8_t hash[32],
                         struct store_blob_reader **ret, uint64_t *ret_size,
                         struct err_info *reterr)
{
    struct store_blob_reader *reader = proto_alloc(1, sizeof *reader);
    if (!reader) {
        return proto_err_set(reterr, E_NO_MEMORY, "reading a model");
    }
    reader->cache = store->blobs;
    reader->at = UINT64_MAX;
    reader->path = blob_path(store, hash, 32, "");
    reader->sealed = proto_alloc_raw(SEALED, 1);
    reader->fd = reader->path ? open(reader->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    enum err err = !reader->path || !reader->sealed
                       ? proto_err_set(reterr, E_NO_MEMORY, "reading a model")
                   : reader->fd < 0 ? failed("opening", reader->path, reterr)
                                    : E_OK;
    if (!err) {
        err = crypto_opener_new(store->dek, CONTEXT, &reader->opener);
    }
    if (!err) {
        err = open_head(reader->opener, reader->fd, reader->path, WHOLE, &reader->head, reterr);
    }
    if (!err && (memcmp(reader->head.hash, hash, 32) != 0 || reader->head.size > STORE_BLOB_MAX)) {
        err = proto_err_set(reterr, E_CORRUPT, "%s is not what its name says", reader->path);
    }
    if (err) {
        store_blob_close(reader);
        return err;
    }
    *ret_size = reader->head.size;
    *ret = reader;
    return E_OK;
}

static enum err open_at(struct store_blob_reader *reader, uint64_t index, uint8_t *to,
                        struct err_info *reterr)
{
    size_t len = chunk_len(reader->head.size, index);
    if (reader->cache && store_blob_cache_get(reader->cache, reader->head.id, index, to, len)) {
        return E_OK;
    }
    enum err err = open_chunk(reader->opener, reader->fd, reader->path, &reader->head, index,
                              reader->sealed, to, reterr);
    if (!err && reader->cache) {
        store_blob_cache_put(reader->cache, reader->head.id, index, span_of(to, len));
    }
    return err;
}

/* A chunk of which a part is wanted, into PLAIN. */
static enum err load(struct store_blob_reader *reader, uint64_t index, struct err_info *reterr)
{
    if (index == reader->at) {
        return E_OK;
    }
    reader->at = UINT64_MAX;
    if (!reader->plain && !(reader->plain = proto_alloc_raw(STORE_BLOB_CHUNK, 1))) {
        return proto_err_set(reterr, E_NO_MEMORY, "reading a model");
    }
    enum err err = open_at(reader, index, reader->plain, reterr);
    reader->at = err ? UINT64_MAX : index;
    return err;
}

enum err store_blob_read(struct store_blob_reader *reader, uint64_t offset, size_t len, uint8_t *to,
                         struct err_info *reterr)
{
    if (offset > reader->head.size || len > reader->head.size - offset) {
        return proto_err_set(reterr, E_LIMIT, "%s ends before", reader->path);
    }
    while (len) {
        uint64_t index = offset / STORE_BLOB_CHUNK;
        size_t from = (size_t)(offset % STORE_BLOB_CHUNK);
        size_t n = chunk_len(reader->head.size, index) - from;
        n = n < len ? n : len;
        /* A whole chunk is opened where it is wanted: only a full one, as the opener may fill that much. */
        bool direct = n == STORE_BLOB_CHUNK && index != reader->at;
        enum err err = direct ? open_at(reader, index, to, reterr) : load(reader, index, reterr);
        if (err) {
            return err;
        }
        if (!direct) {
            memcpy(to, reader->plain + from, n);
        }
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
    uint64_t size;
    uint8_t found[32];
    size_t before = ret->len;
    enum err err = store_blob_open(store, hash, &reader, &size, reterr);
    if (err) {
        return err;
    }
    reader->cache = NULL;
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
    uint64_t size;
    uint8_t found[32];
    enum err err = store_blob_open(store, hash, &reader, &size, reterr);
    if (err) {
        return err;
    }
    reader->cache = NULL;
    struct crypto_hash *sum = crypto_provider()->hash_new();
    err = sum ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "reading a model");
    for (uint64_t i = 0; !err && i < store_blob_chunks(size); i++) {
        size_t len = chunk_len(size, i);
        err = load(reader, i, reterr);
        if (!err) {
            crypto_provider()->hash_add(sum, span_of(reader->plain, len));
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

/* --- names ------------------------------------------------------------------------------------------------------------- */

bool store_blob_has(struct store *store, const uint8_t hash[32])
{
    char *path = blob_path(store, hash, 32, "");
    bool has = path && store_file_exists(path);
    proto_free(path);
    return has;
}

enum err store_blob_remove(struct store *store, const uint8_t hash[32], struct err_info *reterr)
{
    char *path = blob_path(store, hash, 32, "");
    enum err err = path ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "a model");
    if (!err && unlink(path)) {
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

/* --- hashes of chunks -------------------------------------------------------------------------------------------------- */

struct store_blob_digests *store_blob_digests_new(void)
{
    struct store_blob_digests *digests = proto_alloc(1, sizeof *digests);
    if (digests && pthread_mutex_init(&digests->lock, NULL) != 0) {
        proto_free(digests);
        digests = NULL;
    }
    return digests;
}

void store_blob_digests_free(struct store_blob_digests *digests)
{
    if (digests) {
        for (size_t i = 0; i < DIGESTS; i++) {
            proto_free(digests->last[i].chunks);
        }
        pthread_mutex_destroy(&digests->lock);
        proto_free(digests);
    }
}

/* NULL: not remembered, or no memory. */
static uint8_t *digests_find(struct store_blob_digests *digests, const uint8_t hash[32],
                             struct arena *arena, uint64_t *ret_size)
{
    uint8_t *chunks = NULL;
    if (!digests) {
        return NULL;
    }
    pthread_mutex_lock(&digests->lock);
    for (size_t i = 0; i < DIGESTS && !chunks; i++) {
        const struct digest *at = &digests->last[i];
        if (at->chunks && memcmp(at->hash, hash, 32) == 0) {
            size_t count = store_blob_hashes(at->size);
            chunks = arena_alloc(arena, count, 32);
            if (chunks) {
                memcpy(chunks, at->chunks, 32 * count);
                *ret_size = at->size;
            }
        }
    }
    pthread_mutex_unlock(&digests->lock);
    return chunks;
}

/* Reads all of READER's blob. */
static enum err digest_whole(struct store_blob_reader *reader, uint8_t *chunks,
                             struct err_info *reterr)
{
    uint64_t size = reader->head.size;
    uint8_t *bytes = proto_alloc_raw(STORE_BLOB_CHUNK, 1);
    enum err err = bytes ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "reading a model");
    for (uint64_t i = 0; !err && i < store_blob_chunks(size); i++) {
        size_t len = chunk_len(size, i);
        err = store_blob_read(reader, i * STORE_BLOB_CHUNK, len, bytes, reterr);
        if (!err) {
            crypto_sha256_one(span_of(bytes, len), chunks + 32 * i);
        }
    }
    if (bytes) {
        crypto_wipe(bytes, STORE_BLOB_CHUNK);
    }
    proto_free(bytes);
    return err;
}

enum err store_blob_digest(struct store *store, const uint8_t hash[32], struct arena *arena,
                           uint64_t *ret_size, struct span *ret_chunks, struct err_info *reterr)
{
    struct store_blob_reader *reader;
    uint64_t size = 0;
    enum err err = E_OK;
    uint8_t *chunks =
        store_blob_has(store, hash) ? digests_find(store->digests, hash, arena, &size) : NULL;
    if (!chunks) {
        err = store_blob_open(store, hash, &reader, &size, reterr);
        if (err) {
            return err;
        }
        if (store_blob_hashes(size)) {
            reader->cache = NULL;
            chunks = arena_alloc(arena, store_blob_hashes(size), 32);
            err = chunks ? digest_whole(reader, chunks, reterr)
                         : proto_err_set(reterr, E_NO_MEMORY, "reading a model");
        }
        store_blob_close(reader);
    }
    if (!err) {
        *ret_size = size;
        *ret_chunks = span_of(chunks, 32 * store_blob_hashes(size));
    }
    return err;
}
