#include "config.h"
#include "store/transform.h"

#include "crypto/kdf.h"
#include "proto/codec.h"
#include "proto/schema.h"
#include "proto/time.h"
#include "store/parse.h"

#define FEW_PEOPLE 20000
#define SHIFTS     (2 * PROTO_SHIFT_DAYS_MAX + 1)

static bool digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* The next line of *REST, trimmed. */
static bool next_line(struct span *rest, struct span *ret)
{
    if (rest->len == 0) {
        return false;
    }
    const uint8_t *end = memchr(rest->ptr, '\n', rest->len);
    size_t len = end ? (size_t)(end - rest->ptr) : rest->len;
    *ret = store_parse_trim(span_of(rest->ptr, len));
    *rest = span_of(rest->ptr + len + (end != NULL), rest->len - len - (end != NULL));
    return true;
}

/* --- ZIP codes ----------------------------------------------------------------------------- */

struct store_zips {
    bool hidden[1000];
};

/* What the Department of Health listed from the census of 2000 (17), and two later lists. The union hides too much rather than
 * too little; an operator with this year's census gives a table of his own. */
static const uint16_t few[] = {36,  59,  63,  102, 202, 203, 204, 205, 369, 556, 692, 753,
                               772, 790, 821, 823, 830, 831, 878, 879, 884, 890, 893};

static enum err read_zips(struct store_zips *zips, struct span text, struct err_info *reterr)
{
    bool listed[1000] = {false};
    bool counted = false;
    struct span line;
    for (unsigned number = 1; next_line(&text, &line); number++) {
        if (line.len == 0 || line.ptr[0] == '#') {
            continue;
        }
        if (line.len < 3 || !digit(line.ptr[0]) || !digit(line.ptr[1]) || !digit(line.ptr[2]) ||
            (line.len > 3 && digit(line.ptr[3]))) {
            return proto_err_set(reterr, E_INVALID,
                                 "the list of ZIP prefixes, line %u: must begin with three digits",
                                 number);
        }
        size_t prefix = (size_t)(line.ptr[0] - '0') * 100 + (size_t)(line.ptr[1] - '0') * 10 +
                        (size_t)(line.ptr[2] - '0');
        uint64_t people = 0;
        bool any = false;
        for (size_t i = 3; i < line.len; i++) {
            if (digit(line.ptr[i]) && people < UINT32_MAX) {
                people = people * 10 + (uint64_t)(line.ptr[i] - '0');
                any = true;
            } else if (!strchr(" \t,;", line.ptr[i])) {
                return proto_err_set(
                    reterr, E_INVALID,
                    "the list of ZIP prefixes, line %u: a number of inhabitants or nothing",
                    number);
            }
        }
        counted = counted || any;
        listed[prefix] = true;
        zips->hidden[prefix] = !any || people <= FEW_PEOPLE;
    }
    for (size_t i = 0; i < 1000 && counted; i++) {
        zips->hidden[i] = zips->hidden[i] || !listed[i];
    }
    return E_OK;
}

enum err store_zips_open(struct span text, struct store_zips **ret, struct err_info *reterr)
{
    struct store_zips *zips = proto_alloc(1, sizeof *zips);
    if (!zips) {
        return proto_err_set(reterr, E_NO_MEMORY, "reading the list of ZIP prefixes");
    }
    enum err err = text.len ? read_zips(zips, text, reterr) : E_OK;
    for (size_t i = 0; i < sizeof few / sizeof *few && !text.len; i++) {
        zips->hidden[few[i]] = true;
    }
    for (size_t i = 0; i < 5; i++) {
        zips->hidden[i] = true;
    }
    if (err) {
        proto_free(zips);
        return err;
    }
    *ret = zips;
    return E_OK;
}

void store_zip3(const struct store_zips *zips, struct span zip, char ret[4])
{
    uint8_t all[10];
    size_t count = 0;
    for (size_t i = 0; i < zip.len && count < sizeof all; i++) {
        if (digit(zip.ptr[i])) {
            all[count++] = zip.ptr[i];
        }
    }
    memcpy(ret, "000", 4);
    bool eaten = count == 4 || count == 8; /* the zero in front, of a ZIP or a ZIP+4 */
    if (count == 5 || count == 9 || eaten) {
        uint8_t three[3] = {eaten ? '0' : all[0], all[1 - eaten], all[2 - eaten]};
        size_t prefix = (size_t)(three[0] - '0') * 100 + (size_t)(three[1] - '0') * 10 +
                        (size_t)(three[2] - '0');
        if (!zips->hidden[prefix]) {
            memcpy(ret, three, 3);
        }
    }
}

