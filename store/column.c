#include "config.h"
#include "store/column.h"

#include "crypto/memory.h"
#include "store/column_layout.h"
#include "store/kernel.h"
#include "store/pack.h"

#include <math.h>
#include <stdlib.h>
#include <zstd.h>

#define PADDING_MAX 8192 /* what the sealer may add behind a chunk */
#define BASE_MAX    ((int64_t)1 << 53)

/* Memory that starts on a cache line, for one kind of contents; it is made at the first need, for a full chunk. */
struct room {
    void *block; /* what proto_alloc gave */
    void *at;
    size_t size;
};

struct store_chunk_rooms {
    struct room code;
    struct room number;
    struct room segments;
    uint64_t null[STORE_CHUNK_WORDS];
    uint32_t list[STORE_LIST_MAX];
};

struct store_segment_rooms {
    struct room text; /* lengths, then bytes */
    struct room text_start;
};

static inline uint64_t get_le64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* --- rooms --------------------------------------------------------------------------------- */

static void room_fini(struct room *room)
{
    if (room->at) {
        crypto_wipe(room->at, room->size);
    }
    proto_free(room->block);
    *room = (struct room){0};
}

/* NULL when out of memory. What was there before may be lost. */
static void *room_of(struct room *room, size_t size)
{
    if (room->size < size) {
        room_fini(room);
        room->block = proto_alloc(size + 64, 1);
        if (!room->block) {
            return NULL;
        }
        room->at = (void *)(((uintptr_t)room->block + 63) & ~(uintptr_t)63);
        room->size = size;
    }
    return room->at;
}

static uint32_t *code_room(struct store_chunk *chunk)
{
    return room_of(&chunk->rooms->code, STORE_CHUNK_ROWS * sizeof(uint32_t));
}

static double *number_room(struct store_chunk *chunk)
{
    return room_of(&chunk->rooms->number, STORE_CHUNK_ROWS * sizeof(double));
}

void store_chunk_fini(struct store_chunk *chunk)
{
    struct store_chunk_rooms *rooms = chunk->rooms;
    if (rooms) {
        room_fini(&rooms->code);
        room_fini(&rooms->number);
        room_fini(&rooms->segments);
        crypto_wipe(rooms, sizeof *rooms);
        proto_free(rooms);
    }
    memset(chunk, 0, sizeof *chunk);
}

/* --- parts of a chunk ---------------------------------------------------------------------- */

/* Takes the null bitmap off BYTES; its bits must add up to the header's number. */
static bool take_nulls(struct span *bytes, struct store_chunk *chunk, uint8_t flags)
{
    chunk->null = NULL;
    if (chunk->nulls == 0) {
        return !flags;
    }
    uint64_t *null = chunk->rooms->null;
    size_t count = store_words(chunk->rows);
    chunk->null = null;
    uint64_t last = chunk->rows % 64 ? ((uint64_t)1 << chunk->rows % 64) - 1 : UINT64_MAX;
    if (chunk->nulls == chunk->rows) {
        memset(null, 0xff, count * 8);
        null[count - 1] = last;
        return !flags;
    }
    if (!flags || bytes->len < count * 8) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        null[i] = get_le64(bytes->ptr + i * 8);
    }
    *bytes = span_of(bytes->ptr + count * 8, bytes->len - count * 8);
    return store_count_bits(null, count) == chunk->nulls && !(null[count - 1] & ~last);
}

static bool padded(struct span bytes, size_t used)
{
    return bytes.len >= used && bytes.len - used <= PADDING_MAX;
}

/* Takes the number of a list or of runs, 1 to MAX, off BYTES; 0: it is not there. */
static uint32_t take_count(struct span *bytes, uint32_t max)
{
    uint32_t count = bytes->len < 4 ? 0 : get_be32(bytes->ptr);
    if (count) {
        *bytes = span_of(bytes->ptr + 4, bytes->len - 4);
    }
    return count <= max ? count : 0;
}

/* Whether base and width fit the form. The base of codes moves into *RET_ADD, which each of them gets. */
static bool take_base(struct store_chunk *chunk, uint32_t *ret_add)
{
    *ret_add = 0;
    if (chunk->bits > STORE_PACK_BITS || chunk->form == STORE_FORM_TEXT) {
        return false;
    }
    if (chunk->form == STORE_FORM_NUMBER) {
        return chunk->base >= -BASE_MAX && chunk->base <= BASE_MAX;
    }
    uint64_t top = ((uint64_t)1 << chunk->bits) - 1;
    if (chunk->base < 0 || (uint64_t)chunk->base > UINT32_MAX - top ||
        (chunk->nulls && chunk->base)) {
        return false;
    }
    *ret_add = (uint32_t)chunk->base;
    chunk->base = 0;
    chunk->bits = *ret_add ? store_bits_for(*ret_add + top) : chunk->bits;
    return true;
}

