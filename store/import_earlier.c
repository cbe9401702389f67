/* What the data meet: stored rows that are carried over, the keys by which they give way, people who have opted out. */
#include "config.h"
#include "store/import_internal.h"

#include "crypto/provider.h"
#include "store/parse.h"
#include "store/scan.h"

/* Takes the private values over under the codes that stored rows have. */
static enum err carry_values(struct import *import, struct import_column *column, int number)
{
    enum err err = E_OK;
    uint32_t count = column->values.grows ? store_partition_values(import->earlier, number) : 0;
    for (uint32_t code = 0; code < count && !err; code++) {
        struct span text = span_str(store_partition_value(import->earlier, number, code));
        err = store_values_add(&column->values, text, store_values_find(&column->values, text));
    }
    return err;
}

static enum err match_columns(struct import *import, struct err_info *reterr)
{
    const struct proto_schema *stored = store_partition_schema(import->earlier);
    uint8_t hash[32];
    proto_schema_hash(stored, &crypto_proto_hash, hash);
    bool same = memcmp(hash, import->place.schema_hash, sizeof hash) == 0;
    for (size_t i = 0; i < import->count && same; i++) {
        struct import_column *column = &import->columns[i];
        int number = proto_schema_find(stored, column->name);
        same = number >= 0 && store_partition_form(import->earlier, number) == column->form;
        enum err err = same ? carry_values(import, column, number) : E_OK;
        if (err) {
            return proto_err_set(reterr, err, "column %s", column->name);
        }
    }
    return same ? E_OK
                : proto_err_set(reterr, E_SCHEMA,
                                "the columns of %s differ from what is stored: append needs the "
                                "same, an import without it replaces",
                                import->manifest->dataset);
}

static enum err find_key(struct import *import, struct err_info *reterr)
{
    const char *name = import->options->key;
    for (size_t i = 0; name && i < import->count; i++) {
        if (strcmp(import->columns[i].name, name) == 0) {
            import->key = &import->columns[i];
        }
    }
    if (name && !import->key) {
        return proto_err_set(reterr, E_INVALID, "there is no stored column %s to be the key", name);
    }
    return import->key && import->key->form == STORE_FORM_TEXT
               ? proto_err_set(reterr, E_INVALID,
                               "column %s is text: a key is a number, a category or a pseudonym",
                               name)
               : E_OK;
}

enum err import_earlier_open(struct import *import, struct err_info *reterr)
{
    const char *dataset = import->manifest->dataset;
    if (!import->options->append && !import->options->forget) {
        return import->options->key ? proto_err_set(reterr, E_USAGE, "a key belongs to append")
                                    : E_OK;
    }
    enum err err = store_partition_open(import->store, dataset, &import->earlier, reterr);
    if (err == E_NOT_FOUND) {
        return proto_err_set(reterr, err, "there is no dataset %s to append to", dataset);
    }
    err = err ? err : match_columns(import, reterr);
    return err ? err : find_key(import, reterr);
}

static uint64_t key_of(const struct import_column *column)
{
    uint64_t bits = column->code;
    if (column->form == STORE_FORM_NUMBER) {
        double number = column->number + 0.0; /* -0 and 0 are one key */
        memcpy(&bits, &number, sizeof bits);
    }
    return bits;
}

enum err import_key_take(struct import *import, uint64_t line, bool *ret_take,
                         struct err_info *reterr)
{
    struct import_column *key = import->key;
    *ret_take = !key->missing;
    if (key->missing) {
        import_reject(import, line, key->name, "is missing, but it is the key");
        return E_OK;
    }
    enum err err = import_code_assign(key);
    err = err ? err : store_keyset_add(&import->keys, key_of(key), ret_take);
    if (err) {
        return proto_err_set(reterr, err, "line %llu: %s", (unsigned long long)line,
                             err == E_LIMIT ? "too many keys: import the data in parts"
                                            : proto_err_text(err));
    }
    if (!*ret_take) {
        import_reject(import, line, key->name, "has the key of a row further up");
    }
    return E_OK;
}

