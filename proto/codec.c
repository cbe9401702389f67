#include "config.h"
#include "proto/codec.h"

#include <math.h>
#include <msgpack.h>

static const struct proto_field text_fields[] = {
    PROTO_FIELD(struct proto_text, text, PROTO_STR, 1, 256),
};
const struct proto_message proto_text_message =
    PROTO_MESSAGE("text", struct proto_text, text_fields);

static const struct proto_field long_text_fields[] = {
    PROTO_FIELD(struct proto_text, text, PROTO_STR, 0, 4096),
};
const struct proto_message proto_long_text_message =
    PROTO_MESSAGE("text", struct proto_text, long_text_fields);

/* A list element of one field would cost an array header each; lists of such messages hold the bare
 * field. */
static bool is_bare(const struct proto_message *message)
{
    return message == &proto_text_message || message == &proto_long_text_message;
}

/* --- UTF-8 ------------------------------------------------------------------------------------ */

/* Length of the well-formed sequence at P, 0 when there is none (RFC 3629: no surrogates, no
 * overlong forms). */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80) {
        return p[0] != 0;
    }
    size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || left < n) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    bool bad = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
               (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F);
    return bad ? 0 : n;
}

/* Eight octets from 1 to 127: nearly all texts are made of them. A borrow past its own octet needs a zero first. */
static bool is_plain(const uint8_t p[8])
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return ((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) == 0;
}

bool proto_utf8_valid(struct span text)
{
    for (size_t at = 0; at < text.len;) {
        bool plain = text.len - at >= 8 && is_plain(text.ptr + at);
        size_t n = plain ? 8 : utf8_sequence(text.ptr + at, text.len - at);
        if (n == 0) {
            return false;
        }
        at += n;
    }
    return true;
}

/* --- Pre-scan: bounds before anything is allocated
 * ------------------------------------------------ */

/* What one msgpack header announces: PAYLOAD bytes to skip or COUNT elements that follow. */
struct header {
    size_t payload;
    size_t count;
    bool array;
    bool known; /* maps, extensions and float 32 are never ours */
};

