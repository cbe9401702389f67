#include "config.h"
#include "proto/ontology.h"
#include "proto/nearest.h"

#include <stdlib.h>

/* What a file says, in the order in which it says it. Spans point into the file. */
struct pair {
    struct span child;
    struct span parent; /* none: only the child is named */
};
struct label {
    struct span term;
    struct span text;
};
struct reader {
    struct pair *pairs;
    size_t pair_count;
    struct label *labels;
    size_t label_count;
    size_t max; /* of both */
    size_t line;
    struct err_info *reterr;
};

static int compare_spans(struct span a, struct span b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
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

static int compare_labels(const void *a, const void *b)
{
    const struct label *x = a, *y = b;
    int order = compare_spans(x->term, y->term);
    return order ? order : compare_spans(x->text, y->text);
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* --- Lines ---------------------------------------------------------------------------------------------- */

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

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static struct span trim(struct span text)
{
    while (text.len && is_blank(text.ptr[0])) {
        text = span_of(text.ptr + 1, text.len - 1);
    }
    while (text.len && is_blank(text.ptr[text.len - 1])) {
        text.len--;
    }
    return text;
}

static bool term_valid(struct span term)
{
    bool valid = term.len >= 1 && term.len <= PROTO_ONTOLOGY_TERM_MAX;
    for (size_t i = 0; valid && i < term.len; i++) {
        valid = term.ptr[i] > ' ' && term.ptr[i] != 0x7F;
    }
    return valid;
}

static enum err fault(struct reader *r, const char *what)
{
    return proto_err_set(r->reterr, E_INVALID, "ontology, line %zu: %s", r->line, what);
}

static enum err add_pair(struct reader *r, struct span child, struct span parent)
{
    if (!term_valid(child) || (parent.ptr && !term_valid(parent))) {
        return fault(r, "a term has 1 to 64 bytes without blanks");
    }
    if (r->pair_count == r->max) {
        return proto_err_set(r->reterr, E_LIMIT, "ontology: more than %d pairs",
                             PROTO_ONTOLOGY_EDGES_MAX);
    }
    r->pairs[r->pair_count++] = (struct pair){child, parent};
    return E_OK;
}

static void add_label(struct reader *r, struct span term, struct span text)
{
    bool plain = text.len > 0 && text.len <= PROTO_ONTOLOGY_LABEL_MAX;
    for (size_t i = 0; plain && i < text.len; i++) {
        plain = text.ptr[i] >= ' ' && text.ptr[i] != 0x7F;
    }
    /* A label is for people: one that is odd or too many is left out, the pair stays. */
    if (plain && r->label_count < r->max) {
        r->labels[r->label_count++] = (struct label){term, text};
    }
}

/* --- Pairs ---------------------------------------------------------------------------------------------- */

/* The field up to the separator, and what comes after it (none: it was the last). */
static struct span take_field(struct span *rest, uint8_t separator)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    size_t n = end ? (size_t)(end - rest->ptr) : rest->len;
    struct span field = trim(span_of(rest->ptr, n));
    *rest = end ? span_of(end + 1, rest->len - n - 1) : SPAN_NONE;
    return field;
}

static enum err read_pair(struct reader *r, struct span line)
{
    uint8_t separator = memchr(line.ptr, '\t', line.len) ? '\t' : ',';
    struct span rest = line;
    struct span child = take_field(&rest, separator);
    if (!rest.ptr) {
        return fault(r, "child TAB parent is needed");
    }
    struct span parent = take_field(&rest, separator);
    enum err err = add_pair(r, child, parent);
    if (!err && rest.ptr) {
        add_label(r, child, trim(rest));
    }
    return err;
}

static enum err read_pairs(struct reader *r, struct span file)
{
    struct span line;
    enum err err = E_OK;
    for (r->line = 1; !err && next_line(&file, &line); r->line++) {
        if (trim(line).len && line.ptr[0] != '#') {
            err = read_pair(r, line);
        }
    }
    return err;
}

/* --- OBO ------------------------------------------------------------------------------------------------ */

struct stanza {
    bool term; /* [Term]; all else is passed over */
    bool obsolete;
    struct span id;
    size_t pairs_before; /* what an obsolete term said is taken back */
    size_t labels_before;
};

static bool is_tag(struct span line, const char *tag, struct span *ret_value)
{
    size_t n = strlen(tag);
    if (line.len <= n || memcmp(line.ptr, tag, n) != 0 || line.ptr[n] != ':') {
        return false;
    }
    *ret_value = trim(span_of(line.ptr + n + 1, line.len - n - 1));
    return true;
}

/* An id ends at a blank: what follows is a trailing modifier {…} or a comment ! …. */
static struct span take_id(struct span value)
{
    size_t n = 0;
    while (n < value.len && !is_blank(value.ptr[n])) {
        n++;
    }
    return span_of(value.ptr, n);
}

static enum err read_tag(struct reader *r, struct stanza *at, struct span line)
{
    struct span value;
    if (is_tag(line, "id", &value)) {
        at->id = take_id(value);
        return add_pair(r, at->id, SPAN_NONE);
    }
    if (is_tag(line, "is_a", &value)) {
        return at->id.len ? add_pair(r, at->id, take_id(value))
                          : fault(r, "is_a: stands before the term's id:");
    }
    if (is_tag(line, "name", &value) && at->id.len) {
        add_label(r, at->id, value);
    } else if (is_tag(line, "is_obsolete", &value)) {
        at->obsolete = span_is(take_id(value), "true");
    }
    return E_OK;
}

static void end_stanza(struct reader *r, const struct stanza *at)
{
    if (at->term && at->obsolete) {
        r->pair_count = at->pairs_before;
        r->label_count = at->labels_before;
    }
}

static enum err read_obo(struct reader *r, struct span file)
{
    struct stanza at = {0};
    struct span line;
    enum err err = E_OK;
    for (r->line = 1; !err && next_line(&file, &line); r->line++) {
        line = trim(line);
        if (line.len && line.ptr[0] == '[') {
            end_stanza(r, &at);
            at = (struct stanza){.term = span_is(line, "[Term]"),
                                 .pairs_before = r->pair_count,
                                 .labels_before = r->label_count};
        } else if (at.term && line.len) {
            err = read_tag(r, &at, line);
        }
    }
    end_stanza(r, &at);
    return err;
}

/* A line that begins a stanza: no term of pairs contains brackets at its start. */
static bool is_obo(struct span file)
{
    struct span line;
    while (next_line(&file, &line)) {
        if (span_is(trim(line), "[Term]")) {
            return true;
        }
    }
    return false;
}

static size_t count_lines(struct span file)
{
    struct span line;
    size_t count = 0;
    while (next_line(&file, &line)) {
        count += line.len > 0;
    }
    return count;
}

/* --- Index ---------------------------------------------------------------------------------------------- */

/* FNV-1a: the table is the operator's own file, so nobody can choose collisions against it. */
static uint32_t hash_of(struct span term)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < term.len; i++) {
        hash = (hash ^ term.ptr[i]) * 16777619U;
    }
    return hash;
}