/* --- codes --------------------------------------------------------------------------------- */

static enum err open_packed(struct span bytes, struct store_chunk *chunk)
{
    unsigned bits = chunk->bits;
    bool constant = chunk->encoding == STORE_ENCODING_CONSTANT;
    size_t size = constant ? 0 : store_pack_size(chunk->rows, bits);
    if (constant != (bits == 0) || !take_base(chunk, &chunk->packed_add) || !padded(bytes, size)) {
        return E_CORRUPT;
    }
    chunk->packed = bytes.ptr;
    chunk->packed_bits = bits;
    return E_OK;
}

static enum err open_indexes(struct span bytes, struct store_chunk *chunk)
{
    unsigned bits = chunk->bits;
    uint32_t add;
    uint32_t count = take_count(&bytes, STORE_LIST_MAX);
    if (!count || !bits || !take_base(chunk, &add)) {
        return E_CORRUPT;
    }
    unsigned place_bits = store_bits_for(count - 1);
    size_t first = store_pack_size(count, bits);
    if (bytes.len < first || !padded(span_of(bytes.ptr + first, bytes.len - first),
                                     store_pack_size(chunk->rows, place_bits))) {
        return E_CORRUPT;
    }
    /* Places behind the list's end show its last code, rather than being looked for one by one. */
    uint32_t *list = chunk->rooms->list;
    store_unpack(bytes.ptr, count, bits, add, list);
    for (size_t i = count; i < sizeof chunk->rooms->list / sizeof *list; i++) {
        list[i] = list[count - 1];
    }
    for (uint32_t i = 1; i < count; i++) {
        if (list[i] <= list[i - 1]) {
            return E_CORRUPT;
        }
    }
    chunk->list = list;
    chunk->list_count = count;
    chunk->packed = bytes.ptr + first;
    chunk->packed_bits = place_bits;
    return E_OK;
}

static void pad_codes(uint32_t *code, size_t rows)
{
    memset(code + rows, 0, (store_words(rows) * 64 - rows) * sizeof *code);
}

static enum err open_runs(struct span bytes, struct store_chunk *chunk)
{
    unsigned bits = chunk->bits;
    uint32_t add;
    uint32_t runs = take_count(&bytes, (uint32_t)chunk->rows);
    if (!runs || !bits || !take_base(chunk, &add) || bytes.len < (size_t)runs * 2) {
        return E_CORRUPT;
    }
    const uint8_t *ends = bytes.ptr;
    bytes = span_of(ends + (size_t)runs * 2, bytes.len - (size_t)runs * 2);
    if (!padded(bytes, store_pack_size(runs, bits))) {
        return E_CORRUPT;
    }
    /* The runs' codes wait where raw numbers would stand, which has room for twice as many. */
    uint32_t *codes = (uint32_t *)(void *)number_room(chunk);
    uint32_t *code = code_room(chunk);
    if (!codes || !code) {
        return E_NO_MEMORY;
    }
    store_unpack(bytes.ptr, runs, bits, add, codes);
    size_t row = 0;
    for (uint32_t run = 0; run < runs; run++) {
        size_t end = (size_t)get_be16(ends + (size_t)run * 2) + 1;
        if (end <= row || end > chunk->rows) {
            return E_CORRUPT;
        }
        for (; row < end; row++) {
            code[row] = codes[run];
        }
    }
    pad_codes(code, chunk->rows);
    chunk->code = code;
    return row == chunk->rows ? E_OK : E_CORRUPT;
}

STORE_KERNEL static void replace_places(uint32_t *restrict places, size_t rows,
                                        const uint32_t *restrict values)
{
    for (size_t i = 0; i < rows; i++) {
        places[i] = values[places[i]];
    }
}

enum err store_chunk_unpack(struct store_chunk *chunk)
{
    if (chunk->code || !chunk->packed) {
        return E_OK;
    }
    uint32_t *code = code_room(chunk);
    if (!code) {
        return E_NO_MEMORY;
    }
    store_unpack(chunk->packed, chunk->rows, chunk->packed_bits, chunk->packed_add, code);
    if (chunk->list) {
        replace_places(code, chunk->rows, chunk->list);
    }
    pad_codes(code, chunk->rows);
    chunk->code = code;
    return E_OK;
}

/* Codes FIRST to LAST as places of the chunk's list; false: none of them is there. */
static bool places_of(const struct store_chunk *chunk, uint64_t *first, uint64_t *last)
{
    uint32_t low = 0;
    uint32_t end = 0;
    while (low < chunk->list_count && chunk->list[low] < *first) {
        low++;
    }
    for (end = low; end < chunk->list_count && chunk->list[end] <= *last; end++) {
    }
    *first = low;
    *last = end == chunk->list_count ? UINT32_MAX : (uint64_t)end - 1;
    return low < end;
}

