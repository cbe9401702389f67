#include "config.h"
#include "store/stream.h"

#include "crypto/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define BLOCK      ((size_t)128 << 10)
#define WINDOW_LOG 27

enum packing {
    PLAIN,
    GZIP,
    ZSTD,
};

struct store_stream {
    int fd; /* -1: reading from borrowed bytes */
    uint8_t *block;
    const uint8_t *at; /* what is left of the block or of the borrowed bytes */
    size_t left;
    bool last; /* nothing comes after what is left */
    uint64_t done;
    uint64_t total;
    uint64_t unpacked;
    enum packing packing;
    z_stream gzip;
    bool gzip_open;
    ZSTD_DCtx *zstd;
    bool inside; /* a member or frame has begun and not ended */
    bool held;   /* the unpacker may still hold output */
    bool ended;
};

/* Others that people try; each by its first bytes. */
static const struct {
    const char *magic;
    size_t len;
    const char *name;
} others[] = {
    {"PK\x03\x04", 4, "a zip archive"},
    {"\xfd"
     "7zXZ\0",
     6, "packed with xz"},
    {"BZh", 3, "packed with bzip2"},
    {"PAR1", 4, "a Parquet file"},
    {"7z\xbc\xaf\x27\x1c", 6, "a 7z archive"},
    {"\xd0\xcf\x11\xe0", 4, "an Excel workbook"},
};

static enum err fill(struct store_stream *stream, struct err_info *reterr)
{
    if (stream->left || stream->last) {
        return E_OK;
    }
    ssize_t got;
    do {
        got = read(stream->fd, stream->block, BLOCK);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return proto_err_set(reterr, E_IO, "reading the data: %s", strerror(errno));
    }
    stream->last = got == 0;
    stream->at = stream->block;
    stream->left = (size_t)got;
    stream->done += (uint64_t)got;
    return E_OK;
}

static bool begins(const struct store_stream *stream, const char *magic, size_t len)
{
    return stream->left >= len && memcmp(stream->at, magic, len) == 0;
}

/* A pipe may give its first bytes one by one; a file does not. Six decide. */
static enum err fill_start(struct store_stream *stream, struct err_info *reterr)
{
    enum err err = fill(stream, reterr);
    while (!err && stream->fd >= 0 && stream->left && stream->left < 6) {
        ssize_t got = read(stream->fd, stream->block + stream->left, BLOCK - stream->left);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break; /* an end or an error is met again by the next read */
        }
        stream->left += (size_t)got;
        stream->done += (uint64_t)got;
    }
    return err;
}

static enum err start(struct store_stream *stream, struct err_info *reterr)
{
    enum err err = fill_start(stream, reterr);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (begins(stream, others[i].magic, others[i].len)) {
            return proto_err_set(
                reterr, E_UNSUPPORTED,
                "the data is %s: unpack or convert it (gzip and zstd are read as they are)",
                others[i].name);
        }
    }
    if (begins(stream, "\x1f\x8b", 2)) {
        stream->packing = GZIP;
        /* 16: a gzip header is wanted, and its checksum compared. */
        stream->gzip_open = inflateInit2(&stream->gzip, 16 + MAX_WBITS) == Z_OK;
        return stream->gzip_open ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    if (begins(stream, "\x28\xb5\x2f\xfd", 4)) {
        stream->packing = ZSTD;
        stream->zstd = ZSTD_createDCtx();
        bool ok =
            stream->zstd &&
            !ZSTD_isError(ZSTD_DCtx_setParameter(stream->zstd, ZSTD_d_windowLogMax, WINDOW_LOG));
        return ok ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    return E_OK;
}

static struct store_stream *make(int fd)
{
    struct store_stream *stream = proto_alloc(1, sizeof *stream);
    if (stream) {
        stream->fd = fd;
    }
    return stream;
}

enum err store_stream_bytes(struct span bytes, struct store_stream **ret, struct err_info *reterr)
{
    struct store_stream *stream = make(-1);
    if (!stream) {
        return proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    stream->at = bytes.ptr;
    stream->left = bytes.len;
    stream->last = true;
    stream->done = bytes.len;
    stream->total = bytes.len;
    enum err err = start(stream, reterr);
    if (err) {
        store_stream_close(stream);
        return err;
    }
    *ret = stream;
    return E_OK;
}

enum err store_stream_open(const char *path, struct store_stream **ret, struct err_info *reterr)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", path,
                             strerror(errno));
    }
    struct store_stream *stream = make(fd);
    if (!stream) {
        close(fd);
        return proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    }
    struct stat file = {0};
    bool known = fstat(fd, &file) == 0;
    stream->block = proto_alloc(BLOCK, 1);
    enum err err = E_OK;
    if (!stream->block) {
        err = proto_err_set(reterr, E_NO_MEMORY, "opening the data");
    } else if (known && S_ISDIR(file.st_mode)) {
        err = proto_err_set(reterr, E_INVALID, "%s is a folder", path);
    } else if (known && S_ISREG(file.st_mode)) {
        stream->total = (uint64_t)file.st_size;
    }
    err = err ? err : start(stream, reterr);
    if (err) {
        store_stream_close(stream);
        return err;
    }
    *ret = stream;
    return E_OK;
}

/* --- unpacking ----------------------------------------------------------------------------- */

static const char *name_of(const struct store_stream *stream)
{
    return stream->packing == GZIP ? "gzip" : "zstd";
}

static enum err damaged(const struct store_stream *stream, struct err_info *reterr)
{
    return proto_err_set(reterr, E_INVALID, "the %s data is damaged", name_of(stream));
}