uint32_t proto_ontology_find(const struct proto_ontology *ontology, struct span term)
{
    if (!ontology || !ontology->term_count) {
        return PROTO_ONTOLOGY_NONE;
    }
    for (uint32_t slot = hash_of(term);; slot++) {
        uint32_t at = ontology->slots[slot & ontology->slot_mask];
        if (at == PROTO_ONTOLOGY_NONE || span_equal(ontology->terms[at], term)) {
            return at;
        }
    }
}

static enum err index_slots(struct proto_ontology *ontology)
{
    uint32_t size = 8;
    while (size < 2 * ontology->term_count) {
        size *= 2;
    }
    ontology->slots = arena_alloc(&ontology->arena, size, sizeof *ontology->slots);
    if (!ontology->slots) {
        return E_NO_MEMORY;
    }
    memset(ontology->slots, 0xFF, size * sizeof *ontology->slots);
    ontology->slot_mask = size - 1;
    for (uint32_t i = 0; i < ontology->term_count; i++) {
        uint32_t slot = hash_of(ontology->terms[i]);
        while (ontology->slots[slot & ontology->slot_mask] != PROTO_ONTOLOGY_NONE) {
            slot++;
        }
        ontology->slots[slot & ontology->slot_mask] = i;
    }
    return E_OK;
}