static size_t big_endian(const uint8_t *p, size_t n)
{
    size_t value = 0;
    for (size_t i = 0; i < n; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

/* Width of the length field that follows a str, bin or array header byte; 0: no such header. */
static size_t length_width(uint8_t byte)
{
    switch (byte) {
    case 0xC4:
    case 0xD9:
        return 1;
    case 0xC5:
    case 0xDA:
    case 0xDC:
        return 2;
    case 0xC6:
    case 0xDB:
    case 0xDD:
        return 4;
    default:
        return 0;
    }
}

static struct header fixed_header(uint8_t byte)
{
    if (byte <= 0x7F || byte >= 0xE0 || byte == 0xC0 || byte == 0xC2 || byte == 0xC3) {
        return (struct header){.known = true};
    }
    if (byte >= 0x90 && byte <= 0x9F) {
        return (struct header){.known = true, .array = true, .count = byte & 15u};
    }
    if (byte >= 0xA0 && byte <= 0xBF) {
        return (struct header){.known = true, .payload = byte & 31u};
    }
    if (byte >= 0xCC && byte <= 0xD3) { /* unsigned and signed integers of 1, 2, 4 and 8 bytes */
        return (struct header){.known = true, .payload = (size_t)1 << ((byte - 0xCC) & 3)};
    }
    return (struct header){.known = byte == 0xCB, .payload = 8};
}

static enum err read_header(struct span bytes, size_t *at, struct header *ret)
{
    uint8_t byte = bytes.ptr[*at];
    size_t width = length_width(byte);
    *at += 1;
    if (width == 0) {
        *ret = fixed_header(byte);
        return ret->known ? E_OK : E_INVALID;
    }
    if (bytes.len - *at < width) {
        return E_TRUNCATED;
    }
    size_t length = big_endian(bytes.ptr + *at, width);
    *at += width;
    bool array = byte == 0xDC || byte == 0xDD;
    *ret = (struct header){
        .known = true, .array = array, .count = array ? length : 0, .payload = array ? 0 : length};
    return E_OK;
}

/* msgpack-c allocates by the counts that a message claims, so they are checked against the bytes
 * that are there first. An own stack of open arrays: the depth of the input never becomes depth of
 * ours. */
static enum err prescan(struct span bytes, const char **why)
{
    size_t open[PROTO_CODEC_DEPTH];
    size_t depth = 0, at = 0, elements = 0;
    do {
        if (at == bytes.len) {
            *why = "it ends inside a message";
            return E_TRUNCATED;
        }
        struct header header;
        enum err err = read_header(bytes, &at, &header);
        if (err) {
            *why = err == E_INVALID ? "a type that is not used here" : "it ends inside a header";
            return err;
        }
        if (header.payload > bytes.len - at || header.count > bytes.len - at) {
            *why = "a length runs past the end";
            return E_TRUNCATED;
        }
        at += header.payload;
        elements += header.count;
        if (elements > PROTO_CODEC_ELEMENTS) {
            *why = "too many elements";
            return E_LIMIT;
        }
        if (depth) {
            open[depth - 1]--;
        }
        if (header.array) {
            if (depth == PROTO_CODEC_DEPTH) {
                *why = "nested too deep";
                return E_LIMIT;
            }
            open[depth++] = header.count;
        }
        while (depth && open[depth - 1] == 0) {
            depth--;
        }
    } while (depth);
    *why = "bytes follow the message";
    return at == bytes.len ? E_OK : E_INVALID;
}

/* --- Encoding
 * ------------------------------------------------------------------------------------- */

/* Where encoded bytes go: appended to OUT or, to check a decoding, compared with EXPECTED. */
struct sink {
    struct buf *out;
    struct span expected;
    size_t at;
    enum err err;
};

static int sink_write(void *data, const char *bytes, size_t len)
{
    struct sink *sink = data;
    if (sink->err) {
        return -1;
    }
    if (sink->out) {
        sink->err = buf_put(sink->out, span_of(bytes, len));
    } else if (len > sink->expected.len - sink->at ||
               (len && memcmp(sink->expected.ptr + sink->at, bytes, len) != 0)) {
        sink->err = E_INVALID;
    } else {
        sink->at += len;
    }
    return sink->err ? -1 : 0;
}

static const void *member(const void *object, size_t offset)
{
    return (const uint8_t *)object + offset;
}

static struct span load_span(const void *at)
{
    struct span span;
    memcpy(&span, at, sizeof span);
    return span;
}

static bool is_absent(const struct proto_field *field, const void *object)
{
    if (!field->optional) {
        return false;
    }
    if (field->present) {
        return !*(const bool *)member(object, field->present);
    }
    switch (field->type) {
    case PROTO_STR:
    case PROTO_BIN:
        return load_span(member(object, field->offset)).ptr == NULL;
    case PROTO_LIST:
        return ((const struct proto_list *)member(object, field->offset))->count == 0;
    default:
        return false;
    }
}

static enum err bad_field(struct err_info *reterr, enum err code,
                          const struct proto_message *message, const struct proto_field *field,
                          const char *why)
{
    return proto_err_set(reterr, code, "%s.%s: %s", message->name, field->name, why);
}

static bool length_fits(const struct proto_field *field, size_t len)
{
    return len >= (uint64_t)field->min && len <= (uint64_t)field->max;
}

/* The one table of value rules, used by writer and reader. NULL: the value is fine. */
static const char *value_fault(const struct proto_field *field, const void *value)
{
    switch (field->type) {
    case PROTO_U64: {
        uint64_t u = *(const uint64_t *)value;
        bool fits = u <= INT64_MAX && (int64_t)u >= field->min && (int64_t)u <= field->max;
        return fits ? NULL : "out of range";
    }
    case PROTO_I64: {
        int64_t i = *(const int64_t *)value;
        return i >= field->min && i <= field->max ? NULL : "out of range";
    }
    case PROTO_F64: {
        double d = *(const double *)value;
        return isfinite(d) && !(d == 0 && signbit(d)) ? NULL : "not a plain finite number";
    }
    case PROTO_STR:
    case PROTO_BIN: {
        struct span span = load_span(value);
        if (!length_fits(field, span.len)) {
            return "its length is out of range";
        }
        return field->type == PROTO_BIN || proto_utf8_valid(span) ? NULL : "not valid UTF-8";
    }
    case PROTO_LIST:
        return length_fits(field, ((const struct proto_list *)value)->count)
                   ? NULL
                   : "its count is out of range";
    case PROTO_BOOL:
    case PROTO_FIXED:
    case PROTO_NESTED:
        break;
    }
    return NULL;
}

static enum err pack_message(msgpack_packer *packer, const struct proto_message *message,
                             const void *object, struct err_info *reterr);
static enum err pack_value(msgpack_packer *packer, const struct proto_message *message,
                           const struct proto_field *field, const void *value,
                           struct err_info *reterr);

static int pack_bytes(msgpack_packer *packer, bool text, const void *bytes, size_t len)
{
    int rc = text ? msgpack_pack_str(packer, len) : msgpack_pack_bin(packer, len);
    if (rc == 0 && len) {
        rc = text ? msgpack_pack_str_body(packer, bytes, len)
                  : msgpack_pack_bin_body(packer, bytes, len);
    }
    return rc;
}

static enum err sink_result(msgpack_packer *packer, int rc)
{
    const struct sink *sink = packer->data;
    return rc == 0 ? E_OK : sink->err ? sink->err : E_NO_MEMORY;
}

static enum err pack_list(msgpack_packer *packer, const struct proto_field *field,
                          const struct proto_list *list, struct err_info *reterr)
{
    enum err err = sink_result(packer, msgpack_pack_array(packer, list->count));
    for (size_t i = 0; !err && i < list->count; i++) {
        const void *item = member(list->items, i * field->nested->size);
        err = is_bare(field->nested)
                  ? pack_value(packer, field->nested, field->nested->fields, item, reterr)
                  : pack_message(packer, field->nested, item, reterr);
    }
    return err;
}

static enum err pack_value(msgpack_packer *packer, const struct proto_message *message,
                           const struct proto_field *field, const void *value,
                           struct err_info *reterr)
{
    const char *fault = value_fault(field, value);
    if (fault) {
        return bad_field(reterr, E_LIMIT, message, field, fault);
    }
    switch (field->type) {
    case PROTO_U64:
        return sink_result(packer, msgpack_pack_uint64(packer, *(const uint64_t *)value));
    case PROTO_I64:
        return sink_result(packer, msgpack_pack_int64(packer, *(const int64_t *)value));
    case PROTO_BOOL:
        return sink_result(packer, *(const bool *)value ? msgpack_pack_true(packer)
                                                        : msgpack_pack_false(packer));
    case PROTO_F64:
        return sink_result(packer, msgpack_pack_double(packer, *(const double *)value));
    case PROTO_STR:
    case PROTO_BIN: {
        struct span span = load_span(value);
        return sink_result(packer,
                           pack_bytes(packer, field->type == PROTO_STR, span.ptr, span.len));
    }
    case PROTO_FIXED:
        return sink_result(packer, pack_bytes(packer, false, value, (size_t)field->min));
    case PROTO_NESTED:
        return pack_message(packer, field->nested, value, reterr);
    case PROTO_LIST:
        return pack_list(packer, field, value, reterr);
    }
    return bad_field(reterr, E_INTERNAL, message, field, "unknown field type");
}

/* The array of the message's fields up to COUNT. */
static enum err pack_fields(msgpack_packer *packer, const struct proto_message *message,
                            size_t count, const void *object, struct err_info *reterr)
{
    enum err err = sink_result(packer, msgpack_pack_array(packer, message->count));
    for (size_t i = 0; !err && i < count; i++) {
        const struct proto_field *field = &message->fields[i];
        if (is_absent(field, object)) {
            err = sink_result(packer, msgpack_pack_nil(packer));
        } else {
            err = pack_value(packer, message, field, member(object, field->offset), reterr);
        }
    }
    return err;
}

/* Recursion follows the tables, whose depth is ours, not the input's. */
static enum err pack_message(msgpack_packer *packer, const struct proto_message *message,
                             const void *object, struct err_info *reterr)
{
    return pack_fields(packer, message, message->count, object, reterr);
}

/* All but the bytes of the last field. */
static enum err pack_head(msgpack_packer *packer, const struct proto_message *message,
                          const void *object, struct err_info *reterr)
{
    const struct proto_field *last = &message->fields[message->count - 1];
    const void *value = member(object, last->offset);
    const char *fault = last->type == PROTO_BIN ? value_fault(last, value) : "not of bytes";
    if (fault) {
        return bad_field(reterr, E_LIMIT, message, last, fault);
    }
    enum err err = pack_fields(packer, message, message->count - 1, object, reterr);
    return err ? err : sink_result(packer, msgpack_pack_bin(packer, load_span(value).len));
}

static enum err encode(const struct proto_message *message, const void *object, bool whole,
                       struct buf *out, struct err_info *reterr)
{
    size_t start = out->len;
    struct err_info detail = {0};
    struct sink sink = {.out = out};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &sink, sink_write);
    enum err err = whole ? pack_message(&packer, message, object, &detail)
                         : pack_head(&packer, message, object, &detail);
    if (!err && out->len - start > PROTO_CODEC_MAX) {
        err = E_LIMIT;
    }
    if (err) {
        out->len = start;
        return proto_err_set(reterr, err, "%s", detail.text[0] ? detail.text : message->name);
    }
    return E_OK;
}

enum err proto_codec_encode(const struct proto_message *message, const void *object,
                            struct buf *out, struct err_info *reterr)
{
    return encode(message, object, true, out, reterr);
}

enum err proto_codec_encode_head(const struct proto_message *message, const void *object,
                                 struct buf *out, struct err_info *reterr)
{
    return encode(message, object, false, out, reterr);
}

/* --- Decoding
 * ------------------------------------------------------------------------------------- */

static enum err take_message(const struct proto_message *message, const msgpack_object *from,
                             struct arena *arena, void *object, struct err_info *reterr);
static enum err take_value(const struct proto_message *message, const struct proto_field *field,
                           const msgpack_object *from, struct arena *arena, void *value,
                           struct err_info *reterr);

/* Copies a scalar into VALUE; false when the wire type is another. */
static bool take_scalar(const struct proto_field *field, const msgpack_object *from, void *value)
{
    switch (field->type) {
    case PROTO_U64:
        *(uint64_t *)value = from->via.u64;
        return from->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
    case PROTO_I64:
        *(int64_t *)value = from->via.i64;
        return from->type == MSGPACK_OBJECT_NEGATIVE_INTEGER ||
               (from->type == MSGPACK_OBJECT_POSITIVE_INTEGER && from->via.u64 <= INT64_MAX);
    case PROTO_BOOL:
        *(bool *)value = from->type == MSGPACK_OBJECT_BOOLEAN && from->via.boolean;
        return from->type == MSGPACK_OBJECT_BOOLEAN;
    case PROTO_F64:
        *(double *)value = from->type == MSGPACK_OBJECT_FLOAT64 ? from->via.f64 : 0;
        return from->type == MSGPACK_OBJECT_FLOAT64;
    case PROTO_STR:
        if (from->type != MSGPACK_OBJECT_STR) {
            return false;
        }
        *(struct span *)value = span_of(from->via.str.ptr, from->via.str.size);
        return true;
    case PROTO_BIN:
        if (from->type != MSGPACK_OBJECT_BIN) {
            return false;
        }
        *(struct span *)value = span_of(from->via.bin.ptr, from->via.bin.size);
        return true;
    case PROTO_FIXED:
        if (from->type != MSGPACK_OBJECT_BIN || from->via.bin.size != (uint64_t)field->min) {
            return false;
        }
        memcpy(value, from->via.bin.ptr, from->via.bin.size);
        return true;
    case PROTO_NESTED:
    case PROTO_LIST:
        break;
    }
    return false;
}

static enum err take_list(const struct proto_message *message, const struct proto_field *field,
                          const msgpack_object *from, struct arena *arena, struct proto_list *list,
                          struct err_info *reterr)
{
    if (from->type != MSGPACK_OBJECT_ARRAY) {
        return bad_field(reterr, E_INVALID, message, field, "it must be an array");
    }
    list->count = from->via.array.size;
    list->items = NULL;
    const char *fault = value_fault(field, list); /* before its memory is taken */
    if (fault) {
        return bad_field(reterr, E_LIMIT, message, field, fault);
    }
    if (list->count && !(list->items = arena_alloc(arena, list->count, field->nested->size))) {
        return bad_field(reterr, E_NO_MEMORY, message, field, "out of memory");
    }
    enum err err = E_OK;
    for (size_t i = 0; !err && i < list->count; i++) {
        void *item = (uint8_t *)list->items + i * field->nested->size;
        const msgpack_object *element = &from->via.array.ptr[i];
        err = is_bare(field->nested)
                  ? take_value(field->nested, field->nested->fields, element, arena, item, reterr)
                  : take_message(field->nested, element, arena, item, reterr);
    }
    return err;
}

static enum err take_value(const struct proto_message *message, const struct proto_field *field,
                           const msgpack_object *from, struct arena *arena, void *value,
                           struct err_info *reterr)
{
    if (field->type == PROTO_NESTED) {
        return take_message(field->nested, from, arena, value, reterr);
    }
    if (field->type == PROTO_LIST) {
        return take_list(message, field, from, arena, value, reterr);
    }
    if (!take_scalar(field, from, value)) {
        return bad_field(reterr, E_INVALID, message, field, "another type is needed");
    }
    const char *fault = value_fault(field, value);
    bool text = fault && field->type == PROTO_STR && !proto_utf8_valid(load_span(value));
    return fault ? bad_field(reterr, text ? E_INVALID : E_LIMIT, message, field, fault) : E_OK;
}

static enum err take_message(const struct proto_message *message, const msgpack_object *from,
                             struct arena *arena, void *object, struct err_info *reterr)
{
    if (from->type != MSGPACK_OBJECT_ARRAY || from->via.array.size != message->count) {
        return proto_err_set(reterr, E_INVALID, "%s: an array of %zu fields is needed",
                             message->name, message->count);
    }
    memset(object, 0, message->size);
    enum err err = E_OK;
    for (size_t i = 0; !err && i < message->count; i++) {
        const struct proto_field *field = &message->fields[i];
        const msgpack_object *element = &from->via.array.ptr[i];
        bool here = element->type != MSGPACK_OBJECT_NIL;
        if (field->present) {
            *(bool *)((uint8_t *)object + field->present) = here;
        }
        if (!here && field->optional) {
            continue;
        }
        err = take_value(message, field, element, arena, (uint8_t *)object + field->offset, reterr);
    }
    return err;
}

/* One value has one encoding: what this table would write must be what was read. */
static enum err compare_encoding(const struct proto_message *message, const void *object,
                                 struct span bytes, struct err_info *reterr)
{
    struct sink sink = {.expected = bytes};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &sink, sink_write);
    if (pack_message(&packer, message, object, NULL) || sink.at != bytes.len) {
        return proto_err_set(reterr, E_INVALID, "%s: not in its one canonical encoding",
                             message->name);
    }
    return E_OK;
}

enum err proto_codec_decode(const struct proto_message *message, struct span bytes,
                            struct arena *arena, void *object, struct err_info *reterr)
{
    const char *why = "longer than a message may be";
    enum err err = bytes.len > PROTO_CODEC_MAX ? E_LIMIT : prescan(bytes, &why);
    if (err) {
        return proto_err_set(reterr, err, "%s: %s", message->name, why);
    }
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    size_t end = 0;
    msgpack_unpack_return rc =
        msgpack_unpack_next(&unpacked, (const char *)bytes.ptr, bytes.len, &end);
    if (rc == MSGPACK_UNPACK_SUCCESS && end == bytes.len) {
        err = take_message(message, &unpacked.data, arena, object, reterr);
    } else if (rc == MSGPACK_UNPACK_NOMEM_ERROR) {
        err = proto_err_set(reterr, E_NO_MEMORY, "%s: out of memory", message->name);
    } else {
        err = proto_err_set(reterr, E_INVALID, "%s: not a message", message->name);
    }
    msgpack_unpacked_destroy(&unpacked);
    return err ? err : compare_encoding(message, object, bytes, reterr);
}
