#include "config.h"
#include "node/query/release.h"

#include "crypto/memory.h"
#include "proto/body.h"
#include "proto/selection.h"

#include <stdlib.h>

/* Numbers that get their noise together. */
#define CHUNK 65536

uint64_t query_release_threshold(const struct query_layout *layout, uint64_t delta0_e18)
{
    double sigma = privacy_mechanism_sigma(&layout->coordinates[0]);
    return proto_selection_threshold_gaussian_whole(
        sigma, (double)delta0_e18 / 1e18 / layout->nodes, layout->bounds.cells);
}

/* ---- noise --------------------------------------------------------------------------------- */

/* Part PART of every cell: NOISY gets exact sum plus noise. */
static enum err add_noise(struct privacy_pool *pool, const struct query_layout *layout, size_t part,
                          const struct query_sums *sums, __int128 *exact, int64_t *noise,
                          int64_t *noisy, struct err_info *reterr)
{
    size_t width = layout->parts[part].width;
    size_t total = sums->cells * width;
    enum err err = E_OK;
    for (size_t first = 0; first < total && !err; first += CHUNK) {
        size_t count = total - first < CHUNK ? total - first : CHUNK;
        for (size_t i = 0; i < count; i++) {
            size_t at = first + i;
            exact[i] = sums->sums[at / width * layout->slots + layout->offsets[part] + at % width];
        }
        err = privacy_mechanism_release_pooled(pool, &layout->coordinates[part], 1, exact, count,
                                               noise, reterr);
        for (size_t i = 0; i < count && !err; i++) {
            size_t at = first + i;
            noisy[at / width * layout->slots + layout->offsets[part] + at % width] = noise[i];
        }
    }
    return err;
}

static enum err noisy_of(struct privacy_pool *pool, const struct query_layout *layout,
                         const struct query_sums *sums, int64_t *noisy, struct err_info *reterr)
{
    __int128 *exact = proto_alloc(CHUNK, sizeof *exact);
    int64_t *noise = proto_alloc(CHUNK, sizeof *noise);
    enum err err = exact && noise ? E_OK : E_NO_MEMORY;
    for (size_t part = 0; part < layout->count && !err; part++) {
        err = add_noise(pool, layout, part, sums, exact, noise, noisy, reterr);
    }
    if (exact) {
        crypto_wipe(exact, CHUNK * sizeof *exact);
    }
    proto_free(exact);
    proto_free(noise);
    return err;
}

/* ---- private groups ------------------------------------------------------------------------ */

struct told {
    size_t cell;
    const char *texts[PROTO_QUERY_GROUPS_MAX];
    size_t count;
};

static void texts_of(const struct proto_query *query, const struct query_sums *sums, size_t cell,
                     struct told *ret)
{
    uint64_t key = sums->keys ? sums->keys[cell] : cell;
    *ret = (struct told){.cell = cell, .count = query->group_count};
    for (size_t g = query->group_count; g-- > 0;) {
        size_t code = (size_t)(key % sums->sizes[g]);
        key /= sums->sizes[g];
        ret->texts[g] =
            query->group_values[g] ? query->group_values[g][code] : sums->values[g][code];
    }
}

static int compare_told(const void *a, const void *b)
{
    const struct told *x = a;
    const struct told *y = b;
    int order = 0;
    for (size_t g = 0; g < x->count && order == 0; g++) {
        order = strcmp(x->texts[g], y->texts[g]);
    }
    return order;
}

/* The cells that stand out, by their texts, so that their order tells nothing. */
static enum err choose(const struct proto_query *query, const struct query_layout *layout,
                       const struct query_sums *sums, const int64_t *noisy, int64_t threshold,
                       struct told **ret, size_t *ret_count)
{
    size_t count = 0;
    for (size_t cell = 0; cell < sums->cells; cell++) {
        count += sums->sums[cell * layout->slots] > 0 && noisy[cell * layout->slots] >= threshold;
    }
    struct told *told = proto_alloc(count + 1, sizeof *told);
    *ret = told;
    *ret_count = 0;
    for (size_t cell = 0; told && cell < sums->cells; cell++) {
        if (sums->sums[cell * layout->slots] > 0 && noisy[cell * layout->slots] >= threshold) {
            texts_of(query, sums, cell, &told[(*ret_count)++]);
        }
    }
    if (!told) {
        return E_NO_MEMORY;
    }
    qsort(told, count, sizeof *told, compare_told);
    return E_OK;
}

/* ---- bytes --------------------------------------------------------------------------------- */

static enum err coordinates_out(const struct query_layout *layout, struct arena *arena,
                                struct query_answer *answer)
{
    struct query_coordinate *out = arena_alloc(arena, layout->count, sizeof *out);
    if (!out) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < layout->count; i++) {
        const struct privacy_coordinate *coordinate = &layout->coordinates[i];
        out[i] = (struct query_coordinate){coordinate->grid_log2, coordinate->sigma2_num,
                                           coordinate->sigma2_den};
    }
    answer->coordinates = (struct proto_list){out, layout->count};
    return E_OK;
}

enum err query_release_shape(const struct proto_query *query, const struct query_layout *layout,
                             struct arena *arena, struct query_answer *answer)
{
    answer->cells = query->cells;
    return coordinates_out(layout, arena, answer);
}

static bool below_cohort(const struct query_layout *layout, int64_t units, uint64_t min_cohort)
{
    return privacy_mechanism_value(&layout->coordinates[0], units) < (double)min_cohort;
}