/* Sorted, each once, with bytes of their own. */
static enum err index_terms(struct proto_ontology *ontology, const struct pair *pairs,
                            size_t pair_count)
{
    struct span *terms = proto_alloc(2 * pair_count, sizeof *terms);
    size_t count = 0, unique = 0;
    if (!terms) {
        return E_NO_MEMORY;
    }
    for (size_t i = 0; i < pair_count; i++) {
        terms[count++] = pairs[i].child;
        if (pairs[i].parent.ptr) {
            terms[count++] = pairs[i].parent;
        }
    }
    qsort(terms, count, sizeof *terms, compare_terms);
    for (size_t i = 0; i < count; i++) {
        if (unique == 0 || compare_spans(terms[unique - 1], terms[i]) != 0) {
            terms[unique++] = terms[i];
        }
    }
    enum err err = unique > PROTO_ONTOLOGY_TERMS_MAX ? E_LIMIT : E_OK;
    ontology->terms = err ? NULL : arena_alloc(&ontology->arena, unique, sizeof *ontology->terms);
    for (size_t i = 0; ontology->terms && !err && i < unique; i++) {
        char *copy = arena_strdup(&ontology->arena, terms[i]);
        ontology->terms[i] = span_of(copy, terms[i].len);
        err = copy ? E_OK : E_NO_MEMORY;
    }
    ontology->term_count = (uint32_t)unique;
    proto_free(terms);
    err = err ? err : ontology->terms ? E_OK : E_NO_MEMORY;
    return err ? err : index_slots(ontology);
}

/* The first label in the alphabet where a file gives several, so that the order of lines does not matter. */
static enum err index_labels(struct proto_ontology *ontology, struct label *labels, size_t count)
{
    ontology->labels =
        arena_alloc(&ontology->arena, ontology->term_count, sizeof *ontology->labels);
    if (!ontology->labels) {
        return E_NO_MEMORY;
    }
    qsort(labels, count, sizeof *labels, compare_labels);
    for (size_t i = 0; i < count; i++) {
        uint32_t at = proto_ontology_find(ontology, labels[i].term);
        if (at != PROTO_ONTOLOGY_NONE && !ontology->labels[at].ptr) {
            char *copy = arena_strdup(&ontology->arena, labels[i].text);
            if (!copy) {
                return E_NO_MEMORY;
            }
            ontology->labels[at] = span_of(copy, labels[i].text.len);
        }
    }
    return E_OK;
}

/* --- Closure -------------------------------------------------------------------------------------------- */

/* Direct parents of each term, in one array: the rows lie in the order of the terms. */
struct edges {
    uint32_t *first; /* term_count + 1 */
    uint32_t *parents;
};

static enum err make_edges(const struct proto_ontology *ontology, struct pair *pairs, size_t count,
                           struct edges *ret)
{
    ret->first = proto_alloc(ontology->term_count + 1, sizeof *ret->first);
    ret->parents = proto_alloc(count, sizeof *ret->parents);
    if (!ret->first || !ret->parents) {
        return E_NO_MEMORY;
    }
    qsort(pairs, count, sizeof *pairs, compare_pairs);
    uint32_t at = 0;
    size_t pair = 0;
    for (uint32_t term = 0; term < ontology->term_count; term++) {
        ret->first[term] = at;
        for (; pair < count && span_equal(pairs[pair].child, ontology->terms[term]); pair++) {
            bool again = pair && compare_pairs(&pairs[pair - 1], &pairs[pair]) == 0;
            if (pairs[pair].parent.ptr && !again) {
                ret->parents[at++] = proto_ontology_find(ontology, pairs[pair].parent);
            }
        }
    }
    ret->first[ontology->term_count] = at;
    return E_OK;
}

/* Appends the ancestors of TERM at ANCESTORS, which is its own list of what is still to be visited. SEEN holds the last
 * term that reached each one, so a cycle ends by itself. Returns how many. */
static size_t close_term(const struct edges *edges, uint32_t term, uint32_t *seen,
                         uint32_t *ancestors)
{
    size_t count = 0;
    uint32_t at = term;
    seen[term] = term + 1;
    for (size_t next = 0;; next++) {
        for (uint32_t i = edges->first[at]; i < edges->first[at + 1]; i++) {
            uint32_t parent = edges->parents[i];
            if (seen[parent] != term + 1) {
                seen[parent] = term + 1;
                ancestors[count++] = parent;
            }
        }
        if (next == count) {
            return count;
        }
        at = ancestors[next];
    }
}

/* All terms' ancestors, one after the other; as large as it has to be. */
struct closure {
    uint32_t *ancestors;
    size_t count;
    size_t room;
};