void store_zips_free(struct store_zips *zips)
{
    proto_free(zips);
}

/* --- hierarchies --------------------------------------------------------------------------- */

struct entry {
    struct span value; /* into text */
    const char *group;
};

struct store_hierarchy {
    struct arena arena;
    uint8_t *text;
    struct entry *entries; /* open addressing; a free one has no group */
    size_t mask;
    size_t count;
};

static struct entry *find_entry(const struct store_hierarchy *hierarchy, struct span value)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < value.len; i++) {
        hash = (hash ^ value.ptr[i]) * 1099511628211u;
    }
    size_t at = (size_t)(hash ^ hash >> 32) & hierarchy->mask;
    while (hierarchy->entries[at].group && !span_equal(hierarchy->entries[at].value, value)) {
        at = (at + 1) & hierarchy->mask;
    }
    return &hierarchy->entries[at];
}

/* Field NUMBER of LINE; false when it has fewer. */
static bool field(struct span line, char separator, size_t number, struct span *ret)
{
    for (size_t i = 0;; i++) {
        const uint8_t *end = line.len ? memchr(line.ptr, separator, line.len) : NULL;
        size_t len = end ? (size_t)(end - line.ptr) : line.len;
        if (i == number) {
            *ret = store_parse_trim(span_of(line.ptr, len));
            return true;
        }
        if (!end) {
            return false;
        }
        line = span_of(line.ptr + len + 1, line.len - len - 1);
    }
}

static enum err read_hierarchy(struct store_hierarchy *hierarchy, struct span text, uint32_t level,
                               struct err_info *reterr)
{
    char separator = memchr(text.ptr, ';', text.len) ? ';' : ',';
    struct span line, value, group;
    for (unsigned number = 1; next_line(&text, &line); number++) {
        if (line.len == 0) {
            continue;
        }
        if (!field(line, separator, 0, &value) || !field(line, separator, level, &group) ||
            group.len == 0 || group.len >= PROTO_SCHEMA_VALUE_SIZE || !proto_utf8_valid(group) ||
            memchr(group.ptr, 0, group.len)) {
            return proto_err_set(
                reterr, E_INVALID,
                "the hierarchy, line %u: needs a value and a short text at level %u", number,
                level);
        }
        struct entry *entry = find_entry(hierarchy, value);
        if (entry->group && !span_is(group, entry->group)) {
            return proto_err_set(
                reterr, E_INVALID,
                "the hierarchy, line %u: its value stands further up with another text", number);
        }
        if (!entry->group) {
            entry->value = value;
            entry->group = arena_strdup(&hierarchy->arena, group);
            if (!entry->group) {
                return proto_err_set(reterr, E_NO_MEMORY, "reading the hierarchy");
            }
            hierarchy->count++;
        }
    }
    return hierarchy->count ? E_OK : proto_err_set(reterr, E_INVALID, "the hierarchy is empty");
}

enum err store_hierarchy_open(struct span text, uint32_t level, struct store_hierarchy **ret,
                              struct err_info *reterr)
{
    size_t lines = 1;
    for (size_t i = 0; i < text.len; i++) {
        lines += text.ptr[i] == '\n';
    }
    if (text.len > STORE_TABLE_BYTES_MAX || lines > STORE_TABLE_ROWS_MAX) {
        return proto_err_set(reterr, E_LIMIT, "the hierarchy has more than %zu lines or 16 MiB",
                             STORE_TABLE_ROWS_MAX);
    }
    struct store_hierarchy *hierarchy = proto_alloc(1, sizeof *hierarchy);
    size_t slots = 16;
    while (slots < lines * 2) {
        slots *= 2;
    }
    if (hierarchy) {
        hierarchy->mask = slots - 1;
        hierarchy->text = proto_alloc(text.len + 1, 1);
        hierarchy->entries = proto_alloc(slots, sizeof *hierarchy->entries);
    }
    if (!hierarchy || !hierarchy->text || !hierarchy->entries) {
        store_hierarchy_free(hierarchy);
        return proto_err_set(reterr, E_NO_MEMORY, "reading the hierarchy");
    }
    if (text.len) {
        memcpy(hierarchy->text, text.ptr, text.len);
    }
    enum err err =
        read_hierarchy(hierarchy, span_of(hierarchy->text, text.len), level ? level : 1, reterr);
    if (err) {
        store_hierarchy_free(hierarchy);
        return err;
    }
    *ret = hierarchy;
    return E_OK;
}