/* TOLD: which cells, NULL: all. */
static enum err values_out(const struct query_layout *layout, const int64_t *noisy,
                           const struct told *told, size_t count, uint64_t min_cohort,
                           struct arena *arena, struct query_answer *answer)
{
    size_t slots = layout->slots;
    uint8_t *values = arena_alloc(arena, count * slots + 1, 8);
    uint8_t *withheld = arena_alloc(arena, count + 1, 1);
    if (!values || !withheld) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const int64_t *cell = noisy + (told ? told[i].cell : i) * slots;
        withheld[i] = below_cohort(layout, cell[0], min_cohort);
        for (size_t slot = 0; slot < slots; slot++) {
            put_be64(values + 8 * (i * slots + slot), withheld[i] ? 0 : (uint64_t)cell[slot]);
        }
    }
    answer->cells = count;
    answer->values = span_of(values, count * slots * 8);
    answer->withheld = span_of(withheld, count);
    return coordinates_out(layout, arena, answer);
}

static enum err keys_out(const struct told *told, size_t count, struct arena *arena,
                         struct query_answer *answer)
{
    size_t groups = count ? told[0].count : 0;
    struct proto_text *keys = arena_alloc(arena, count * groups + 1, sizeof *keys);
    for (size_t i = 0; keys && i < count; i++) {
        for (size_t g = 0; g < groups; g++) {
            const char *copy = arena_strdup(arena, span_str(told[i].texts[g]));
            if (!copy) {
                return E_NO_MEMORY;
            }
            keys[i * groups + g].text = span_str(copy);
        }
    }
    answer->keys = (struct proto_list){keys, count * groups};
    return keys ? E_OK : E_NO_MEMORY;
}

static enum err keyed_out(const struct proto_query *query, const struct query_layout *layout,
                          const struct query_sums *sums, const int64_t *noisy,
                          const struct query_release_terms *terms, struct arena *arena,
                          struct query_answer *answer, struct err_info *reterr)
{
    uint64_t threshold = query_release_threshold(layout, terms->delta0_e18);
    /* A cell below the minimum cohort is not there at all. */
    threshold = threshold > terms->min_cohort ? threshold : terms->min_cohort;
    int64_t least = threshold < INT64_MAX ? (int64_t)threshold : INT64_MAX;
    struct told *told;
    size_t count;
    enum err err = choose(query, layout, sums, noisy, least, &told, &count);
    if (!err && (count > QUERY_CELLS_MAX || count * layout->slots > QUERY_NUMBERS_MAX)) {
        err = proto_err_set(reterr, E_LIMIT, "more groups stand out than one answer may hold");
    }
    err = err ? err : keys_out(told, count, arena, answer);
    err = err ? err : values_out(layout, noisy, told, count, 0, arena, answer);
    proto_free(told);
    return err;
}

enum err query_release(struct privacy_pool *pool, const struct proto_query *query,
                       const struct query_layout *layout, const struct query_sums *sums,
                       const struct query_release_terms *terms, struct arena *arena,
                       struct query_answer *answer, struct err_info *reterr)
{
    int64_t *noisy = proto_alloc(sums->cells * layout->slots, sizeof *noisy);
    enum err err = noisy ? noisy_of(pool, layout, sums, noisy, reterr) : E_NO_MEMORY;
    if (!err) {
        err = query->keyed
                  ? keyed_out(query, layout, sums, noisy, terms, arena, answer, reterr)
                  : values_out(layout, noisy, NULL, sums->cells, terms->min_cohort, arena, answer);
    }
    if (noisy) { /* what is not told is private */
        crypto_wipe(noisy, sums->cells * layout->slots * sizeof *noisy);
    }
    proto_free(noisy);
    return err;
}

/* ---- answers that are given again ---------------------------------------------------------- */

enum err query_release_withhold(const struct proto_query *query, const struct query_layout *layout,
                                uint64_t min_cohort, struct arena *arena,
                                struct query_answer *answer)
{
    size_t cells = answer->cells;
    size_t each = 8 * layout->slots;
    size_t groups = query->keyed ? query->group_count : 0;
    if (cells > QUERY_CELLS_MAX || answer->values.len != cells * each ||
        answer->withheld.len != cells || answer->keys.count != cells * groups) {
        return E_CORRUPT;
    }
    uint8_t *values = arena_alloc(arena, cells * each + 1, 1);
    uint8_t *withheld = arena_alloc(arena, cells + 1, 1);
    struct proto_text *keys = arena_alloc(arena, cells * groups + 1, sizeof *keys);
    if (!values || !withheld || !keys) {
        return E_NO_MEMORY;
    }
    const struct proto_text *old_keys = answer->keys.items;
    size_t kept = 0;
    for (size_t cell = 0; cell < cells; cell++) {
        const uint8_t *from = answer->values.ptr + cell * each;
        bool below =
            answer->withheld.ptr[cell] || below_cohort(layout, (int64_t)get_be64(from), min_cohort);
        if (below && query->keyed) {
            continue;
        }
        for (size_t g = 0; g < groups; g++) {
            keys[kept * groups + g] = old_keys[cell * groups + g];
        }
        if (!below) {
            memcpy(values + kept * each, from, each);
        }
        withheld[kept++] = below;
    }
    answer->cells = kept;
    answer->keys = (struct proto_list){keys, kept * groups};
    answer->values = span_of(values, kept * each);
    answer->withheld = span_of(withheld, kept);
    return E_OK;
}
