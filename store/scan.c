#include "config.h"
#include "store/scan.h"

#include "store/kernel.h"
#include "store/partition_file.h"

#include <math.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#define READ_MAX   (STORE_CHUNK_BYTES_MAX + 16384)
#define EQUALS_MAX 16 /* longer lists of numbers are searched row by row */

/* What the zone map says of a node in the chunk at hand. */
enum verdict {
    VERDICT_NONE,
    VERDICT_ALL,
    VERDICT_SOME,
};

/* A column that the scan may read. */
struct slot {
    int column;
    struct store_zones zones;
    struct store_chunk chunk;
    bool loaded; /* for the chunk at hand */
};

struct node {
    enum proto_op op;
    const struct proto_predicate *leaf;
    size_t slot;
    uint8_t *table; /* IN of codes: 1 for each code that is in the list */
    uint32_t table_size;
    uint32_t run_first; /* IN of codes that follow each other: no table is looked at */
    uint32_t run_last;
    struct node *left;
    struct node *right;
    enum verdict verdict;
    unsigned cost; /* bits a row that must still be read */
};

struct scan {
    struct store_partition *partition;
    struct arena arena;
    struct node *root; /* NULL: every row */
    struct slot *slots;
    size_t slot_count;
    MDB_txn *txn;
    struct crypto_opener *opener;
    struct buf plain;
    uint64_t *bitmaps; /* one for the result and two for each level */
    size_t levels;
    uint32_t *row_numbers; /* units, when each row is one */
    struct store_batch_column *out;
    uint32_t chunk;
    size_t rows;
    struct store_scan_stats stats;
    struct err_info *reterr;
};

/* --- bitmaps ------------------------------------------------------------------------------- */

static size_t words_of(size_t rows)
{
    return (rows + 63) / 64;
}

static void fill_ones(uint64_t *bits, size_t rows)
{
    size_t words = words_of(rows);
    memset(bits, 0xff, words * sizeof *bits);
    if (rows % 64) {
        bits[words - 1] = ((uint64_t)1 << rows % 64) - 1;
    }
}

STORE_KERNEL static size_t count_bits(const uint64_t *bits, size_t rows)
{
    size_t count = 0;
    for (size_t i = 0; i < words_of(rows); i++) {
        count += (size_t)__builtin_popcountll(bits[i]);
    }
    return count;
}

static bool any_bit(const uint64_t *bits, size_t rows)
{
    uint64_t any = 0;
    for (size_t i = 0; i < words_of(rows); i++) {
        any |= bits[i];
    }
    return any != 0;
}

/* --- kernels: one bit a row, for rows rounded up to 64 ----------------------------------------
 * Comparisons make a byte 0 or 1 a row, which vectorises; eight such bytes become eight bits by one
 * multiplication. */

static inline uint64_t gather_bits(const uint8_t flags[64])
{
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight;
        memcpy(&eight, flags + i * 8, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        word |= (eight * 0x0102040810204080u >> 56) << (i * 8);
    }
    return word;
}

/* first <= code <= first + width */
#ifdef __x86_64__
/* The sign bits of eight comparisons are one instruction, which no plain loop is turned into. */
__attribute__((target("avx2"))) static void
code_range_avx2(const uint32_t *code, size_t words, uint32_t first, uint32_t width, uint64_t *out)
{
    const __m256i low = _mm256_set1_epi32((int32_t)first);
    const __m256i most = _mm256_set1_epi32((int32_t)width);
    for (size_t w = 0; w < words; w++) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 64; i += 8) {
            __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)(code + w * 64 + i));
            __m256i above = _mm256_sub_epi32(at, low);
            __m256i inside = _mm256_cmpeq_epi32(_mm256_min_epu32(above, most), above);
            word |= (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(inside)) << i;
        }
        out[w] = word;
    }
}
#endif