/* Room for one more term's ancestors: at most as many as there are terms. */
static enum err reserve(struct closure *closure, size_t more)
{
    size_t room = closure->room ? closure->room : 256;
    while (room < closure->count + more) {
        room *= 2;
    }
    if (room == closure->room) {
        return E_OK;
    }
    uint32_t *grown = proto_realloc(closure->ancestors, room, sizeof *grown);
    if (grown) {
        closure->ancestors = grown;
        closure->room = room;
    }
    return grown ? E_OK : E_NO_MEMORY;
}

static enum err make_closure(struct proto_ontology *ontology, const struct edges *edges,
                             uint32_t *seen, struct closure *closure)
{
    for (uint32_t term = 0; term < ontology->term_count; term++) {
        enum err err = reserve(closure, ontology->term_count);
        if (err) {
            return err;
        }
        uint32_t *own = closure->ancestors + closure->count;
        ontology->first[term] = (uint32_t)closure->count;
        size_t count = close_term(edges, term, seen, own);
        if (closure->count + count > PROTO_ONTOLOGY_CLOSURE_MAX) {
            return E_LIMIT;
        }
        qsort(own, count, sizeof *own, compare_numbers);
        closure->count += count;
    }
    ontology->first[ontology->term_count] = (uint32_t)closure->count;
    ontology->ancestors =
        arena_alloc(&ontology->arena, closure->count + 1, sizeof *ontology->ancestors);
    if (!ontology->ancestors) {
        return E_NO_MEMORY;
    }
    memcpy(ontology->ancestors, closure->ancestors, closure->count * sizeof *closure->ancestors);
    return E_OK;
}

static enum err close_terms(struct proto_ontology *ontology, struct pair *pairs, size_t count)
{
    struct edges edges = {0};
    uint32_t *seen = proto_alloc(ontology->term_count, sizeof *seen);
    struct closure closure = {0};
    ontology->first =
        arena_alloc(&ontology->arena, ontology->term_count + 1, sizeof *ontology->first);
    enum err err = seen && ontology->first ? E_OK : E_NO_MEMORY;
    err = err ? err : make_edges(ontology, pairs, count, &edges);
    err = err ? err : make_closure(ontology, &edges, seen, &closure);
    proto_free(edges.first);
    proto_free(edges.parents);
    proto_free(seen);
    proto_free(closure.ancestors);
    return err;
}

/* --- Parsing -------------------------------------------------------------------------------------------- */

static enum err build(struct proto_ontology *ontology, struct reader *r)
{
    if (r->pair_count == 0) {
        return E_OK;
    }
    enum err err = index_terms(ontology, r->pairs, r->pair_count);
    err = err ? err : index_labels(ontology, r->labels, r->label_count);
    err = err ? err : close_terms(ontology, r->pairs, r->pair_count);
    return err ? proto_err_set(r->reterr, err, "ontology: %s", proto_err_text(err)) : E_OK;
}

enum err proto_ontology_parse(struct span file, const struct proto_hash *hash,
                              struct proto_ontology *ret, struct err_info *reterr)
{
    struct proto_ontology ontology = {0};
    struct reader r = {.max = count_lines(file), .reterr = reterr};
    memset(ret, 0, sizeof *ret);
    r.max = r.max < PROTO_ONTOLOGY_EDGES_MAX ? r.max : PROTO_ONTOLOGY_EDGES_MAX;
    r.pairs = proto_alloc(r.max + 1, sizeof *r.pairs);
    r.labels = proto_alloc(r.max + 1, sizeof *r.labels);
    enum err err =
        r.pairs && r.labels ? E_OK : proto_err_set(reterr, E_NO_MEMORY, "ontology: out of memory");
    err = err ? err : is_obo(file) ? read_obo(&r, file) : read_pairs(&r, file);
    err = err ? err : build(&ontology, &r);
    if (err) {
        arena_fini(&ontology.arena);
    } else {
        hash->sha256(&file, 1, ontology.digest);
        *ret = ontology;
    }
    proto_free(r.pairs);
    proto_free(r.labels);
    return err;
}

/* --- Questions ------------------------------------------------------------------------------------------ */

bool proto_ontology_knows(const struct proto_ontology *ontology, struct span term)
{
    return proto_ontology_find(ontology, term) != PROTO_ONTOLOGY_NONE;
}

bool proto_ontology_below(const struct proto_ontology *ontology, uint32_t term, uint32_t ancestor)
{
    if (term == ancestor) {
        return true;
    }
    uint32_t low = ontology->first[term], high = ontology->first[term + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ontology->ancestors[middle] < ancestor) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < ontology->first[term + 1] && ontology->ancestors[low] == ancestor;
}

