#include "config.h"
#include "store/column.h"

#include "crypto/memory.h"
#include "store/kernel.h"

#include <math.h>
#include <stdlib.h>
#include <zstd.h>

#define CHUNK_VERSION 1 /* of the first four encodings */
#define LIST_VERSION  2 /* of the others, which came later */
#define HEADER        24
#define PADDING_MAX   8192               /* what the sealer may add behind a chunk */
#define SPARE         8                  /* readable bytes behind packed codes */
#define EXACT_MAX     9007199254740992.0 /* 2^53 */
#define BASE_MAX      ((int64_t)1 << 53)
#define ZSTD_LEVEL    3

enum {
    FLAG_NULLS = 1
};

static const double powers[STORE_SCALE_MAX + 1] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};

/* Everything that decoding fills; sizes are for a full chunk, so that there is one allocation. */
struct buffers {
    _Alignas(64) uint32_t code[STORE_CHUNK_ROWS];
    _Alignas(64) double number[STORE_CHUNK_ROWS];
    uint64_t null[STORE_CHUNK_WORDS];
    uint32_t text_start[STORE_CHUNK_ROWS + 1];
    uint8_t *text; /* lengths, then bytes */
    size_t text_cap;
    void *block; /* what proto_alloc gave; the rest of the struct is aligned inside it */
};

static void put_le64(uint8_t *to, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

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

static bool bit(const uint64_t *bitmap, size_t i)
{
    return bitmap && (bitmap[i / 64] >> (i % 64) & 1);
}

static size_t words(size_t rows)
{
    return (rows + 63) / 64;
}

/* --- bit packing --------------------------------------------------------------------------- */

size_t store_column_packed_size(size_t count, unsigned bits)
{
    return (count * bits + 7) / 8 + SPARE;
}

/* TO is zeroed and has store_column_packed_size bytes. */
static void pack(const uint32_t *codes, size_t count, unsigned bits, uint8_t *to)
{
    uint64_t acc = 0;
    unsigned filled = 0;
    for (size_t i = 0; i < count; i++) {
        acc |= (uint64_t)codes[i] << filled;
        filled += bits;
        while (filled >= 8) {
            *to++ = (uint8_t)acc;
            acc >>= 8;
            filled -= 8;
        }
    }
    if (filled) {
        *to = (uint8_t)acc;
    }
}

/* Eight codes take exactly BITS bytes, so each group starts on a byte. One unaligned 64-bit
 * load serves four codes up to 15 or 16 bits and two codes up to 30; other widths load one for each. With BITS known at compile time the shifts are constant vectors. */
typedef uint64_t quad __attribute__((vector_size(32)));
typedef uint32_t quad32 __attribute__((vector_size(16)));

static inline __attribute__((always_inline)) void
put_quad(const quad *words, const quad *shifts, uint64_t mask, uint32_t add, uint32_t *to)
{
    quad32 codes = __builtin_convertvector(*words >> *shifts & mask, quad32) + add;
    memcpy(to, &codes, sizeof codes);
}

/* Codes AT to AT + 3 of a group. */
static inline __attribute__((always_inline)) void
unpack_quad(const uint8_t *p, unsigned at, unsigned bits, uint64_t mask, uint32_t add, uint32_t *to)
{
    const unsigned from[4] = {at * bits, (at + 1) * bits, (at + 2) * bits, (at + 3) * bits};
    const unsigned near = from[0] & 7;
    const unsigned middle = from[2] & 7;
    if (near + 4 * bits <= 64) {
        uint64_t word = get_le64(p + (from[0] >> 3));
        put_quad(&(quad){word, word, word, word},
                 &(quad){near, near + bits, near + 2 * bits, near + 3 * bits}, mask, add, to);
    } else if (near + 2 * bits <= 64 && middle + 2 * bits <= 64) {
        uint64_t low = get_le64(p + (from[0] >> 3));
        uint64_t high = get_le64(p + (from[2] >> 3));
        put_quad(&(quad){low, low, high, high}, &(quad){near, near + bits, middle, middle + bits},
                 mask, add, to);
    } else {
        for (unsigned j = 0; j < 4; j++) {
            to[j] = add + (uint32_t)(get_le64(p + (from[j] >> 3)) >> (from[j] & 7) & mask);
        }
    }
}

static inline __attribute__((always_inline)) void unpack_bits(const uint8_t *restrict p,
                                                              uint32_t *restrict to, size_t count,
                                                              unsigned bits, uint32_t add)
{
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    size_t i = 0;
    for (; i + 8 <= count; i += 8, p += bits) {
        unpack_quad(p, 0, bits, mask, add, to + i);
        unpack_quad(p, 4, bits, mask, add, to + i + 4);
    }
    for (unsigned j = 0; i < count; i++, j++) {
        to[i] = add + (uint32_t)(get_le64(p + (j * bits >> 3)) >> (j * bits & 7) & mask);
    }
}

STORE_KERNEL void store_column_unpack(const uint8_t *bytes, uint32_t *to, size_t count,
                                      unsigned bits, uint32_t add)
{
    switch (bits) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        unpack_bits(bytes, to, count, n, add);                                                     \
        break;
#define CASES(n) CASE(n) CASE(n + 1) CASE(n + 2) CASE(n + 3)
        CASES(1)
        CASES(5)
        CASES(9)
        CASES(13)
        CASES(17)
        CASES(21)
        CASES(25)
        CASES(29)
#undef CASES
#undef CASE
            default : for (size_t i = 0; i < count; i++)
        {
            to[i] = add;
        }
    }
}

