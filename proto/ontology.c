#include "config.h"
#include "proto/ontology.h"

#include <stdlib.h>

struct pair {
    struct span child;
    struct span parent;
};

static int compare_spans(struct span a, struct span b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static int compare_terms(const void *a, const void *b)
{
    return compare_spans(*(const struct span *)a, *(const struct span *)b);
}

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int order = compare_spans(x->child, y->child);
    return order ? order : compare_spans(x->parent, y->parent);
}

/* The next line without its end; false when there is none. */
static bool next_line(struct span *rest, struct span *ret_line)
{
    if (rest->len == 0) {
        return false;
    }
    const uint8_t *end = memchr(rest->ptr, '\n', rest->len);
    size_t n = end ? (size_t)(end - rest->ptr) : rest->len;
    *ret_line = span_of(rest->ptr, n && rest->ptr[n - 1] == '\r' ? n - 1 : n);
    size_t used = end ? n + 1 : n;
    *rest = span_of(rest->ptr + used, rest->len - used);
    return true;
}

static bool is_skipped(struct span line)
{
    return line.len == 0 || line.ptr[0] == '#';
}

static bool split(struct span line, struct pair *ret)
{
    const uint8_t *tab = memchr(line.ptr, '\t', line.len);
    if (!tab) {
        return false;
    }
    size_t n = (size_t)(tab - line.ptr);
    ret->child = span_of(line.ptr, n);
    ret->parent = span_of(tab + 1, line.len - n - 1);
    return n >= 1 && n <= PROTO_ONTOLOGY_TERM_MAX && ret->parent.len >= 1 &&
           ret->parent.len <= PROTO_ONTOLOGY_TERM_MAX &&
           !memchr(ret->parent.ptr, '\t', ret->parent.len);
}

static enum err read_pairs(struct span tsv, struct pair *pairs, size_t max, size_t *ret_count,
                           struct err_info *reterr)
{
    struct span line;
    size_t count = 0;
    for (size_t number = 1; next_line(&tsv, &line); number++) {
        if (is_skipped(line)) {
            continue;
        }
        if (count == max) {
            return proto_err_set(reterr, E_LIMIT, "ontology: more than %d pairs",
                                 PROTO_ONTOLOGY_EDGES_MAX);
        }
        if (!split(line, &pairs[count++])) {
            return proto_err_set(reterr, E_INVALID,
                                 "ontology, line %zu: child TAB parent is needed", number);
        }
    }
    *ret_count = count;
    return E_OK;
}

static size_t count_lines(struct span tsv)
{
    struct span line;
    size_t count = 0;
    while (next_line(&tsv, &line)) {
        count += !is_skipped(line);
    }
    return count;
}

/* SIZE_MAX when it is not there. */
static size_t find(const struct proto_ontology *ontology, struct span term)
{
    const struct span *hit = NULL;
    if (ontology && ontology->term_count) {
        hit = bsearch(&term, ontology->terms, ontology->term_count, sizeof term, compare_terms);
    }
    return hit ? (size_t)(hit - ontology->terms) : SIZE_MAX;
}

static enum err index_pairs(struct proto_ontology *ontology, struct pair *pairs, size_t count)
{
    struct span *terms = arena_alloc(&ontology->arena, 2 * count, sizeof *terms);
    ontology->parents = arena_alloc(&ontology->arena, count, sizeof *ontology->parents);
    if (!terms || !ontology->parents) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        terms[2 * i] = pairs[i].child;
        terms[2 * i + 1] = pairs[i].parent;
    }
    qsort(terms, 2 * count, sizeof *terms, compare_terms);
    size_t unique = 0;
    for (size_t i = 0; i < 2 * count; i++) {
        if (unique == 0 || compare_spans(terms[unique - 1], terms[i]) != 0) {
            terms[unique++] = terms[i];
        }
    }
    ontology->terms = terms;
    ontology->term_count = unique;
    if (unique > PROTO_ONTOLOGY_TERMS_MAX) {
        return E_LIMIT;
    }
    ontology->first = arena_alloc(&ontology->arena, unique + 1, sizeof *ontology->first);
    if (!ontology->first) {
        return E_NO_MEMORY;
    }
    /* Pairs sorted by child lie in the order of the terms, so one pass lays out the rows. */
    qsort(pairs, count, sizeof *pairs, compare_pairs);
    size_t at = 0;
    for (size_t term = 0; term < unique; term++) {
        ontology->first[term] = (uint32_t)at;
        while (at < count && compare_spans(pairs[at].child, terms[term]) == 0) {
            ontology->parents[at] = (uint32_t)find(ontology, pairs[at].parent);
            at++;
        }
    }
    ontology->first[unique] = (uint32_t)at;
    return E_OK;
}