/* Zeros that pad the last member of a tape or device block are no data. */
static bool only_zeros(struct store_stream *stream)
{
    while (stream->left && *stream->at == 0) {
        stream->at++;
        stream->left--;
    }
    return stream->left == 0;
}

static enum err inflate_some(struct store_stream *stream, uint8_t *to, size_t size, size_t *ret_got,
                             struct err_info *reterr)
{
    z_stream *gzip = &stream->gzip;
    if (!stream->inside) {
        inflateReset(gzip);
        stream->inside = true;
    }
    uInt room = (uInt)(size < BLOCK ? size : BLOCK);
    uInt left = (uInt)(stream->left < BLOCK ? stream->left : BLOCK);
    gzip->next_in = (Bytef *)(uintptr_t)stream->at; /* zlib only reads it */
    gzip->avail_in = left;
    gzip->next_out = to;
    gzip->avail_out = room;
    int result = inflate(gzip, Z_NO_FLUSH);
    stream->at += left - gzip->avail_in;
    stream->left -= left - gzip->avail_in;
    *ret_got = room - gzip->avail_out;
    stream->held = gzip->avail_out == 0;
    if (result == Z_STREAM_END) {
        stream->inside = false;
        stream->held = false;
        return E_OK;
    }
    if (result == Z_MEM_ERROR) {
        return proto_err_set(reterr, E_NO_MEMORY, "unpacking the data");
    }
    return result == Z_OK || result == Z_BUF_ERROR ? E_OK : damaged(stream, reterr);
}

static enum err zstd_some(struct store_stream *stream, uint8_t *to, size_t size, size_t *ret_got,
                          struct err_info *reterr)
{
    ZSTD_inBuffer in = {stream->at, stream->left, 0};
    ZSTD_outBuffer out = {to, size, 0};
    size_t result = ZSTD_decompressStream(stream->zstd, &out, &in);
    if (ZSTD_isError(result)) {
        if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge) {
            return proto_err_set(
                reterr, E_LIMIT,
                "the zstd data needs a window above 128 MiB: pack it without --long=%d",
                WINDOW_LOG + 1);
        }
        return ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation
                   ? proto_err_set(reterr, E_NO_MEMORY, "unpacking the data")
                   : damaged(stream, reterr);
    }
    stream->at += in.pos;
    stream->left -= in.pos;
    *ret_got = out.pos;
    stream->inside = result != 0;
    stream->held = out.pos == size && result != 0;
    return E_OK;
}

static enum err unpack(struct store_stream *stream, uint8_t *to, size_t size, size_t *ret_got,
                       struct err_info *reterr)
{
    *ret_got = 0;
    while (!stream->ended && *ret_got == 0) {
        enum err err = fill(stream, reterr);
        if (err) {
            return err;
        }
        bool between = !stream->inside && !stream->held;
        if (stream->left == 0 && stream->last && between) {
            stream->ended = true;
            break;
        }
        if (between && stream->unpacked && stream->packing == GZIP && *stream->at == 0) {
            if (!only_zeros(stream)) {
                return damaged(stream, reterr);
            }
            continue;
        }
        bool starved = stream->left == 0 && stream->last;
        err = stream->packing == GZIP ? inflate_some(stream, to, size, ret_got, reterr)
                                      : zstd_some(stream, to, size, ret_got, reterr);
        if (err) {
            return err;
        }
        if (starved && *ret_got == 0 && stream->inside) {
            return proto_err_set(reterr, E_TRUNCATED,
                                 "the %s data ends in the middle: the file was cut off",
                                 name_of(stream));
        }
    }
    return E_OK;
}

enum err store_stream_read(struct store_stream *stream, uint8_t *to, size_t size, size_t *ret_got,
                           struct err_info *reterr)
{
    if (stream->packing != PLAIN) {
        enum err err = unpack(stream, to, size, ret_got, reterr);
        stream->unpacked += err ? 0 : *ret_got;
        uint64_t read = stream->done - stream->left;
        if (!err && stream->unpacked > STORE_STREAM_FREE &&
            stream->unpacked / STORE_STREAM_RATIO > read) {
            return proto_err_set(
                reterr, E_LIMIT,
                "the %s data grows more than %d times: taken for a decompression bomb",
                name_of(stream), STORE_STREAM_RATIO);
        }
        return err;
    }
    enum err err = fill(stream, reterr);
    if (err) {
        return err;
    }
    *ret_got = stream->left < size ? stream->left : size;
    if (*ret_got) {
        memcpy(to, stream->at, *ret_got);
        stream->at += *ret_got;
    }
    stream->left -= *ret_got;
    stream->unpacked += *ret_got;
    return E_OK;
}

uint64_t store_stream_done(const struct store_stream *stream)
{
    return stream->done - stream->left;
}

uint64_t store_stream_total(const struct store_stream *stream)
{
    return stream->total;
}

uint64_t store_stream_unpacked(const struct store_stream *stream)
{
    return stream->unpacked;
}

bool store_stream_is_packed(const struct store_stream *stream)
{
    return stream->packing != PLAIN;
}

void store_stream_close(struct store_stream *stream)
{
    if (!stream) {
        return;
    }
    if (stream->gzip_open) {
        inflateEnd(&stream->gzip);
    }
    ZSTD_freeDCtx(stream->zstd);
    if (stream->block) {
        crypto_wipe(stream->block, BLOCK);
        proto_free(stream->block);
    }
    if (stream->fd >= 0) {
        close(stream->fd);
    }
    proto_free(stream);
}