/* --- encoding ------------------------------------------------------------------------------ */

struct plan {
    enum store_encoding encoding;
    unsigned bits;
    unsigned scale;
    int64_t base;
    size_t nulls;
};

static uint8_t version_of(enum store_encoding encoding)
{
    return encoding > STORE_ENCODING_TEXT ? LIST_VERSION : CHUNK_VERSION;
}

static void put_header(uint8_t to[HEADER], const struct store_column_input *input,
                       const struct plan *plan)
{
    memset(to, 0, HEADER);
    to[0] = version_of(plan->encoding);
    to[1] = (uint8_t)input->form;
    to[2] = (uint8_t)plan->encoding;
    to[3] = (uint8_t)plan->bits;
    to[4] = (uint8_t)plan->scale;
    to[5] = plan->nulls && plan->nulls < input->rows ? FLAG_NULLS : 0;
    put_be32(to + 8, (uint32_t)input->rows);
    put_be32(to + 12, (uint32_t)plan->nulls);
    put_be64(to + 16, (uint64_t)plan->base);
}

static enum err put_head(const struct store_column_input *input, const struct plan *plan,
                         struct buf *out)
{
    uint8_t header[HEADER];
    put_header(header, input, plan);
    enum err err = buf_put(out, span_of(header, sizeof header));
    if (err || !header[5]) {
        return err;
    }
    for (size_t i = 0; i < words(input->rows) && !err; i++) {
        uint8_t word[8];
        put_le64(word, input->null[i]);
        err = buf_put(out, span_of(word, sizeof word));
    }
    return err;
}