void store_chunk_range(const struct store_chunk *chunk, uint32_t first, uint32_t last,
                       uint64_t *out)
{
    if (chunk->code) {
        store_codes_range(chunk->code, chunk->rows, first, last - first, out);
        return;
    }
    uint64_t from = first;
    uint64_t to = last;
    bool any = true;
    if (chunk->list) {
        any = places_of(chunk, &from, &to);
    } else { /* before the base is added */
        any = to >= chunk->packed_add;
        from = from > chunk->packed_add ? from - chunk->packed_add : 0;
        to = any ? to - chunk->packed_add : 0;
    }
    if (!any) {
        memset(out, 0, store_words(chunk->rows) * sizeof *out);
        return;
    }
    store_unpack_range(chunk->packed, chunk->rows, chunk->packed_bits, (uint32_t)from,
                       (uint32_t)(to - from), out);
}

/* --- doubles ------------------------------------------------------------------------------- */

static void pad_numbers(double *number, size_t rows)
{
    memset(number + rows, 0, (store_words(rows) * 64 - rows) * sizeof *number);
}

static enum err open_raw_list(struct span bytes, struct store_chunk *chunk)
{
    uint32_t count = take_count(&bytes, STORE_LIST_MAX);
    if (chunk->form != STORE_FORM_NUMBER || !count || chunk->bits != store_bits_for(count - 1) ||
        bytes.len < (size_t)count * 8) {
        return E_CORRUPT;
    }
    double values[STORE_LIST_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t raw = get_le64(bytes.ptr + (size_t)i * 8);
        memcpy(&values[i], &raw, sizeof raw);
        if (!isfinite(values[i]) || (i && values[i] <= values[i - 1])) {
            return E_CORRUPT;
        }
    }
    bytes = span_of(bytes.ptr + (size_t)count * 8, bytes.len - (size_t)count * 8);
    if (!padded(bytes, store_pack_size(chunk->rows, chunk->bits))) {
        return E_CORRUPT;
    }
    uint32_t *places = code_room(chunk);
    double *number = number_room(chunk);
    if (!places || !number) {
        return E_NO_MEMORY;
    }
    store_unpack(bytes.ptr, chunk->rows, chunk->bits, 0, places);
    const uint64_t *null = chunk->null;
    for (size_t i = 0; i < chunk->rows; i++) {
        bool missing = null && (null[i / 64] >> (i % 64) & 1);
        number[i] = missing ? 0 : values[places[i]];
    }
    crypto_wipe(values, sizeof values);
    pad_numbers(number, chunk->rows);
    chunk->number = number;
    chunk->bits = 64;
    return E_OK;
}

static enum err open_raw(struct span bytes, struct store_chunk *chunk)
{
    if (chunk->form != STORE_FORM_NUMBER || chunk->bits != 64 || !padded(bytes, chunk->rows * 8)) {
        return E_CORRUPT;
    }
    double *number = number_room(chunk);
    if (!number) {
        return E_NO_MEMORY;
    }
    double finite = 0;
    for (size_t i = 0; i < chunk->rows; i++) {
        uint64_t raw = get_le64(bytes.ptr + i * 8);
        memcpy(&number[i], &raw, sizeof raw);
        finite += number[i] * 0; /* NaN as soon as one is not finite */
    }
    pad_numbers(number, chunk->rows);
    chunk->number = number;
    return finite == 0 ? E_OK : E_CORRUPT;
}

/* --- text ---------------------------------------------------------------------------------- */

static enum err open_text(struct span bytes, struct store_chunk *chunk)
{
    uint32_t count = take_count(&bytes, (uint32_t)chunk->rows);
    if (chunk->form != STORE_FORM_TEXT || chunk->bits || !count ||
        !padded(bytes, (size_t)count * 4)) {
        return E_CORRUPT;
    }
    uint32_t *segments = room_of(&chunk->rooms->segments, STORE_CHUNK_ROWS * sizeof *segments);
    if (!segments) {
        return E_NO_MEMORY;
    }
    size_t rows = 0;
    for (uint32_t i = 0; i < count; i++) {
        segments[i] = get_be32(bytes.ptr + (size_t)i * 4);
        if (segments[i] == 0 || segments[i] > chunk->rows - rows) {
            return E_CORRUPT;
        }
        rows += segments[i];
    }
    chunk->segments = segments;
    chunk->segment_count = count;
    return rows == chunk->rows ? E_OK : E_CORRUPT;
}