/* Excluded identifiers are told apart by 64 bits of SHA-256: a million of them meet one of ten million others with a chance of 5e-7. */
static uint64_t unit_hash(struct span identifier)
{
    uint8_t hash[32];
    crypto_sha256_one(identifier, hash);
    return get_be64(hash);
}

bool import_excluded(struct import *import)
{
    bool excluded = import->excluded.count &&
                    store_keyset_has(&import->excluded, unit_hash(import->unit->cell));
    import->report->excluded += excluded;
    return excluded;
}

/* Reads the list of excluded units. Their numbers are known once pseudonyms are loaded, so not in a rehearsal of a new
 * dataset, which has none. */
enum err import_excluded_read(struct import *import, struct err_info *reterr)
{
    struct span rest = import->options->exclude;
    if (rest.len && !import->unit) {
        return proto_err_set(reterr, E_INVALID, "units cannot be excluded where each row is one");
    }
    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end ? (size_t)(end - rest.ptr) : rest.len;
        struct span id = store_parse_trim(span_of(rest.ptr, len));
        rest = span_of(rest.ptr + len + (end != NULL), rest.len - len - (end != NULL));
        uint32_t number;
        bool fresh;
        enum err err = id.len ? store_keyset_add(&import->excluded, unit_hash(id), &fresh) : E_OK;
        if (!err && id.len && import->unit->pseudonyms &&
            store_pseudonym_find(import->unit->pseudonyms, id, &number)) {
            err = store_keyset_add(&import->excluded_numbers, number, &fresh);
            if (!err && import->options->forget) {
                err = store_pseudonym_forget(import->unit->pseudonyms, number);
            }
        }
        if (err) {
            return proto_err_set(reterr, err, "reading the list of excluded units: %s",
                                 proto_err_text(err));
        }
    }
    return E_OK;
}

struct carry {
    struct import *import;
    struct err_info *reterr;
};

static bool carry_cancelled(void *user)
{
    const struct store_import_options *options = ((struct carry *)user)->import->options;
    return options->cancelled && options->cancelled(options->user);
}

/* One stored row: its values stand in the columns as if they had been parsed. */
static void take_stored(struct import *import, const struct store_batch *batch, size_t row)
{
    for (size_t i = 0; i < import->count; i++) {
        struct import_column *column = &import->columns[i];
        const struct store_batch_column *from = &batch->columns[i];
        column->missing = store_batch_missing(batch, i, row);
        if (column->form == STORE_FORM_TEXT) {
            column->cell = span_of(from->text + from->text_start[row],
                                   from->text_start[row + 1] - from->text_start[row]);
        } else if (column->form == STORE_FORM_CODE) {
            column->code = from->code[row];
        } else {
            column->number = store_batch_number(batch, i, row);
        }
    }
}

static enum err carry_batch(void *user, const struct store_batch *batch)
{
    struct carry *carry = user;
    struct import *import = carry->import;
    enum err err = E_OK;
    for (size_t row = 0; row < batch->rows && !err; row++) {
        take_stored(import, batch, row);
        if (import->unit && store_keyset_has(&import->excluded_numbers, import->unit->code)) {
            import->report->excluded++;
            continue;
        }
        if (import->key && !import->key->missing &&
            store_keyset_has(&import->keys, key_of(import->key))) {
            import->report->replaced++;
            continue;
        }
        for (size_t i = 0; i < import->count && !err; i++) {
            err = import_values_put(import, &import->columns[i]);
        }
        import->rows++;
        import->report->rows++;
        import->report->carried++;
        err = err ? proto_err_set(carry->reterr, err, "carrying stored rows over")
                  : import_row_end(import, carry->reterr);
    }
    import_tell(import);
    return err;
}

enum err import_earlier_carry(struct import *import, struct err_info *reterr)
{
    struct carry carry = {import, reterr};
    int numbers[PROTO_SCHEMA_COLUMNS_MAX];
    for (size_t i = 0; i < import->count; i++) {
        numbers[i] =
            proto_schema_find(store_partition_schema(import->earlier), import->columns[i].name);
    }
    enum err err = store_scan_with(import->earlier, numbers, import->count, NULL, false,
                                   carry_cancelled, carry_batch, &carry, NULL, reterr);
    return err;
}
