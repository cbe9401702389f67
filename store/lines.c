#include "config.h"
#include "store/lines.h"

#include "crypto/memory.h"
#include "store/stream.h"

#define BLOCK ((size_t)256 << 10)

static void begin(struct store_lines *lines)
{
    lines->line = 1;
    lines->text.max = lines->max;
    if (lines->left >= 3 && memcmp(lines->at, "\xef\xbb\xbf", 3) == 0) {
        lines->at += 3;
        lines->left -= 3;
    }
}

static enum err open_file(struct store_lines *lines, const char *path, struct err_info *reterr)
{
    enum err err = store_stream_open(path, &lines->stream, reterr);
    if (err) {
        return err;
    }
    lines->block = proto_alloc(BLOCK, 1);
    lines->line = 1;
    return lines->block ? store_lines_fill(lines, reterr)
                        : proto_err_set(reterr, E_NO_MEMORY, "opening the data");
}

enum err store_lines_open(struct store_lines *lines, const char *path, struct span bytes,
                          struct err_info *reterr)
{
    enum err err = path ? open_file(lines, path, reterr) : E_OK;
    if (err) {
        store_lines_close(lines);
        return err;
    }
    if (!path) {
        lines->at = bytes.ptr;
        lines->left = lines->borrowed = bytes.len;
        lines->last = true;
    }
    begin(lines);
    return E_OK;
}

enum err store_lines_fill(struct store_lines *lines, struct err_info *reterr)
{
    if (lines->left || lines->last) {
        return E_OK;
    }
    size_t got;
    enum err err = store_stream_read(lines->stream, lines->block, BLOCK, &got, reterr);
    if (err) {
        proto_err_frame(reterr, "reading line %llu", (unsigned long long)lines->line);
        return err;
    }
    lines->last = got == 0;
    lines->at = lines->block;
    lines->left = got;
    return E_OK;
}

enum err store_lines_next(struct store_lines *lines, struct span *ret, bool *ret_long,
                          bool *ret_end, struct err_info *reterr)
{
    lines->text.len = 0;
    *ret_long = false;
    *ret_end = false;
    for (bool any = false;; any = true) {
        enum err err = store_lines_fill(lines, reterr);
        if (err) {
            return err;
        }
        if (lines->left == 0) {
            *ret = buf_span(&lines->text);
            *ret_end = !any;
            return E_OK;
        }
        const uint8_t *end = memchr(lines->at, '\n', lines->left);
        struct span piece = span_of(lines->at, end ? (size_t)(end - lines->at) : lines->left);
        size_t taken = piece.len + (end != NULL);
        lines->at += taken;
        lines->left -= taken;
        lines->line += end != NULL;
        *ret_long = *ret_long || lines->text.len + piece.len > lines->max;
        if (end && lines->text.len == 0) {
            *ret = piece;
            return E_OK;
        }
        if (!*ret_long && buf_put(&lines->text, piece)) {
            return proto_err_set(reterr, E_NO_MEMORY, "line %llu: out of memory",
                                 (unsigned long long)lines->line);
        }
        if (end) {
            *ret = buf_span(&lines->text);
            return E_OK;
        }
    }
}

void store_lines_tell(const struct store_lines *lines, struct store_source *source)
{
    source->bytes_done = lines->stream ? store_stream_done(lines->stream) : lines->borrowed;
    source->bytes_total = lines->stream ? store_stream_total(lines->stream) : lines->borrowed;
    source->bytes_plain = lines->stream ? store_stream_unpacked(lines->stream) : lines->borrowed;
    source->packed = lines->stream && store_stream_is_packed(lines->stream);
}

enum err store_lines_source(struct store_lines *lines, const char *path, struct span bytes,
                            struct store_source *source, struct store_source **ret,
                            struct err_info *reterr)
{
    enum err err = store_lines_open(lines, path, bytes, reterr);
    if (err) {
        source->free(source);
        return err;
    }
    store_lines_tell(lines, source);
    *ret = source;
    return E_OK;
}

void store_lines_close(struct store_lines *lines)
{
    store_stream_close(lines->stream);
    crypto_wipe(lines->block, BLOCK);
    proto_free(lines->block);
    crypto_buf_fini(&lines->text);
    lines->stream = NULL;
    lines->block = NULL;
    lines->left = 0;
}