static enum err cut_texts(struct store_segment *segment, const uint8_t *plain, size_t size,
                          uint32_t *text_start)
{
    size_t room = size - segment->rows * 4;
    size_t at = 0;
    for (size_t i = 0; i < segment->rows; i++) {
        text_start[i] = (uint32_t)at;
        size_t len = get_le32(plain + i * 4);
        if (len > room - at) {
            return E_CORRUPT;
        }
        at += len;
    }
    text_start[segment->rows] = (uint32_t)at;
    segment->text = (const char *)plain + segment->rows * 4;
    segment->text_start = text_start;
    return at == room ? E_OK : E_CORRUPT;
}

enum err store_segment_decode(struct span bytes, size_t rows, struct store_segment *segment)
{
    struct store_segment_rooms *rooms = segment->rooms;
    rooms = rooms ? rooms : proto_alloc(1, sizeof *rooms);
    *segment = (struct store_segment){.rows = rows, .rooms = rooms};
    if (!rooms) {
        return E_NO_MEMORY;
    }
    if (rows == 0 || rows > STORE_CHUNK_ROWS || bytes.len < 8) {
        return E_CORRUPT;
    }
    size_t size = get_be32(bytes.ptr);
    size_t packed = get_be32(bytes.ptr + 4);
    if (size > STORE_SEGMENT_TEXT_MAX || size < rows * 4 || packed > bytes.len - 8 ||
        !padded(bytes, 8 + packed)) {
        return E_CORRUPT;
    }
    uint8_t *plain = room_of(&rooms->text, size);
    uint32_t *text_start = room_of(&rooms->text_start, (rows + 1) * sizeof *text_start);
    if (!plain || !text_start) {
        return E_NO_MEMORY;
    }
    size_t got = ZSTD_decompress(plain, size, bytes.ptr + 8, packed);
    return ZSTD_isError(got) || got != size ? E_CORRUPT
                                            : cut_texts(segment, plain, size, text_start);
}

void store_segment_fini(struct store_segment *segment)
{
    if (segment->rooms) {
        room_fini(&segment->rooms->text);
        room_fini(&segment->rooms->text_start);
        proto_free(segment->rooms);
    }
    *segment = (struct store_segment){0};
}

/* --- all of it ----------------------------------------------------------------------------- */

static enum err open_encoding(struct span bytes, struct store_chunk *chunk)
{
    switch (chunk->encoding) {
    case STORE_ENCODING_RAW:
        return open_raw(bytes, chunk);
    case STORE_ENCODING_TEXT:
        return open_text(bytes, chunk);
    case STORE_ENCODING_RUNS:
        return open_runs(bytes, chunk);
    case STORE_ENCODING_INDEXES:
        return open_indexes(bytes, chunk);
    case STORE_ENCODING_RAW_LIST:
        return open_raw_list(bytes, chunk);
    default:
        return open_packed(bytes, chunk);
    }
}

enum err store_column_open(struct span bytes, enum store_form form, size_t rows,
                           struct store_chunk *chunk)
{
    struct store_chunk_rooms *rooms = chunk->rooms;
    if (!rooms) {
        rooms = chunk->rooms = proto_alloc(1, sizeof *rooms);
    }
    if (!rooms) {
        return E_NO_MEMORY;
    }
    *chunk = (struct store_chunk){.rooms = rooms};
    const uint8_t *p = bytes.ptr;
    if (bytes.len < STORE_CHUNK_HEADER || rows == 0 || rows > STORE_CHUNK_ROWS) {
        return E_CORRUPT;
    }
    if (p[0] != STORE_CHUNK_VERSION) {
        return E_UNSUPPORTED;
    }
    if (p[1] != (uint8_t)form || p[2] >= STORE_ENCODING_COUNT || p[4] > STORE_SCALE_MAX ||
        (p[4] && form != STORE_FORM_NUMBER) || p[5] > STORE_CHUNK_NULLS || get_be16(p + 6) ||
        get_be32(p + 8) != rows || get_be32(p + 12) > rows) {
        return E_CORRUPT;
    }
    chunk->form = form;
    chunk->encoding = p[2];
    chunk->rows = rows;
    chunk->nulls = get_be32(p + 12);
    chunk->bits = p[3];
    chunk->base = (int64_t)get_be64(p + 16);
    chunk->divisor = store_powers[p[4]];
    struct span rest = span_of(p + STORE_CHUNK_HEADER, bytes.len - STORE_CHUNK_HEADER);
    return take_nulls(&rest, chunk, p[5]) ? open_encoding(rest, chunk) : E_CORRUPT;
}

enum err store_column_decode(struct span bytes, enum store_form form, size_t rows,
                             struct store_chunk *chunk)
{
    enum err err = store_column_open(bytes, form, rows, chunk);
    return err ? err : store_chunk_unpack(chunk);
}

double store_column_number(const struct store_chunk *chunk, size_t row)
{
    return chunk->number ? chunk->number[row]
                         : (double)(chunk->base + chunk->code[row]) / chunk->divisor;
}