STORE_KERNEL static void code_range_any(const uint32_t *restrict code, size_t words, uint32_t first,
                                        uint32_t width, uint64_t *restrict out)
{
    for (size_t w = 0; w < words; w++) {
        uint8_t flags[64];
        for (unsigned i = 0; i < 64; i++) {
            flags[i] = code[w * 64 + i] - first <= width;
        }
        out[w] = gather_bits(flags);
    }
}

static void code_range(const uint32_t *code, size_t words, uint32_t first, uint32_t width,
                       uint64_t *out)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        code_range_avx2(code, words, first, width, out);
        return;
    }
#endif
    code_range_any(code, words, first, width, out);
}

STORE_KERNEL static void number_range(const double *restrict number, size_t words, double low,
                                      double high, uint64_t *restrict out)
{
    for (size_t w = 0; w < words; w++) {
        uint8_t flags[64];
        for (unsigned i = 0; i < 64; i++) {
            flags[i] = (number[w * 64 + i] >= low) & (number[w * 64 + i] <= high);
        }
        out[w] = gather_bits(flags);
    }
}

static void code_table(const uint32_t *code, size_t words, const uint8_t *table, uint32_t size,
                       uint64_t *out)
{
    for (size_t w = 0; w < words; w++) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 64; i++) {
            uint32_t c = code[w * 64 + i];
            word |= (uint64_t)(c < size && table[c]) << i;
        }
        out[w] = word;
    }
}

/* --- numbers in code space ----------------------------------------------------------------- */

static double value_of(const struct store_chunk *chunk, uint64_t code)
{
    return (double)(chunk->base + (int64_t)code) / chunk->divisor;
}

/* The number of codes below 2^bits whose value is < LIMIT, or <= LIMIT with INCLUSIVE. Values grow
 * with codes, so this is a binary search, and it compares the very doubles that a row would show. */
