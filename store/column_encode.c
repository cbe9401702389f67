#include "config.h"
#include "store/column.h"

#include "crypto/memory.h"
#include "store/column_layout.h"
#include "store/pack.h"

#include <math.h>
#include <stdlib.h>
#include <zstd.h>

#define EXACT_MAX  9007199254740992.0 /* 2^53 */
#define ZSTD_LEVEL 3

static void put_le64(uint8_t *to, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

static bool bit(const uint64_t *bitmap, size_t i)
{
    return bitmap && (bitmap[i / 64] >> (i % 64) & 1);
}

struct plan {
    enum store_encoding encoding;
    unsigned bits;
    unsigned scale;
    int64_t base;
    size_t nulls;
};

static void put_header(uint8_t to[STORE_CHUNK_HEADER], const struct store_column_input *input,
                       const struct plan *plan)
{
    memset(to, 0, STORE_CHUNK_HEADER);
    to[0] = STORE_CHUNK_VERSION;
    to[1] = (uint8_t)input->form;
    to[2] = (uint8_t)plan->encoding;
    to[3] = (uint8_t)plan->bits;
    to[4] = (uint8_t)plan->scale;
    to[5] = plan->nulls && plan->nulls < input->rows ? STORE_CHUNK_NULLS : 0;
    put_be32(to + 8, (uint32_t)input->rows);
    put_be32(to + 12, (uint32_t)plan->nulls);
    put_be64(to + 16, (uint64_t)plan->base);
}

static enum err put_head(const struct store_column_input *input, const struct plan *plan,
                         struct buf *out)
{
    uint8_t header[STORE_CHUNK_HEADER];
    put_header(header, input, plan);
    enum err err = buf_put(out, span_of(header, sizeof header));
    if (err || !header[5]) {
        return err;
    }
    for (size_t i = 0; i < store_words(input->rows) && !err; i++) {
        uint8_t word[8];
        put_le64(word, input->null[i]);
        err = buf_put(out, span_of(word, sizeof word));
    }
    return err;
}

/* --- distinct values ----------------------------------------------------------------------- */

#define LIST_SLOTS (4 * STORE_LIST_MAX)

/* The distinct keys of a chunk, sorted, and their places. Keys are codes, or doubles in an order of integers. */
struct list {
    uint64_t keys[STORE_LIST_MAX];
    uint32_t count;
    uint64_t slot_keys[LIST_SLOTS];
    uint16_t slot_places[LIST_SLOTS]; /* + 1; 0: free */
};

/* Doubles as integers of the same order: negative ones are turned round. */
static uint64_t key_of_double(double value)
{
    double positive_zero = value + 0.0;
    uint64_t bits;
    memcpy(&bits, &positive_zero, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

static double double_of_key(uint64_t key)
{
    uint64_t bits = key >> 63 ? key ^ (uint64_t)1 << 63 : ~key;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static size_t list_slot(const struct list *list, uint64_t key)
{
    size_t at = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 50) % LIST_SLOTS;
    while (list->slot_places[at] && list->slot_keys[at] != key) {
        at = (at + 1) % LIST_SLOTS;
    }
    return at;
}

/* False when there would be more than MAX. */
static bool list_add(struct list *list, uint64_t key, uint32_t max)
{
    size_t at = list_slot(list, key);
    if (list->slot_places[at]) {
        return true;
    }
    if (list->count == max) {
        return false;
    }
    list->keys[list->count++] = key;
    list->slot_keys[at] = key;
    list->slot_places[at] = (uint16_t)list->count;
    return true;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void list_sort(struct list *list)
{
    qsort(list->keys, list->count, sizeof *list->keys, ascending);
    for (uint32_t i = 0; i < list->count; i++) {
        list->slot_places[list_slot(list, list->keys[i])] = (uint16_t)(i + 1);
    }
}

static uint32_t list_place(const struct list *list, uint64_t key)
{
    return (uint32_t)list->slot_places[list_slot(list, key)] - 1;
}

static void list_free(struct list *list)
{
    if (list) {
        crypto_wipe(list, sizeof *list);
        proto_free(list);
    }
}

/* --- the smallest of several ---------------------------------------------------------------- */

/* Codes of BITS, packed, with the spare bytes that unpacking reads. */
static enum err put_bits(const uint32_t *codes, size_t count, unsigned bits, struct buf *out)
{
    size_t size = store_pack_size(count, bits);
    enum err err = buf_reserve(out, size);
    if (!err) {
        store_pack(codes, count, bits, out->ptr + out->len);
        out->len += size;
    }
    return err;
}

static enum err put_count(uint32_t count, struct buf *out)
{
    uint8_t bytes[4];
    put_be32(bytes, count);
    return buf_put(out, span_of(bytes, sizeof bytes));
}

static bool saves(size_t size, size_t packed)
{
    return size < packed - packed / 8;
}

static size_t count_runs(const uint32_t *codes, size_t rows)
{
    size_t runs = 1;
    for (size_t i = 1; i < rows; i++) {
        runs += codes[i] != codes[i - 1];
    }
    return runs;
}

static size_t runs_size(size_t runs, unsigned bits)
{
    return 4 + runs * 2 + store_pack_size(runs, bits);
}

static enum err put_runs(const struct store_column_input *input, struct plan *plan,
                         const uint32_t *codes, size_t runs, struct buf *out)
{
    plan->encoding = STORE_ENCODING_RUNS;
    uint32_t *firsts = proto_alloc(runs, sizeof *firsts);
    enum err err = firsts ? put_head(input, plan, out) : E_NO_MEMORY;
    err = err ? err : put_count((uint32_t)runs, out);
    err = err ? err : buf_reserve(out, runs * 2);
    size_t run = 0;
    for (size_t i = 0; i < input->rows && !err; i++) {
        if (i + 1 == input->rows || codes[i + 1] != codes[i]) {
            firsts[run++] = codes[i];
            put_be16(out->ptr + out->len, (uint16_t)i);
            out->len += 2;
        }
    }
    err = err ? err : put_bits(firsts, runs, plan->bits, out);
    if (firsts) {
        crypto_wipe(firsts, runs * sizeof *firsts);
    }
    proto_free(firsts);
    return err;
}

/* LIST's keys fit the plan's bits; CODES are replaced by places. */
static enum err put_indexes(const struct store_column_input *input, struct plan *plan,
                            const struct list *list, uint32_t *codes, struct buf *out)
{
    plan->encoding = STORE_ENCODING_INDEXES;
    enum err err = put_head(input, plan, out);
    err = err ? err : put_count(list->count, out);
    uint32_t values[STORE_LIST_MAX];
    for (uint32_t i = 0; i < list->count; i++) {
        values[i] = (uint32_t)list->keys[i];
    }
    err = err ? err : put_bits(values, list->count, plan->bits, out);
    for (size_t i = 0; i < input->rows; i++) {
        codes[i] = list_place(list, codes[i]);
    }
    return err ? err : put_bits(codes, input->rows, store_bits_for(list->count - 1), out);
}

static size_t list_size(uint32_t count, size_t rows, unsigned value_bits)
{
    return 4 + store_pack_size(count, value_bits) +
           store_pack_size(rows, store_bits_for(count - 1));
}

/* The sorted list of CODES, if it saves room; NULL: it does not, or there is no memory for it. */
static struct list *worth_listing(const uint32_t *codes, size_t rows, unsigned bits)
{
    struct list *list = bits < 6 ? NULL : proto_alloc(1, sizeof *list);
    /* Places must be an eighth shorter than the codes: with more values than these the search may end. */
    unsigned place_bits = bits * 7 / 8;
    uint32_t max = place_bits < 12 ? 1U << place_bits : STORE_LIST_MAX;
    bool fits = list != NULL;
    for (size_t i = 0; i < rows && fits; i++) {
        fits = (i && codes[i] == codes[i - 1]) || list_add(list, codes[i], max);
    }
    if (!fits || !saves(list_size(list->count, rows, bits), store_pack_size(rows, bits))) {
        list_free(list);
        return NULL;
    }
    list_sort(list);
    return list;
}

/* CODES may be changed. */
static enum err put_packed(const struct store_column_input *input, struct plan *plan,
                           uint32_t *codes, struct buf *out)
{
    plan->encoding = plan->bits ? STORE_ENCODING_PACKED : STORE_ENCODING_CONSTANT;
    if (!plan->bits) {
        return put_head(input, plan, out);
    }
    size_t size = store_pack_size(input->rows, plan->bits);
    size_t runs = count_runs(codes, input->rows);
    struct list *list = worth_listing(codes, input->rows, plan->bits);
    size_t listed = list ? list_size(list->count, input->rows, plan->bits) : SIZE_MAX;
    enum err err;
    if (saves(runs_size(runs, plan->bits), size) && runs_size(runs, plan->bits) <= listed) {
        err = put_runs(input, plan, codes, runs, out);
    } else if (list) {
        err = put_indexes(input, plan, list, codes, out);
    } else {
        err = put_head(input, plan, out);
        err = err ? err : put_bits(codes, input->rows, plan->bits, out);
    }
    list_free(list);
    return err;
}

static enum err encode_codes(const struct store_column_input *input, struct plan *plan,
                             struct buf *out, struct store_zone *zone)
{
    uint32_t min = UINT32_MAX, max = 0;
    for (size_t i = 0; i < input->rows; i++) {
        if (!bit(input->null, i)) {
            min = input->codes[i] < min ? input->codes[i] : min;
            max = input->codes[i] > max ? input->codes[i] : max;
            zone->sum += input->codes[i];
        }
    }
    if (plan->nulls == input->rows) {
        return put_packed(input, plan, NULL, out);
    }
    zone->min = min;
    zone->max = max;
    /* A missing value is read as code 0, so with missing values the base stays 0. */
    uint32_t base = plan->nulls ? 0 : min;
    plan->bits = store_bits_for(max - base);
    if (plan->bits && base > UINT32_MAX - (uint32_t)(((uint64_t)1 << plan->bits) - 1)) {
        base = 0;
        plan->bits = store_bits_for(max);
    }
    plan->base = base;
    uint32_t *codes = proto_alloc(input->rows, sizeof *codes);
    if (!codes) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < input->rows; i++) {
        codes[i] = bit(input->null, i) ? 0 : input->codes[i] - base;
    }
    enum err err = put_packed(input, plan, codes, out);
    proto_free(codes);
    return err;
}

/* Whether every value is an integer over 10^scale, exactly, and what range those integers have. */
static bool scaled(const struct store_column_input *input, unsigned scale, int64_t *ret_min,
                   int64_t *ret_max)
{
    double power = store_powers[scale];
    double min = EXACT_MAX, max = -EXACT_MAX;
    for (size_t i = 0; i < input->rows; i++) {
        if (bit(input->null, i)) {
            continue;
        }
        double whole = rint(input->numbers[i] * power);
        if (!(fabs(whole) <= EXACT_MAX) || whole / power != input->numbers[i]) {
            return false;
        }
        min = whole < min ? whole : min;
        max = whole > max ? whole : max;
    }
    *ret_min = (int64_t)min;
    *ret_max = (int64_t)max;
    return max - min <= (double)UINT32_MAX;
}

/* Few distinct doubles, as of a measurement in odd units. *RET_DONE: they were, and stand in OUT. */
static enum err put_raw_list(const struct store_column_input *input, struct plan *plan,
                             struct buf *out, bool *ret_done)
{
    struct list *list = proto_alloc(1, sizeof *list);
    uint32_t *places = proto_alloc(input->rows, sizeof *places);
    bool fits = list && places;
    for (size_t i = 0; i < input->rows && fits; i++) {
        fits =
            bit(input->null, i) || list_add(list, key_of_double(input->numbers[i]), STORE_LIST_MAX);
    }
    *ret_done = fits && saves(list_size(list->count, input->rows, 64), input->rows * 8);
    enum err err = E_OK;
    if (*ret_done) {
        list_sort(list);
        plan->encoding = STORE_ENCODING_RAW_LIST;
        plan->bits = store_bits_for(list->count - 1);
        err = put_head(input, plan, out);
        err = err ? err : put_count(list->count, out);
        err = err ? err : buf_reserve(out, (size_t)list->count * 8);
        for (uint32_t i = 0; i < list->count && !err; i++) {
            double value = double_of_key(list->keys[i]);
            uint64_t raw;
            memcpy(&raw, &value, sizeof raw);
            put_le64(out->ptr + out->len, raw);
            out->len += 8;
        }
        for (size_t i = 0; i < input->rows; i++) {
            places[i] =
                bit(input->null, i) ? 0 : list_place(list, key_of_double(input->numbers[i]));
        }
        err = err ? err : put_bits(places, input->rows, plan->bits, out);
    }
    list_free(list);
    proto_free(places);
    return err;
}

static enum err put_raw(const struct store_column_input *input, struct plan *plan, struct buf *out)
{
    bool listed;
    enum err listing = put_raw_list(input, plan, out, &listed);
    if (listing || listed) {
        return listing;
    }
    plan->encoding = STORE_ENCODING_RAW;
    plan->bits = 64;
    enum err err = put_head(input, plan, out);
    err = err ? err : buf_reserve(out, input->rows * 8);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < input->rows; i++) {
        double value = bit(input->null, i) ? 0 : input->numbers[i];
        uint64_t raw;
        memcpy(&raw, &value, sizeof raw);
        put_le64(out->ptr + out->len + i * 8, raw);
    }
    out->len += input->rows * 8;
    return E_OK;
}

static void zone_of_numbers(const struct store_column_input *input, struct store_zone *zone)
{
    bool first = true;
    for (size_t i = 0; i < input->rows; i++) {
        if (!bit(input->null, i)) {
            double value = input->numbers[i];
            zone->min = first || value < zone->min ? value : zone->min;
            zone->max = first || value > zone->max ? value : zone->max;
            zone->sum += value;
            first = false;
        }
    }
}

static enum err encode_numbers(const struct store_column_input *input, struct plan *plan,
                               struct buf *out, struct store_zone *zone)
{
    if (plan->nulls == input->rows) {
        return put_packed(input, plan, NULL, out);
    }
    zone_of_numbers(input, zone);
    int64_t min = 0, max = 0;
    while (plan->scale <= STORE_SCALE_MAX && !scaled(input, plan->scale, &min, &max)) {
        plan->scale++;
    }
    if (plan->scale > STORE_SCALE_MAX) {
        plan->scale = 0;
        return put_raw(input, plan, out);
    }
    plan->base = min;
    plan->bits = store_bits_for((uint64_t)(max - min));
    uint32_t *codes = proto_alloc(input->rows, sizeof *codes);
    if (!codes) {
        return E_NO_MEMORY;
    }
    double power = store_powers[plan->scale];
    for (size_t i = 0; i < input->rows; i++) {
        codes[i] =
            bit(input->null, i) ? 0 : (uint32_t)((int64_t)rint(input->numbers[i] * power) - min);
    }
    enum err err = put_packed(input, plan, codes, out);
    proto_free(codes);
    return err;
}

static enum err encode_text(const struct store_column_input *input, struct plan *plan,
                            struct buf *out)
{
    plan->encoding = STORE_ENCODING_TEXT;
    enum err err = put_head(input, plan, out);
    err = err ? err : put_count((uint32_t)input->segment_count, out);
    for (size_t i = 0; i < input->segment_count && !err; i++) {
        err = put_count(input->segments[i], out);
    }
    return err;
}

/* Lengths (u32 little-endian) of all rows, then their bytes, through zstd. */
enum err store_segment_encode(const char *text, const uint32_t *text_start, size_t rows,
                              struct buf *out)
{
    size_t bytes = text_start[rows];
    size_t plain_size = rows * 4 + bytes;
    if (rows == 0 || rows > STORE_CHUNK_ROWS || plain_size > STORE_SEGMENT_TEXT_MAX) {
        return E_LIMIT;
    }
    uint8_t *plain = proto_alloc(plain_size, 1);
    if (!plain) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < rows; i++) {
        uint32_t len = text_start[i + 1] - text_start[i];
        for (unsigned j = 0; j < 4; j++) {
            plain[i * 4 + j] = (uint8_t)(len >> (8 * j));
        }
    }
    if (bytes) {
        memcpy(plain + rows * 4, text, bytes);
    }
    size_t bound = ZSTD_compressBound(plain_size);
    uint8_t *small = proto_alloc(8 + bound, 1);
    size_t packed = small ? ZSTD_compress(small + 8, bound, plain, plain_size, ZSTD_LEVEL) : 0;
    enum err err;
    if (!small || ZSTD_isError(packed)) {
        err = E_NO_MEMORY; /* with room for the bound zstd has no other cause */
    } else {
        put_be32(small, (uint32_t)plain_size);
        put_be32(small + 4, (uint32_t)packed);
        err = buf_put(out, span_of(small, 8 + packed));
    }
    proto_free(small);
    crypto_wipe(plain, plain_size);
    proto_free(plain);
    return err;
}

enum err store_column_encode(const struct store_column_input *input, struct buf *out,
                             struct store_zone *ret)
{
    if (input->rows == 0 || input->rows > STORE_CHUNK_ROWS) {
        return E_LIMIT;
    }
    struct plan plan = {.encoding = STORE_ENCODING_CONSTANT};
    for (size_t i = 0; input->null && i < input->rows; i++) {
        plan.nulls += bit(input->null, i);
    }
    struct store_zone zone = {.rows = (uint32_t)input->rows, .nulls = (uint32_t)plan.nulls};
    size_t start = out->len;
    enum err err;
    switch (input->form) {
    case STORE_FORM_CODE:
        err = encode_codes(input, &plan, out, &zone);
        break;
    case STORE_FORM_NUMBER:
        err = encode_numbers(input, &plan, out, &zone);
        break;
    case STORE_FORM_TEXT:
        err = encode_text(input, &plan, out);
        break;
    default:
        err = E_INTERNAL;
    }
    if (err) {
        out->len = start;
        return err;
    }
    zone.encoding = (uint8_t)plan.encoding;
    zone.bits = (uint8_t)plan.bits;
    *ret = zone;
    return E_OK;
}