bool proto_ontology_is_a(const struct proto_ontology *ontology, struct span term,
                         struct span ancestor)
{
    uint32_t from = proto_ontology_find(ontology, term);
    uint32_t to = proto_ontology_find(ontology, ancestor);
    return from != PROTO_ONTOLOGY_NONE && to != PROTO_ONTOLOGY_NONE &&
           proto_ontology_below(ontology, from, to);
}

struct span proto_ontology_label(const struct proto_ontology *ontology, struct span term)
{
    uint32_t at = proto_ontology_find(ontology, term);
    return at == PROTO_ONTOLOGY_NONE ? SPAN_NONE : ontology->labels[at];
}

struct span proto_ontology_nearest(const struct proto_ontology *ontology, struct span term)
{
    struct proto_nearest nearest = proto_nearest_to(term);
    for (uint32_t i = 0; ontology && i < ontology->term_count; i++) {
        proto_nearest_try(&nearest, ontology->terms[i]);
    }
    return nearest.best;
}

void proto_ontology_fini(struct proto_ontology *ontology)
{
    if (ontology) {
        arena_fini(&ontology->arena);
        memset(ontology, 0, sizeof *ontology);
    }
}

/* --- CURIEs --------------------------------------------------------------------------------------------- */

static const struct {
    const char *prefix;
    size_t digits; /* exactly that many; 0: one to ten */
    bool code;     /* a letter, two digits or letters, perhaps a dot and more */
    const char *example;
} namespaces[] = {
    {"MONDO", 7, false, "MONDO:0004992"},
    {"DOID", 0, false, "DOID:162"},
    {"EFO", 7, false, "EFO:0000311"},
    {"ICD10", 0, true, "ICD10:C50.9"},
};
#define NAMESPACES (sizeof namespaces / sizeof *namespaces)

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_upper(uint8_t c)
{
    return c >= 'A' && c <= 'Z';
}

static bool digits_valid(struct span local, size_t digits)
{
    bool valid = digits ? local.len == digits : local.len >= 1 && local.len <= 10;
    for (size_t i = 0; valid && i < local.len; i++) {
        valid = is_digit(local.ptr[i]);
    }
    return valid;
}

/* "C50", "C50.9", "U07.1"; a chapter or block "C00-C97" too. */
static bool code_valid(struct span local)
{
    bool valid = local.len >= 3 && local.len <= 8 && is_upper(local.ptr[0]);
    bool block = local.len == 7 && local.ptr[3] == '-' && is_upper(local.ptr[4]);
    for (size_t i = 1; valid && i < local.len; i++) {
        uint8_t c = local.ptr[i];
        bool mark = i == 3 && (c == '.' ? local.len > 4 : block);
        valid = mark || is_digit(c) || (i != 3 && is_upper(c));
    }
    return valid;
}

enum err proto_curie_check(struct span text, struct err_info *reterr)
{
    const uint8_t *colon = text.len ? memchr(text.ptr, ':', text.len) : NULL;
    size_t n = colon ? (size_t)(colon - text.ptr) : text.len;
    struct span prefix = span_of(text.ptr, n);
    struct span local = colon ? span_of(colon + 1, text.len - n - 1) : SPAN_NONE;
    struct proto_nearest nearest = proto_nearest_to(prefix);
    for (size_t i = 0; i < NAMESPACES; i++) {
        bool form =
            namespaces[i].code ? code_valid(local) : digits_valid(local, namespaces[i].digits);
        if (span_is(prefix, namespaces[i].prefix)) {
            return form ? E_OK
                        : proto_err_set(reterr, E_INVALID, "not a term of %s: write it like \"%s\"",
                                        namespaces[i].prefix, namespaces[i].example);
        }
        proto_nearest_try(&nearest, span_str(namespaces[i].prefix));
    }
    for (size_t i = 0; i < NAMESPACES; i++) {
        if (span_is(nearest.best, namespaces[i].prefix)) {
            return proto_err_set(reterr, E_INVALID,
                                 "no such namespace of diseases; the nearest is %s, as in \"%s\"",
                                 namespaces[i].prefix, namespaces[i].example);
        }
    }
    return proto_err_set(reterr, E_INVALID,
                         "not a disease: write MONDO:0004992, DOID:162, EFO:0000311 or ICD10:C50");
}