static unsigned bits_for(uint64_t range)
{
    return range ? 64 - (unsigned)__builtin_clzll(range) : 0;
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
    size_t size = store_column_packed_size(count, bits);
    enum err err = buf_reserve(out, size);
    if (!err) {
        memset(out->ptr + out->len, 0, size);
        pack(codes, count, bits, out->ptr + out->len);
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
    return 4 + runs * 2 + store_column_packed_size(runs, bits);
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
    return err ? err : put_bits(codes, input->rows, bits_for(list->count - 1), out);
}

static size_t list_size(uint32_t count, size_t rows, unsigned value_bits)
{
    return 4 + store_column_packed_size(count, value_bits) +
           store_column_packed_size(rows, bits_for(count - 1));
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
    if (!fits || !saves(list_size(list->count, rows, bits), store_column_packed_size(rows, bits))) {
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
    size_t size = store_column_packed_size(input->rows, plan->bits);
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
    plan->bits = bits_for(max - base);
    if (plan->bits && base > UINT32_MAX - (uint32_t)(((uint64_t)1 << plan->bits) - 1)) {
        base = 0;
        plan->bits = bits_for(max);
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
    double power = powers[scale];
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
        plan->bits = bits_for(list->count - 1);
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
    plan->bits = bits_for((uint64_t)(max - min));
    uint32_t *codes = proto_alloc(input->rows, sizeof *codes);
    if (!codes) {
        return E_NO_MEMORY;
    }
    double power = powers[plan->scale];
    for (size_t i = 0; i < input->rows; i++) {
        codes[i] =
            bit(input->null, i) ? 0 : (uint32_t)((int64_t)rint(input->numbers[i] * power) - min);
    }
    enum err err = put_packed(input, plan, codes, out);
    proto_free(codes);
    return err;
}

/* Lengths (u32 little-endian) of all rows, then their bytes, through zstd. */
static enum err encode_text(const struct store_column_input *input, struct plan *plan,
                            struct buf *out)
{
    size_t bytes = input->text_start[input->rows];
    size_t plain_size = input->rows * 4 + bytes;
    if (plain_size > STORE_CHUNK_TEXT_MAX) {
        return E_LIMIT;
    }
    plan->encoding = STORE_ENCODING_TEXT;
    enum err err = put_head(input, plan, out);
    if (err) {
        return err;
    }
    uint8_t *plain = proto_alloc(plain_size, 1);
    if (!plain) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < input->rows; i++) {
        uint32_t len = input->text_start[i + 1] - input->text_start[i];
        for (unsigned j = 0; j < 4; j++) {
            plain[i * 4 + j] = (uint8_t)(len >> (8 * j));
        }
    }
    if (bytes) {
        memcpy(plain + input->rows * 4, input->text, bytes);
    }
    size_t bound = ZSTD_compressBound(plain_size);
    uint8_t *small = proto_alloc(8 + bound, 1);
    size_t packed = small ? ZSTD_compress(small + 8, bound, plain, plain_size, ZSTD_LEVEL) : 0;
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

/* --- decoding ------------------------------------------------------------------------------ */

static struct buffers *chunk_buffers(struct store_chunk *chunk)
{
    if (!chunk->buffers) {
        void *block = proto_alloc(1, sizeof(struct buffers) + 64);
        if (!block) {
            return NULL;
        }
        struct buffers *buffers = (struct buffers *)(((uintptr_t)block + 63) & ~(uintptr_t)63);
        buffers->block = block;
        chunk->buffers = buffers;
    }
    return chunk->buffers;
}

void store_chunk_fini(struct store_chunk *chunk)
{
    struct buffers *buffers = chunk->buffers;
    if (buffers) {
        void *block = buffers->block;
        if (buffers->text) {
            crypto_wipe(buffers->text, buffers->text_cap);
            proto_free(buffers->text);
        }
        crypto_wipe(buffers, sizeof *buffers);
        proto_free(block);
    }
    memset(chunk, 0, sizeof *chunk);
}

/* Takes the null bitmap off BYTES; its bits must add up to the header's number. */
static bool take_nulls(struct span *bytes, struct store_chunk *chunk, struct buffers *buffers,
                       uint8_t flags)
{
    chunk->null = NULL;
    if (chunk->nulls == 0) {
        return !flags;
    }
    size_t count = words(chunk->rows);
    chunk->null = buffers->null;
    uint64_t last = chunk->rows % 64 ? ((uint64_t)1 << chunk->rows % 64) - 1 : UINT64_MAX;
    if (chunk->nulls == chunk->rows) {
        memset(buffers->null, 0xff, count * 8);
        buffers->null[count - 1] = last;
        return !flags;
    }
    if (!flags || bytes->len < count * 8) {
        return false;
    }
    size_t nulls = 0;
    for (size_t i = 0; i < count; i++) {
        buffers->null[i] = get_le64(bytes->ptr + i * 8);
        nulls += (size_t)__builtin_popcountll(buffers->null[i]);
    }
    *bytes = span_of(bytes->ptr + count * 8, bytes->len - count * 8);
    return nulls == chunk->nulls && !(buffers->null[count - 1] & ~last);
}

static bool padded(struct span bytes, size_t used)
{
    return bytes.len >= used && bytes.len - used <= PADDING_MAX;
}

static void pad_codes(struct buffers *buffers, size_t rows)
{
    memset(buffers->code + rows, 0, (words(rows) * 64 - rows) * sizeof *buffers->code);
}

static bool decode_codes(struct span bytes, struct store_chunk *chunk, struct buffers *buffers)
{
    bool constant = chunk->encoding == STORE_ENCODING_CONSTANT;
    size_t size = constant ? 0 : store_column_packed_size(chunk->rows, chunk->bits);
    if (constant != (chunk->bits == 0) || chunk->bits > 32 || !padded(bytes, size)) {
        return false;
    }
    uint32_t add = 0;
    if (chunk->form == STORE_FORM_CODE) {
        uint64_t top = ((uint64_t)1 << chunk->bits) - 1;
        if (chunk->base < 0 || (uint64_t)chunk->base > UINT32_MAX - top ||
            (chunk->nulls && chunk->base)) {
            return false;
        }
        add = (uint32_t)chunk->base;
        chunk->base = 0;
    } else if (chunk->base < -BASE_MAX || chunk->base > BASE_MAX) {
        return false;
    }
    store_column_unpack(bytes.ptr, buffers->code, chunk->rows, chunk->bits, add);
    pad_codes(buffers, chunk->rows);
    if (add) {
        chunk->bits = 64 - (unsigned)__builtin_clzll(add + (((uint64_t)1 << chunk->bits) - 1));
    }
    chunk->code = buffers->code;
    return true;
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

/* What both have in common with packed codes: base and width. Sets *RET_ADD, which each code gets. */
static bool check_base(struct store_chunk *chunk, uint32_t *ret_add)
{
    *ret_add = 0;
    if (chunk->bits < 1 || chunk->bits > 32) {
        return false;
    }
    if (chunk->form == STORE_FORM_NUMBER) {
        return chunk->base >= -BASE_MAX && chunk->base <= BASE_MAX;
    }
    uint64_t top = ((uint64_t)1 << chunk->bits) - 1;
    if (chunk->form != STORE_FORM_CODE || chunk->base < 0 ||
        (uint64_t)chunk->base > UINT32_MAX - top || (chunk->nulls && chunk->base)) {
        return false;
    }
    *ret_add = (uint32_t)chunk->base;
    chunk->base = 0;
    return true;
}

static void widen(struct store_chunk *chunk, uint32_t add)
{
    if (add) {
        chunk->bits = 64 - (unsigned)__builtin_clzll(add + (((uint64_t)1 << chunk->bits) - 1));
    }
}

static bool decode_runs(struct span bytes, struct store_chunk *chunk, struct buffers *buffers)
{
    uint32_t add;
    uint32_t runs = take_count(&bytes, (uint32_t)chunk->rows);
    if (!runs || !check_base(chunk, &add) || bytes.len < (size_t)runs * 2) {
        return false;
    }
    const uint8_t *ends = bytes.ptr;
    bytes = span_of(ends + (size_t)runs * 2, bytes.len - (size_t)runs * 2);
    if (!padded(bytes, store_column_packed_size(runs, chunk->bits))) {
        return false;
    }
    /* The runs' codes wait where raw numbers would stand, which has room for twice as many. */
    uint32_t *codes = (uint32_t *)(void *)buffers->number;
    store_column_unpack(bytes.ptr, codes, runs, chunk->bits, add);
    size_t row = 0;
    for (uint32_t run = 0; run < runs; run++) {
        size_t end = (size_t)get_be16(ends + (size_t)run * 2) + 1;
        if (end <= row || end > chunk->rows) {
            return false;
        }
        for (; row < end; row++) {
            buffers->code[row] = codes[run];
        }
    }
    pad_codes(buffers, chunk->rows);
    widen(chunk, add);
    chunk->code = buffers->code;
    return row == chunk->rows;
}

STORE_KERNEL static void replace_places(uint32_t *restrict places, size_t rows,
                                        const uint32_t *restrict values)
{
    for (size_t i = 0; i < rows; i++) {
        places[i] = values[places[i]];
    }
}

static bool decode_indexes(struct span bytes, struct store_chunk *chunk, struct buffers *buffers)
{
    uint32_t add;
    uint32_t count = take_count(&bytes, STORE_LIST_MAX);
    if (!count || !check_base(chunk, &add)) {
        return false;
    }
    unsigned place_bits = bits_for(count - 1);
    size_t first = store_column_packed_size(count, chunk->bits);
    if (bytes.len < first || !padded(span_of(bytes.ptr + first, bytes.len - first),
                                     store_column_packed_size(chunk->rows, place_bits))) {
        return false;
    }
    /* Places behind the list's end show zero, rather than being looked for one by one. */
    uint32_t values[STORE_LIST_MAX] = {0};
    store_column_unpack(bytes.ptr, values, count, chunk->bits, add);
    for (uint32_t i = 1; i < count; i++) {
        if (values[i] <= values[i - 1]) {
            return false;
        }
    }
    store_column_unpack(bytes.ptr + first, buffers->code, chunk->rows, place_bits, 0);
    replace_places(buffers->code, chunk->rows, values);
    crypto_wipe(values, sizeof values);
    pad_codes(buffers, chunk->rows);
    widen(chunk, add);
    chunk->code = buffers->code;
    return true;
}

static bool decode_raw_list(struct span bytes, struct store_chunk *chunk, struct buffers *buffers)
{
    uint32_t count = take_count(&bytes, STORE_LIST_MAX);
    if (chunk->form != STORE_FORM_NUMBER || !count || chunk->bits != bits_for(count - 1) ||
        bytes.len < (size_t)count * 8) {
        return false;
    }
    double values[STORE_LIST_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t raw = get_le64(bytes.ptr + (size_t)i * 8);
        memcpy(&values[i], &raw, sizeof raw);
        if (!isfinite(values[i]) || (i && values[i] <= values[i - 1])) {
            return false;
        }
    }
    bytes = span_of(bytes.ptr + (size_t)count * 8, bytes.len - (size_t)count * 8);
    if (!padded(bytes, store_column_packed_size(chunk->rows, chunk->bits))) {
        return false;
    }
    store_column_unpack(bytes.ptr, buffers->code, chunk->rows, chunk->bits, 0);
    for (size_t i = 0; i < chunk->rows; i++) {
        buffers->number[i] = bit(chunk->null, i) ? 0 : values[buffers->code[i]];
    }
    crypto_wipe(values, sizeof values);
    memset(buffers->number + chunk->rows, 0,
           (words(chunk->rows) * 64 - chunk->rows) * sizeof *buffers->number);
    chunk->number = buffers->number;
    chunk->bits = 64;
    return true;
}

static bool decode_raw(struct span bytes, struct store_chunk *chunk, struct buffers *buffers)
{
    if (chunk->form != STORE_FORM_NUMBER || chunk->bits != 64 || !padded(bytes, chunk->rows * 8)) {
        return false;
    }
    double finite = 0;
    for (size_t i = 0; i < chunk->rows; i++) {
        uint64_t raw = get_le64(bytes.ptr + i * 8);
        memcpy(&buffers->number[i], &raw, sizeof raw);
        finite += buffers->number[i] * 0; /* NaN as soon as one is not finite */
    }
    memset(buffers->number + chunk->rows, 0,
           (words(chunk->rows) * 64 - chunk->rows) * sizeof *buffers->number);
    chunk->number = buffers->number;
    return finite == 0;
}

static enum err grow_text(struct buffers *buffers, size_t size)
{
    if (buffers->text_cap >= size) {
        return E_OK;
    }
    uint8_t *grown = proto_alloc(size, 1);
    if (!grown) {
        return E_NO_MEMORY;
    }
    if (buffers->text) {
        crypto_wipe(buffers->text, buffers->text_cap);
        proto_free(buffers->text);
    }
    buffers->text = grown;
    buffers->text_cap = size;
    return E_OK;
}

static enum err decode_text(struct span bytes, struct store_chunk *chunk, struct buffers *buffers)
{
    if (chunk->form != STORE_FORM_TEXT || chunk->bits || bytes.len < 8) {
        return E_CORRUPT;
    }
    size_t plain_size = get_be32(bytes.ptr);
    size_t packed = get_be32(bytes.ptr + 4);
    if (plain_size > STORE_CHUNK_TEXT_MAX || plain_size < chunk->rows * 4 ||
        packed > bytes.len - 8 || !padded(bytes, 8 + packed)) {
        return E_CORRUPT;
    }
    enum err err = grow_text(buffers, plain_size);
    if (err) {
        return err;
    }
    size_t got = ZSTD_decompress(buffers->text, plain_size, bytes.ptr + 8, packed);
    if (ZSTD_isError(got) || got != plain_size) {
        return E_CORRUPT;
    }
    size_t room = plain_size - chunk->rows * 4;
    size_t at = 0;
    for (size_t i = 0; i < chunk->rows; i++) {
        buffers->text_start[i] = (uint32_t)at;
        size_t len = get_le32(buffers->text + i * 4);
        if (len > room - at) {
            return E_CORRUPT;
        }
        at += len;
    }
    buffers->text_start[chunk->rows] = (uint32_t)at;
    chunk->text = (const char *)buffers->text + chunk->rows * 4;
    chunk->text_start = buffers->text_start;
    return at == room ? E_OK : E_CORRUPT;
}

enum err store_column_decode(struct span bytes, enum store_form form, size_t rows,
                             struct store_chunk *chunk)
{
    struct buffers *buffers = chunk_buffers(chunk);
    if (!buffers) {
        return E_NO_MEMORY;
    }
    if (bytes.len < HEADER || rows == 0 || rows > STORE_CHUNK_ROWS) {
        return E_CORRUPT;
    }
    const uint8_t *p = bytes.ptr;
    if (p[2] >= STORE_ENCODING_COUNT || p[0] != version_of(p[2]) || p[1] != (uint8_t)form ||
        p[4] > STORE_SCALE_MAX || p[5] > FLAG_NULLS || get_be16(p + 6) || get_be32(p + 8) != rows ||
        get_be32(p + 12) > rows) {
        return E_CORRUPT;
    }
    *chunk = (struct store_chunk){.form = form,
                                  .encoding = p[2],
                                  .rows = rows,
                                  .nulls = get_be32(p + 12),
                                  .bits = p[3],
                                  .base = (int64_t)get_be64(p + 16),
                                  .divisor = powers[p[4]],
                                  .buffers = buffers};
    struct span rest = span_of(p + HEADER, bytes.len - HEADER);
    if ((p[4] && form != STORE_FORM_NUMBER) || !take_nulls(&rest, chunk, buffers, p[5])) {
        return E_CORRUPT;
    }
    switch (chunk->encoding) {
    case STORE_ENCODING_RAW:
        return decode_raw(rest, chunk, buffers) ? E_OK : E_CORRUPT;
    case STORE_ENCODING_TEXT:
        return decode_text(rest, chunk, buffers);
    case STORE_ENCODING_RUNS:
        return decode_runs(rest, chunk, buffers) ? E_OK : E_CORRUPT;
    case STORE_ENCODING_INDEXES:
        return decode_indexes(rest, chunk, buffers) ? E_OK : E_CORRUPT;
    case STORE_ENCODING_RAW_LIST:
        return decode_raw_list(rest, chunk, buffers) ? E_OK : E_CORRUPT;
    default:
        return form != STORE_FORM_TEXT && decode_codes(rest, chunk, buffers) ? E_OK : E_CORRUPT;
    }
}

double store_column_number(const struct store_chunk *chunk, size_t row)
{
    return chunk->number ? chunk->number[row]
                         : (double)(chunk->base + chunk->code[row]) / chunk->divisor;
}