enum err proto_ontology_parse(struct span tsv, const struct proto_hash *hash,
                              struct proto_ontology *ret, struct err_info *reterr)
{
    struct proto_ontology ontology = {0};
    struct pair *pairs = NULL;
    size_t count = count_lines(tsv);
    enum err err = count > PROTO_ONTOLOGY_EDGES_MAX ? E_LIMIT : E_OK;
    if (err) {
        return proto_err_set(reterr, err, "ontology: more than %d pairs", PROTO_ONTOLOGY_EDGES_MAX);
    }
    memset(ret, 0, sizeof *ret);
    char *copy = arena_strdup(&ontology.arena, tsv);
    pairs = proto_alloc(count, sizeof *pairs);
    if (!copy || !pairs) {
        err = proto_err_set(reterr, E_NO_MEMORY, "ontology: out of memory");
        goto out;
    }
    err = read_pairs(span_of(copy, tsv.len), pairs, count, &count, reterr);
    if (!err && count) {
        err = index_pairs(&ontology, pairs, count);
        if (err) {
            proto_err_set(reterr, err, "ontology: %s", proto_err_text(err));
        }
    }
    if (!err) {
        hash->sha256(&tsv, 1, ontology.digest);
        *ret = ontology;
    }
out:
    proto_free(pairs);
    if (err) {
        arena_fini(&ontology.arena);
    }
    return err;
}

bool proto_ontology_knows(const struct proto_ontology *ontology, struct span term)
{
    return find(ontology, term) != SIZE_MAX;
}

#define WORDS (PROTO_ONTOLOGY_TERMS_MAX / 64)

/* Takes one set bit out of OPEN; SIZE_MAX when there is none. */
static size_t pop_bit(uint64_t *open, size_t words)
{
    for (size_t w = 0; w < words; w++) {
        if (open[w]) {
            size_t bit = (size_t)__builtin_ctzll(open[w]);
            open[w] &= open[w] - 1;
            return w * 64 + bit;
        }
    }
    return SIZE_MAX;
}

/* Walks upwards with two bit sets in place of a stack: cycles end by themselves and nothing is allocated, so that a
 * decision cannot fail for want of memory. */
bool proto_ontology_is_a(const struct proto_ontology *ontology, struct span term,
                         struct span ancestor)
{
    uint64_t seen[WORDS] = {0}, open[WORDS] = {0};
    size_t from = find(ontology, term), to = find(ontology, ancestor);
    if (from == SIZE_MAX || to == SIZE_MAX) {
        return false;
    }
    size_t words = (ontology->term_count + 63) / 64;
    seen[from / 64] |= UINT64_C(1) << (from % 64);
    for (size_t at = from; at != SIZE_MAX; at = pop_bit(open, words)) {
        if (at == to) {
            return true;
        }
        for (size_t i = ontology->first[at]; i < ontology->first[at + 1]; i++) {
            size_t parent = ontology->parents[i];
            uint64_t bit = UINT64_C(1) << (parent % 64);
            if (!(seen[parent / 64] & bit)) {
                seen[parent / 64] |= bit;
                open[parent / 64] |= bit;
            }
        }
    }
    return false;
}

void proto_ontology_fini(struct proto_ontology *ontology)
{
    if (ontology) {
        arena_fini(&ontology->arena);
        memset(ontology, 0, sizeof *ontology);
    }
}
