#include "config.h"
#include "store/scan_file.h"

#include "store/kernel.h"
#include "store/pack.h"

#include <math.h>

#define EQUALS_MAX 16 /* longer lists of numbers are searched row by row */

/* What the zone map says of a node in the chunk at hand. */
enum verdict {
    VERDICT_NONE,
    VERDICT_ALL,
    VERDICT_SOME,
};

struct store_filter_node {
    enum proto_op op;
    const struct proto_predicate *leaf;
    struct store_slot *slot;
    uint8_t *table; /* IN of codes: 1 for each code that is in the list */
    uint32_t table_size;
    uint32_t run_first; /* IN of codes that follow each other: no table is looked at */
    uint32_t run_last;
    struct store_filter_node *left;
    struct store_filter_node *right;
    enum verdict verdict;
    unsigned cost; /* bits a row that must still be read */
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

static bool any_bit(const uint64_t *bits, size_t rows)
{
    uint64_t any = 0;
    for (size_t i = 0; i < words_of(rows); i++) {
        any |= bits[i];
    }
    return any != 0;
}

/* --- kernels --------------------------------------------------------------------------------- */

STORE_KERNEL static void number_range(const double *restrict number, size_t words, double low,
                                      double high, uint64_t *restrict out)
{
    for (size_t w = 0; w < words; w++) {
        uint8_t flags[64];
        for (unsigned i = 0; i < 64; i++) {
            flags[i] = (number[w * 64 + i] >= low) & (number[w * 64 + i] <= high);
        }
        out[w] = store_gather_bits(flags);
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
        store_chunk_range(chunk, (uint32_t)first, (uint32_t)(end - 1), out);
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

static void leaf_codes(const struct store_filter_node *node, const struct store_chunk *chunk,
                       size_t words, uint64_t *out)
{
    if (node->run_first <= node->run_last) {
        store_chunk_range(chunk, node->run_first, node->run_last, out);
    } else {
        code_table(chunk->code, words, node->table, node->table_size, out);
    }
}

/* Without regard to missing values; *ret_invert: the bits mean the opposite. */
static void leaf_bits(const struct store_filter_node *node, const struct store_chunk *chunk,
                      size_t words, uint64_t *out, bool *ret_invert)
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
static void leaf_eval(const struct store_filter_node *node, const struct store_chunk *chunk,
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

static enum verdict code_verdict(const struct store_filter_node *node,
                                 const struct store_zones *zones, uint32_t chunk)
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
static enum verdict value_verdict(const struct store_filter_node *node,
                                  const struct store_zones *zones, uint32_t chunk)
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

static enum verdict leaf_verdict(const struct store_filter_node *node,
                                 const struct store_zones *zones, uint32_t chunk)
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
static void judge(struct store_filter *filter, struct store_filter_node *node)
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
        judge(filter, node->left);
        judge(filter, node->right);
        node->verdict = join(node->op, node->left->verdict, node->right->verdict);
        node->cost = node->left->cost + node->right->cost;
        return;
    default: {
        const struct store_zones *zones = node->slot->zones;
        node->verdict = leaf_verdict(node, zones, filter->chunk);
        if (node->verdict == VERDICT_SOME) {
            node->cost = zones->zones[filter->chunk].bits + 1u;
        }
    }
    }
}

/* --- evaluation ---------------------------------------------------------------------------- */

/* Ranges are found in packed codes; what looks at each value by itself needs them unpacked. */
static bool wants_codes(const struct store_filter_node *node)
{
    bool list = node->op == PROTO_OP_IN || node->op == PROTO_OP_NOT_IN;
    return list &&
           (node->leaf->codes ? node->run_first > node->run_last : node->leaf->count > EQUALS_MAX);
}

/* OUT = rows of MASK for which NODE is true. LEVEL has two bitmaps of its own. */
static enum err eval(struct store_filter *filter, const struct store_filter_node *node,
                     const uint64_t *mask, uint64_t *out, size_t level)
{
    size_t words = words_of(filter->rows);
    if (node->verdict != VERDICT_SOME) {
        if (node->verdict == VERDICT_ALL) {
            memmove(out, mask, words * sizeof *out);
        } else {
            memset(out, 0, words * sizeof *out);
        }
        return E_OK;
    }
    if (node->leaf) {
        enum err err = filter->load(filter->user, node->slot);
        if (!err && wants_codes(node)) {
            err = store_chunk_unpack(&node->slot->chunk);
        }
        if (!err) {
            leaf_eval(node, &node->slot->chunk, mask, out);
        }
        return err;
    }
    bool left_first = node->left->cost <= node->right->cost;
    const struct store_filter_node *first = left_first ? node->left : node->right;
    const struct store_filter_node *second = left_first ? node->right : node->left;
    uint64_t *a = filter->bitmaps + (1 + 2 * level) * STORE_CHUNK_WORDS;
    uint64_t *rest = a + STORE_CHUNK_WORDS;
    enum err err = eval(filter, first, mask, a, level + 1);
    if (err) {
        return err;
    }
    if (node->op == PROTO_OP_AND) {
        if (any_bit(a, filter->rows)) {
            return eval(filter, second, a, out, level + 1);
        }
        memset(out, 0, words * sizeof *out);
        return E_OK;
    }
    for (size_t w = 0; w < words; w++) {
        rest[w] = mask[w] & ~a[w];
    }
    if (!any_bit(rest, filter->rows)) {
        memcpy(out, a, words * sizeof *out);
        return E_OK;
    }
    err = eval(filter, second, rest, out, level + 1);
    for (size_t w = 0; w < words && !err; w++) {
        out[w] |= a[w];
    }
    return err;
}

/* --- taking the question over -------------------------------------------------------------- */

static enum err refuse(const struct store_partition *partition, const char *what,
                       struct err_info *reterr)
{
    return proto_err_set(reterr, E_INVALID, "dataset %s: %s", partition->dataset, what);
}

/* Codes of an IN list as a run or a table. */
static enum err take_codes(struct store_filter *filter, struct store_filter_node *node,
                           struct err_info *reterr)
{
    const struct proto_predicate *leaf = node->leaf;
    uint32_t first = UINT32_MAX;
    uint32_t last = 0;
    for (size_t i = 0; i < leaf->count; i++) {
        if (leaf->codes[i] < 0 || leaf->codes[i] >= 1 << 20) {
            return refuse(filter->partition, "a code that no column has", reterr);
        }
        first = (uint32_t)leaf->codes[i] < first ? (uint32_t)leaf->codes[i] : first;
        last = (uint32_t)leaf->codes[i] > last ? (uint32_t)leaf->codes[i] : last;
    }
    node->table_size = last + 1;
    node->table = arena_alloc(&filter->arena, node->table_size, 1);
    if (!node->table) {
        return proto_err_set(reterr, E_NO_MEMORY, "scanning");
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

static enum err take_leaf(struct store_filter *filter, const struct proto_predicate *from,
                          struct store_filter_node *node, struct err_info *reterr)
{
    node->leaf = from;
    for (size_t i = 0; i < filter->slot_count; i++) {
        node->slot = filter->slots[i].column == from->column ? &filter->slots[i] : node->slot;
    }
    if (!node->slot) {
        return refuse(filter->partition, "a column that it does not have", reterr);
    }
    enum store_form form = filter->partition->columns[from->column].form;
    bool list = from->op == PROTO_OP_IN || from->op == PROTO_OP_NOT_IN;
    if (from->op == PROTO_OP_IS_NULL || from->op == PROTO_OP_IS_NOT_NULL) {
        return E_OK;
    }
    if (list && from->codes && form == STORE_FORM_CODE && from->count) {
        return take_codes(filter, node, reterr);
    }
    bool compares = from->op == PROTO_OP_EQ || from->op == PROTO_OP_NE || from->op == PROTO_OP_LT ||
                    from->op == PROTO_OP_LE || from->op == PROTO_OP_GT || from->op == PROTO_OP_GE;
    bool enough = (compares && from->count >= 1) || (list && from->count);
    if (form != STORE_FORM_NUMBER || from->codes || !from->numbers || !enough) {
        return refuse(filter->partition, "a condition that does not fit its column", reterr);
    }
    return E_OK;
}

/* Depth is limited, as below. */
static enum err see_columns(const struct store_partition *partition,
                            const struct proto_predicate *where, size_t depth,
                            enum err (*see)(void *user, int column), void *user,
                            struct err_info *reterr)
{
    if (!where || depth >= STORE_SCAN_DEPTH) {
        return refuse(partition, "a condition that is not complete or too deep", reterr);
    }
    switch (where->op) {
    case PROTO_OP_TRUE:
    case PROTO_OP_FALSE:
        return E_OK;
    case PROTO_OP_AND:
    case PROTO_OP_OR: {
        enum err err = see_columns(partition, where->left, depth + 1, see, user, reterr);
        return err ? err : see_columns(partition, where->right, depth + 1, see, user, reterr);
    }
    case PROTO_OP_NOT:
    case PROTO_OP_COLUMN:
        return refuse(partition, "a condition that is not bound", reterr);
    default:
        return see(user, where->column);
    }
}

enum err store_filter_columns(const struct store_partition *partition,
                              const struct proto_predicate *where,
                              enum err (*see)(void *user, int column), void *user,
                              struct err_info *reterr)
{
    return where ? see_columns(partition, where, 0, see, user, reterr) : E_OK;
}

static enum err take_tree(struct store_filter *filter, const struct proto_predicate *from,
                          size_t depth, struct store_filter_node **ret, struct err_info *reterr)
{
    struct store_filter_node *node = arena_alloc(&filter->arena, 1, sizeof *node);
    if (!node) {
        return proto_err_set(reterr, E_NO_MEMORY, "scanning");
    }
    node->op = from->op;
    *ret = node;
    if (from->op == PROTO_OP_TRUE || from->op == PROTO_OP_FALSE) {
        return E_OK;
    }
    if (from->op != PROTO_OP_AND && from->op != PROTO_OP_OR) {
        return take_leaf(filter, from, node, reterr);
    }
    filter->levels = depth + 1 > filter->levels ? depth + 1 : filter->levels;
    enum err err = take_tree(filter, from->left, depth + 1, &node->left, reterr);
    return err ? err : take_tree(filter, from->right, depth + 1, &node->right, reterr);
}

static size_t bitmap_words(const struct store_filter *filter)
{
    return (1 + 2 * filter->levels) * STORE_CHUNK_WORDS;
}

static enum err see_nothing(void *user, int column)
{
    (void)user;
    (void)column;
    return E_OK;
}

enum err store_filter_init(struct store_filter *filter, const struct proto_predicate *where,
                           struct err_info *reterr)
{
    /* Looked through first, so that the tree that is built is whole and not too deep. */
    enum err err = store_filter_columns(filter->partition, where, see_nothing, NULL, reterr);
    if (!err && where) {
        err = take_tree(filter, where, 0, &filter->root, reterr);
    }
    if (err) {
        return err;
    }
    filter->bitmaps = proto_alloc(bitmap_words(filter), sizeof *filter->bitmaps);
    return filter->bitmaps ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "scanning");
}

void store_filter_fini(struct store_filter *filter)
{
    if (filter->bitmaps) {
        crypto_wipe(filter->bitmaps, bitmap_words(filter) * sizeof *filter->bitmaps);
    }
    proto_free(filter->bitmaps);
    arena_fini(&filter->arena);
    filter->bitmaps = NULL;
}

bool store_filter_begin(struct store_filter *filter, uint32_t chunk, size_t rows)
{
    filter->chunk = chunk;
    filter->rows = rows;
    if (filter->root) {
        judge(filter, filter->root);
    }
    return !filter->root || filter->root->verdict != VERDICT_NONE;
}

enum err store_filter_rows(struct store_filter *filter, const uint64_t **ret_bits,
                           size_t *ret_count)
{
    uint64_t *selected = filter->bitmaps;
    fill_ones(selected, filter->rows);
    *ret_bits = selected;
    *ret_count = filter->rows;
    if (!filter->root || filter->root->verdict == VERDICT_ALL) {
        return E_OK;
    }
    enum err err = eval(filter, filter->root, selected, selected, 0);
    *ret_count = err ? 0 : store_count_bits(selected, words_of(filter->rows));
    return err;
}