static uint64_t codes_below(const struct store_chunk *chunk, double limit, bool inclusive)
{
    uint64_t low = 0;
    uint64_t high = (uint64_t)1 << chunk->bits;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        double value = value_of(chunk, middle);
        if (value < limit || (inclusive && value == limit)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Rows with low <= value <= high. */
static void closed_range(const struct store_chunk *chunk, size_t words, double low, double high,
                         uint64_t *out)
{
    if (chunk->number) {
        number_range(chunk->number, words, low, high, out);
        return;
    }
    uint64_t first = codes_below(chunk, low, false);
    uint64_t end = codes_below(chunk, high, true);
    if (first >= end) {
        memset(out, 0, words * sizeof *out);
    } else {
        code_range(chunk->code, words, (uint32_t)first, (uint32_t)(end - 1 - first), out);
    }
}

static bool in_list(const struct proto_predicate *leaf, double value)
{
    size_t low = 0;
    size_t high = leaf->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (leaf->numbers[middle] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < leaf->count && leaf->numbers[low] == value;
}

static void in_numbers(const struct proto_predicate *leaf, const struct store_chunk *chunk,
                       size_t words, uint64_t *out)
{
    memset(out, 0, words * sizeof *out);
    if (leaf->count <= EQUALS_MAX) {
        for (size_t i = 0; i < leaf->count; i++) {
            uint64_t one[STORE_CHUNK_WORDS];
            closed_range(chunk, words, leaf->numbers[i], leaf->numbers[i], one);
            for (size_t w = 0; w < words; w++) {
                out[w] |= one[w];
            }
        }
        return;
    }
    for (size_t row = 0; row < chunk->rows; row++) {
        out[row / 64] |= (uint64_t)in_list(leaf, store_column_number(chunk, row)) << row % 64;
    }
}

/* --- leaves -------------------------------------------------------------------------------- */

static void leaf_codes(const struct node *node, const struct store_chunk *chunk, size_t words,
                       uint64_t *out)
{
    if (node->run_first <= node->run_last) {
        code_range(chunk->code, words, node->run_first, node->run_last - node->run_first, out);
    } else {
        code_table(chunk->code, words, node->table, node->table_size, out);
    }
}

/* Without regard to missing values; *ret_invert: the bits mean the opposite. */
static void leaf_bits(const struct node *node, const struct store_chunk *chunk, size_t words,
                      uint64_t *out, bool *ret_invert)
{
    const struct proto_predicate *leaf = node->leaf;
    double c = leaf->count && leaf->numbers ? leaf->numbers[0] : 0;
    *ret_invert = node->op == PROTO_OP_NE || node->op == PROTO_OP_NOT_IN;
    switch (node->op) {
    case PROTO_OP_EQ:
    case PROTO_OP_NE:
        closed_range(chunk, words, c, c, out);
        break;
    case PROTO_OP_LT:
        closed_range(chunk, words, -INFINITY, nextafter(c, -INFINITY), out);
        break;
    case PROTO_OP_LE:
        closed_range(chunk, words, -INFINITY, c, out);
        break;
    case PROTO_OP_GT:
        closed_range(chunk, words, nextafter(c, INFINITY), INFINITY, out);
        break;
    case PROTO_OP_GE:
        closed_range(chunk, words, c, INFINITY, out);
        break;
    default: /* IN, NOT_IN */
        if (leaf->codes) {
            leaf_codes(node, chunk, words, out);
        } else {
            in_numbers(leaf, chunk, words, out);
        }
    }
}

/* OUT = rows of MASK for which the leaf is true. */
static void leaf_eval(const struct node *node, const struct store_chunk *chunk,
                      const uint64_t *mask, uint64_t *out)
{
    size_t words = words_of(chunk->rows);
    if (node->op == PROTO_OP_IS_NULL || node->op == PROTO_OP_IS_NOT_NULL) {
        bool wanted = node->op == PROTO_OP_IS_NULL;
        for (size_t w = 0; w < words; w++) {
            uint64_t null = chunk->null ? chunk->null[w] : 0;
            out[w] = mask[w] & (wanted ? null : ~null);
        }
        return;
    }
    uint64_t bits[STORE_CHUNK_WORDS];
    bool invert;
    leaf_bits(node, chunk, words, bits, &invert);
    uint64_t flip = invert ? UINT64_MAX : 0;
    for (size_t w = 0; w < words; w++) {
        out[w] = mask[w] & (bits[w] ^ flip) & (chunk->null ? ~chunk->null[w] : UINT64_MAX);
    }
}

/* --- zone maps ----------------------------------------------------------------------------- */

static enum verdict range_verdict(const struct store_zone *zone, double low, double high)
{
    if (high < zone->min || low > zone->max || low > high) {
        return VERDICT_NONE;
    }
    return low <= zone->min && zone->max <= high ? VERDICT_ALL : VERDICT_SOME;
}

static enum verdict list_verdict(const struct proto_predicate *leaf, const struct store_zone *zone)
{
    enum verdict verdict = VERDICT_NONE;
    for (size_t i = 0; i < leaf->count && verdict == VERDICT_NONE; i++) {
        verdict = range_verdict(zone, leaf->numbers[i], leaf->numbers[i]);
    }
    return verdict;
}

static enum verdict code_verdict(const struct node *node, const struct store_zones *zones,
                                 uint32_t chunk)
{
    const struct store_zone *zone = &zones->zones[chunk];
    uint32_t hits = 0;
    bool possible = false;
    for (size_t i = 0; i < node->leaf->count; i++) {
        uint32_t code = (uint32_t)node->leaf->codes[i];
        if (zones->histogram && code < zones->histogram_codes) {
            hits += zones->histogram[(size_t)chunk * zones->histogram_codes + code];
        }
        possible = possible || (code >= zone->min && code <= zone->max);
    }
    if (!possible || (zones->histogram && hits == 0)) {
        return VERDICT_NONE;
    }
    return zones->histogram && hits == zone->rows - zone->nulls ? VERDICT_ALL : VERDICT_SOME;
}

static enum verdict opposite(enum verdict verdict)
{
    return verdict == VERDICT_SOME ? VERDICT_SOME
                                   : (verdict == VERDICT_ALL ? VERDICT_NONE : VERDICT_ALL);
}

/* Of the rows that have a value. */
static enum verdict value_verdict(const struct node *node, const struct store_zones *zones,
                                  uint32_t chunk)
{
    const struct proto_predicate *leaf = node->leaf;
    const struct store_zone *zone = &zones->zones[chunk];
    double c = leaf->count && leaf->numbers ? leaf->numbers[0] : 0;
    switch (node->op) {
    case PROTO_OP_EQ:
        return range_verdict(zone, c, c);
    case PROTO_OP_NE:
        return opposite(range_verdict(zone, c, c));
    case PROTO_OP_LT:
        return range_verdict(zone, -INFINITY, nextafter(c, -INFINITY));
    case PROTO_OP_LE:
        return range_verdict(zone, -INFINITY, c);
    case PROTO_OP_GT:
        return range_verdict(zone, nextafter(c, INFINITY), INFINITY);
    case PROTO_OP_GE:
        return range_verdict(zone, c, INFINITY);
    case PROTO_OP_IN:
        return leaf->codes ? code_verdict(node, zones, chunk) : list_verdict(leaf, zone);
    default: /* NOT_IN */
        return opposite(leaf->codes ? code_verdict(node, zones, chunk) : list_verdict(leaf, zone));
    }
}

static enum verdict leaf_verdict(const struct node *node, const struct store_zones *zones,
                                 uint32_t chunk)
{
    const struct store_zone *zone = &zones->zones[chunk];
    bool none_missing = zone->nulls == 0;
    bool all_missing = zone->nulls == zone->rows;
    if (node->op == PROTO_OP_IS_NULL || node->op == PROTO_OP_IS_NOT_NULL) {
        enum verdict missing = none_missing  ? VERDICT_NONE
                               : all_missing ? VERDICT_ALL
                                             : VERDICT_SOME;
        return node->op == PROTO_OP_IS_NULL ? missing : opposite(missing);
    }
    if (all_missing) {
        return VERDICT_NONE;
    }
    enum verdict verdict = value_verdict(node, zones, chunk);
    return verdict == VERDICT_ALL && !none_missing ? VERDICT_SOME : verdict;
}

static enum verdict join(enum proto_op op, enum verdict a, enum verdict b)
{
    enum verdict decides = op == PROTO_OP_AND ? VERDICT_NONE : VERDICT_ALL;
    if (a == decides || b == decides) {
        return decides;
    }
    return a == VERDICT_SOME || b == VERDICT_SOME ? VERDICT_SOME : a;
}

/* Depth is limited when the tree is taken over, so recursion is bounded. */
static void judge(struct scan *scan, struct node *node)
{
    node->cost = 0;
    switch (node->op) {
    case PROTO_OP_TRUE:
        node->verdict = VERDICT_ALL;
        return;
    case PROTO_OP_FALSE:
        node->verdict = VERDICT_NONE;
        return;
    case PROTO_OP_AND:
    case PROTO_OP_OR:
        judge(scan, node->left);
        judge(scan, node->right);
        node->verdict = join(node->op, node->left->verdict, node->right->verdict);
        node->cost = node->left->cost + node->right->cost;
        return;
    default: {
        const struct slot *slot = &scan->slots[node->slot];
        node->verdict = leaf_verdict(node, &slot->zones, scan->chunk);
        if (node->verdict == VERDICT_SOME) {
            node->cost = slot->zones.zones[scan->chunk].bits + 1u;
        }
    }
    }
}

/* --- evaluation ---------------------------------------------------------------------------- */

static enum err load(struct scan *scan, struct slot *slot)
{
    if (slot->loaded) {
        return E_OK;
    }
    const struct store_partition *partition = scan->partition;
    const char *name = partition->schema.columns[slot->column].name;
    enum err err =
        store_partition_read(partition, scan->txn, scan->opener, STORE_PARTITION_CHUNK, name,
                             scan->chunk, (uint32_t)scan->rows, &scan->plain, scan->reterr);
    if (err) {
        return err;
    }
    err = store_column_decode(buf_span(&scan->plain), partition->columns[slot->column].form,
                              scan->rows, &slot->chunk);
    if (err) {
        return proto_err_set(scan->reterr, err, "dataset %s, file %s: column %s: %s",
                             partition->dataset, partition->file, name, proto_err_text(err));
    }
    slot->loaded = true;
    scan->stats.values_opened++;
    scan->stats.bytes_opened += scan->plain.len;
    return E_OK;
}

/* OUT = rows of MASK for which NODE is true. LEVEL has two bitmaps of its own. */
static enum err eval(struct scan *scan, const struct node *node, const uint64_t *mask,
                     uint64_t *out, size_t level)
{
    size_t words = words_of(scan->rows);
    if (node->verdict != VERDICT_SOME) {
        if (node->verdict == VERDICT_ALL) {
            memmove(out, mask, words * sizeof *out);
        } else {
            memset(out, 0, words * sizeof *out);
        }
        return E_OK;
    }
    if (node->leaf) {
        struct slot *slot = &scan->slots[node->slot];
        enum err err = load(scan, slot);
        if (!err) {
            leaf_eval(node, &slot->chunk, mask, out);
        }
        return err;
    }
    bool left_first = node->left->cost <= node->right->cost;
    const struct node *first = left_first ? node->left : node->right;
    const struct node *second = left_first ? node->right : node->left;
    uint64_t *a = scan->bitmaps + (1 + 2 * level) * STORE_CHUNK_WORDS;
    uint64_t *rest = a + STORE_CHUNK_WORDS;
    enum err err = eval(scan, first, mask, a, level + 1);
    if (err) {
        return err;
    }
    if (node->op == PROTO_OP_AND) {
        if (any_bit(a, scan->rows)) {
            return eval(scan, second, a, out, level + 1);
        }
        memset(out, 0, words * sizeof *out);
        return E_OK;
    }
    for (size_t w = 0; w < words; w++) {
        rest[w] = mask[w] & ~a[w];
    }
    if (!any_bit(rest, scan->rows)) {
        memcpy(out, a, words * sizeof *out);
        return E_OK;
    }
    err = eval(scan, second, rest, out, level + 1);
    for (size_t w = 0; w < words && !err; w++) {
        out[w] |= a[w];
    }
    return err;
}

/* --- taking the question over -------------------------------------------------------------- */

static enum err refuse(struct scan *scan, const char *what)
{
    return proto_err_set(scan->reterr, E_INVALID, "dataset %s: %s", scan->partition->dataset, what);
}

static enum err load_zones(struct scan *scan, struct slot *slot)
{
    const struct store_partition *partition = scan->partition;
    const char *name = partition->schema.columns[slot->column].name;
    uint32_t codes = 0;
    if (partition->columns[slot->column].form == STORE_FORM_CODE &&
        !partition->schema.columns[slot->column].values_private &&
        partition->columns[slot->column].value_count <= STORE_HISTOGRAM_MAX) {
        codes = partition->columns[slot->column].value_count;
    }
    slot->zones.zones = proto_alloc(partition->chunks + 1, sizeof *slot->zones.zones);
    slot->zones.histogram_codes = codes;
    if (codes) {
        slot->zones.histogram = proto_alloc((size_t)partition->chunks * codes, sizeof(uint32_t));
    }
    if (!slot->zones.zones || (codes && !slot->zones.histogram)) {
        return proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    }
    enum err err = E_OK;
    for (uint32_t first = 0; first < partition->chunks && !err; first += STORE_ZONE_CHUNKS) {
        uint32_t count = partition->chunks - first < STORE_ZONE_CHUNKS ? partition->chunks - first
                                                                       : STORE_ZONE_CHUNKS;
        err = store_partition_read(partition, scan->txn, scan->opener, STORE_PARTITION_ZONE, name,
                                   first / STORE_ZONE_CHUNKS, 0, &scan->plain, scan->reterr);
        err =
            err ? err
                : store_zones_take(buf_span(&scan->plain), count, codes, slot->zones.zones + first,
                                   codes ? slot->zones.histogram + (size_t)first * codes : NULL);
        if (err == E_CORRUPT) {
            err = proto_err_set(scan->reterr, err, "dataset %s, file %s: a zone map",
                                partition->dataset, partition->file);
        }
    }
    return err;
}

static enum err slot_for(struct scan *scan, int column, size_t *ret)
{
    if (column < 0 || (size_t)column >= scan->partition->schema.count) {
        return refuse(scan, "a column that it does not have");
    }
    for (size_t i = 0; i < scan->slot_count; i++) {
        if (scan->slots[i].column == column) {
            *ret = i;
            return E_OK;
        }
    }
    *ret = scan->slot_count++;
    scan->slots[*ret].column = column;
    return load_zones(scan, &scan->slots[*ret]);
}

/* Codes of an IN list as a run or a table. */
static enum err take_codes(struct scan *scan, struct node *node)
{
    const struct proto_predicate *leaf = node->leaf;
    uint32_t first = UINT32_MAX;
    uint32_t last = 0;
    for (size_t i = 0; i < leaf->count; i++) {
        if (leaf->codes[i] < 0 || leaf->codes[i] >= 1 << 20) {
            return refuse(scan, "a code that no column has");
        }
        first = (uint32_t)leaf->codes[i] < first ? (uint32_t)leaf->codes[i] : first;
        last = (uint32_t)leaf->codes[i] > last ? (uint32_t)leaf->codes[i] : last;
    }
    node->table_size = last + 1;
    node->table = arena_alloc(&scan->arena, node->table_size, 1);
    if (!node->table) {
        return proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    }
    uint32_t distinct = 0;
    for (size_t i = 0; i < leaf->count; i++) {
        distinct += !node->table[leaf->codes[i]];
        node->table[leaf->codes[i]] = 1;
    }
    bool run = distinct == last - first + 1;
    node->run_first = run ? first : 1;
    node->run_last = run ? last : 0;
    return E_OK;
}

static enum err take_leaf(struct scan *scan, const struct proto_predicate *from, struct node *node)
{
    node->leaf = from;
    enum err err = slot_for(scan, from->column, &node->slot);
    if (err) {
        return err;
    }
    enum store_form form = scan->partition->columns[from->column].form;
    bool list = from->op == PROTO_OP_IN || from->op == PROTO_OP_NOT_IN;
    if (from->op == PROTO_OP_IS_NULL || from->op == PROTO_OP_IS_NOT_NULL) {
        return E_OK;
    }
    if (list && from->codes && form == STORE_FORM_CODE && from->count) {
        return take_codes(scan, node);
    }
    bool compares = from->op == PROTO_OP_EQ || from->op == PROTO_OP_NE || from->op == PROTO_OP_LT ||
                    from->op == PROTO_OP_LE || from->op == PROTO_OP_GT || from->op == PROTO_OP_GE;
    bool enough = (compares && from->count >= 1) || (list && from->count);
    if (form != STORE_FORM_NUMBER || from->codes || !from->numbers || !enough) {
        return refuse(scan, "a condition that does not fit its column");
    }
    return E_OK;
}

static enum err take_tree(struct scan *scan, const struct proto_predicate *from, size_t depth,
                          struct node **ret)
{
    struct node *node = arena_alloc(&scan->arena, 1, sizeof *node);
    if (!node) {
        return proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    }
    if (!from || depth >= STORE_SCAN_DEPTH) {
        return refuse(scan, "a condition that is not complete or too deep");
    }
    node->op = from->op;
    *ret = node;
    switch (from->op) {
    case PROTO_OP_TRUE:
    case PROTO_OP_FALSE:
        return E_OK;
    case PROTO_OP_AND:
    case PROTO_OP_OR: {
        scan->levels = depth + 1 > scan->levels ? depth + 1 : scan->levels;
        enum err err = take_tree(scan, from->left, depth + 1, &node->left);
        return err ? err : take_tree(scan, from->right, depth + 1, &node->right);
    }
    case PROTO_OP_NOT:
    case PROTO_OP_COLUMN:
        return refuse(scan, "a condition that is not bound");
    default:
        return take_leaf(scan, from, node);
    }
}

/* --- the scan ------------------------------------------------------------------------------ */

static void show_column(const struct store_chunk *chunk, struct store_batch_column *to)
{
    *to = (struct store_batch_column){.code = chunk->code,
                                      .base = chunk->base,
                                      .divisor = chunk->divisor,
                                      .bits = chunk->bits,
                                      .number = chunk->number,
                                      .null = chunk->null,
                                      .text = chunk->text,
                                      .text_start = chunk->text_start};
}

struct question {
    const int *columns;
    size_t count;
    const struct proto_predicate *where;
    bool with_unit;
    bool (*cancelled)(void *);
    store_scan_fn *on_batch;
    void *user;
    size_t *slots; /* of the columns */
    size_t unit_slot;
};

static enum err units_of(struct scan *scan, const struct question *question, const uint32_t **ret)
{
    *ret = NULL;
    if (!question->with_unit) {
        return E_OK;
    }
    if (scan->partition->unit >= 0) {
        struct slot *slot = &scan->slots[question->unit_slot];
        enum err err = load(scan, slot);
        *ret = slot->chunk.code;
        return err;
    }
    uint32_t first = scan->chunk * STORE_CHUNK_ROWS;
    for (size_t i = 0; i < scan->rows; i++) {
        scan->row_numbers[i] = first + (uint32_t)i;
    }
    *ret = scan->row_numbers;
    return E_OK;
}

static enum err report(struct scan *scan, const struct question *question, size_t selected)
{
    enum err err = E_OK;
    for (size_t i = 0; i < question->count && !err; i++) {
        struct slot *slot = &scan->slots[question->slots[i]];
        err = load(scan, slot);
        if (!err) {
            show_column(&slot->chunk, &scan->out[i]);
        }
    }
    const uint32_t *unit = NULL;
    err = err ? err : units_of(scan, question, &unit);
    if (err) {
        return err;
    }
    struct store_batch batch = {.rows = scan->rows,
                                .first_row = (uint64_t)scan->chunk * STORE_CHUNK_ROWS,
                                .selected = scan->bitmaps,
                                .selected_count = selected,
                                .columns = scan->out,
                                .unit = unit};
    return question->on_batch(question->user, &batch);
}

static enum err scan_chunk(struct scan *scan, const struct question *question)
{
    scan->rows = store_partition_chunk_rows(scan->partition, scan->chunk);
    scan->stats.chunks++;
    for (size_t i = 0; i < scan->slot_count; i++) {
        scan->slots[i].loaded = false;
        if (scan->slots[i].zones.zones[scan->chunk].rows != scan->rows) {
            return proto_err_set(scan->reterr, E_CORRUPT, "dataset %s, file %s: a zone map",
                                 scan->partition->dataset, scan->partition->file);
        }
    }
    uint64_t *selected = scan->bitmaps;
    fill_ones(selected, scan->rows);
    if (scan->root) {
        judge(scan, scan->root);
        if (scan->root->verdict == VERDICT_NONE) {
            scan->stats.chunks_skipped++;
            return E_OK;
        }
        enum err err = eval(scan, scan->root, selected, selected, 0);
        if (err) {
            return err;
        }
    }
    size_t count = scan->root ? count_bits(selected, scan->rows) : scan->rows;
    return count ? report(scan, question, count) : E_OK;
}

static enum err prepare(struct scan *scan, struct question *question)
{
    const struct store_partition *partition = scan->partition;
    size_t schema_columns = partition->schema.count;
    if (question->count > STORE_SCAN_COLUMNS) {
        return refuse(scan, "too many columns at once");
    }
    scan->slots = arena_alloc(&scan->arena, schema_columns + 1, sizeof *scan->slots);
    scan->out = arena_alloc(&scan->arena, question->count + 1, sizeof *scan->out);
    question->slots = arena_alloc(&scan->arena, question->count + 1, sizeof *question->slots);
    if (!scan->slots || !scan->out || !question->slots) {
        return proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    }
    int rc = mdb_txn_begin(store_env_mdb(partition->env), NULL, MDB_RDONLY, &scan->txn);
    enum err err = rc ? store_env_error(rc, partition->file, scan->reterr) : E_OK;
    if (!err) {
        err = crypto_opener_new(partition->dek, store_partition_context(), &scan->opener);
        err = err ? proto_err_set(scan->reterr, err, "scanning") : E_OK;
    }
    for (size_t i = 0; i < question->count && !err; i++) {
        err = slot_for(scan, question->columns[i], &question->slots[i]);
    }
    if (!err && question->with_unit && partition->unit >= 0) {
        err = slot_for(scan, partition->unit, &question->unit_slot);
    }
    if (!err && question->where) {
        err = take_tree(scan, question->where, 0, &scan->root);
    }
    if (err) {
        return err;
    }
    size_t words = (1 + 2 * scan->levels) * STORE_CHUNK_WORDS;
    scan->bitmaps = proto_alloc(words, sizeof *scan->bitmaps);
    scan->row_numbers = proto_alloc(STORE_CHUNK_ROWS, sizeof *scan->row_numbers);
    return scan->bitmaps && scan->row_numbers
               ? E_OK
               : proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
}

static void finish(struct scan *scan)
{
    for (size_t i = 0; i < scan->slot_count; i++) {
        store_chunk_fini(&scan->slots[i].chunk);
        proto_free(scan->slots[i].zones.zones);
        proto_free(scan->slots[i].zones.histogram);
    }
    if (scan->plain.ptr) {
        crypto_wipe(scan->plain.ptr, scan->plain.cap);
    }
    if (scan->bitmaps) {
        crypto_wipe(scan->bitmaps,
                    (1 + 2 * scan->levels) * STORE_CHUNK_WORDS * sizeof *scan->bitmaps);
    }
    buf_fini(&scan->plain);
    proto_free(scan->bitmaps);
    proto_free(scan->row_numbers);
    crypto_opener_free(scan->opener);
    if (scan->txn) {
        mdb_txn_abort(scan->txn);
    }
    arena_fini(&scan->arena);
}

enum err store_scan_with(struct store_partition *partition, const int *columns, size_t count,
                         const struct proto_predicate *where, bool with_unit,
                         bool (*cancelled)(void *user), store_scan_fn *on_batch, void *user,
                         struct store_scan_stats *stats, struct err_info *reterr)
{
    struct scan scan = {.partition = partition, .plain = {.max = READ_MAX}, .reterr = reterr};
    struct question question = {.columns = columns,
                                .count = count,
                                .where = where,
                                .with_unit = with_unit,
                                .cancelled = cancelled,
                                .on_batch = on_batch,
                                .user = user};
    enum err err = prepare(&scan, &question);
    for (; !err && scan.chunk < partition->chunks; scan.chunk++) {
        if (cancelled && cancelled(user)) {
            err = proto_err_set(reterr, E_CANCELLED, "the scan was cancelled");
        } else {
            err = scan_chunk(&scan, &question);
        }
    }
    if (stats) {
        *stats = scan.stats;
    }
    finish(&scan);
    return err;
}

enum err store_scan(struct store_partition *partition, const int *columns, size_t count,
                    const struct proto_predicate *where, bool (*cancelled)(void *user),
                    store_scan_fn *on_batch, void *user, struct err_info *reterr)
{
    return store_scan_with(partition, columns, count, where, true, cancelled, on_batch, user, NULL,
                           reterr);
}