const char *store_hierarchy_find(const struct store_hierarchy *hierarchy, struct span value)
{
    return find_entry(hierarchy, value)->group;
}

void store_hierarchy_free(struct store_hierarchy *hierarchy)
{
    if (hierarchy) {
        arena_fini(&hierarchy->arena);
        proto_free(hierarchy->text);
        proto_free(hierarchy->entries);
        proto_free(hierarchy);
    }
}

/* --- keyed --------------------------------------------------------------------------------- */

enum err store_transform_key(const struct crypto_key *dek, const char *label, const char *column,
                             struct crypto_key **ret)
{
    struct buf info = {.max = 256};
    struct crypto_key *key = crypto_key_new();
    enum err err = key ? buf_printf(&info, "concordat/%s/1/%s", label, column) : E_NO_MEMORY;
    err = err ? err : crypto_hkdf_expand(dek->bytes, buf_span(&info), key->bytes, CRYPTO_KEY_SIZE);
    buf_fini(&info);
    if (err) {
        crypto_key_free(key);
        return err;
    }
    *ret = key;
    return E_OK;
}

int store_shift_days(const struct crypto_key *key, struct span identifier)
{
    for (uint8_t round = 0;; round++) {
        struct span parts[2] = {span_of(&round, 1), identifier};
        uint8_t bytes[32];
        crypto_hmac(span_of(key->bytes, CRYPTO_KEY_SIZE), parts, 2, bytes);
        /* Only bytes below the largest multiple of 101 are used, so that every shift is as likely. That none of 32 fits
         * has a chance of 2^-72; then the last byte is taken with its small bias rather than going on for ever. */
        for (size_t i = 0; i < sizeof bytes; i++) {
            if (bytes[i] < 256 / SHIFTS * SHIFTS || (round == UINT8_MAX && i == 31)) {
                return bytes[i] % SHIFTS - PROTO_SHIFT_DAYS_MAX;
            }
        }
    }
}

void store_pseudonym_text(const struct crypto_key *key, struct span identifier, char ret[17])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567"; /* RFC 4648 */
    uint8_t bytes[32];
    crypto_hmac(span_of(key->bytes, CRYPTO_KEY_SIZE), &identifier, 1, bytes);
    for (size_t i = 0; i < 16; i++) {
        size_t bit = i * 5;
        unsigned pair = (unsigned)bytes[bit / 8] << 8 | bytes[bit / 8 + 1];
        ret[i] = letters[pair >> (11 - bit % 8) & 31];
    }
    ret[16] = '\0';
}

/* --- dates --------------------------------------------------------------------------------- */

static bool is_time(struct span text)
{
    for (size_t i = 1; i < text.len; i++) {
        if (!digit(text.ptr[i]) && !strchr(":.+-Z", text.ptr[i])) {
            return false;
        }
    }
    return text.len >= 3 && text.len <= 32 && (text.ptr[0] == 'T' || text.ptr[0] == ' ') &&
           digit(text.ptr[1]);
}

const char *store_parse_record_date(struct span text, double *ret, bool *ret_partial)
{
    struct span trimmed = store_parse_trim(text);
    *ret_partial = trimmed.len == 4 || trimmed.len == 7;
    if (*ret_partial) {
        char whole[11];
        memcpy(whole, "0000-01-01", sizeof whole);
        memcpy(whole, trimmed.ptr, trimmed.len);
        return store_parse_date(span_str(whole), ret);
    }
    if (trimmed.len > 10 && is_time(span_of(trimmed.ptr + 10, trimmed.len - 10))) {
        trimmed.len = 10;
    }
    return store_parse_date(trimmed, ret);
}

int store_years_between(double birth, double day)
{
    int32_t from[3], to[3];
    proto_time_civil((int32_t)birth, &from[0], &from[1], &from[2]);
    proto_time_civil((int32_t)day, &to[0], &to[1], &to[2]);
    bool before = to[1] < from[1] || (to[1] == from[1] && to[2] < from[2]);
    return to[0] - from[0] - before;
}
