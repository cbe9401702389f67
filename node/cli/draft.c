/* dataset draft: a manifest out of somebody else's description of a data set. */
#include "config.h"
#include "node/cli/draft.h"

#include "node/cli/cli.h"
#include "node/config/yaml.h"
#include "proto/duo.h"
#include "proto/spdx.h"
#include "proto/spdx_terms.h"
#include "proto/time.h"
#include "store/file.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#define NAME_MAX_BYTES 63
#define NOTE_MAX_BYTES 300
#define YEAR_SECONDS   (INT64_C(365) * 86400)

/* --- Texts ------------------------------------------------------------------------------------------ */

/* Bytes at TEXT that YAML or a manifest refuses although they are UTF-8: controls of one and two bytes, line
 * separators, the byte order mark, noncharacters. 0: none. */
static size_t unprintable(const uint8_t *text)
{
    if (text[0] < 0x20 || text[0] == 0x7f) {
        return 1;
    }
    if (text[0] == 0xc2 && text[1] >= 0x80 && text[1] <= 0x9f) {
        return 2;
    }
    bool separator = text[0] == 0xe2 && text[1] == 0x80 && (text[2] == 0xa8 || text[2] == 0xa9);
    bool special = text[0] == 0xef &&
                   ((text[1] == 0xbb && text[2] == 0xbf) || (text[1] == 0xbf && text[2] >= 0xbe));
    return separator || special ? 3 : 0;
}

const char *cli_draft_clean(struct cli_draft *draft, const char *text, size_t max)
{
    char *out = text ? arena_strdup(&draft->arena, span_str(text)) : NULL;
    if (!out) {
        draft->short_of_memory |= text != NULL;
        return NULL;
    }
    size_t len = 0;
    for (const uint8_t *at = (const uint8_t *)text; *at;) {
        size_t skip = unprintable(at);
        out[len++] = skip ? ' ' : (char)*at;
        at += skip ? skip : 1;
    }
    if (len > max) {
        len = max;
        while (len && ((uint8_t)out[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    while (len && out[len - 1] == ' ') {
        len--;
    }
    out[len] = 0;
    return out + strspn(out, " ");
}

void cli_draft_note(struct cli_draft *draft, const char *format, ...)
{
    char text[2 * NOTE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *note = cli_draft_clean(draft, text, NOTE_MAX_BYTES);
    if (note && draft->note_count < CLI_DRAFT_NOTES) {
        draft->notes[draft->note_count++] = note;
    }
}

void cli_draft_name(struct cli_draft *draft, const char *text)
{
    const char *slash = strrchr(text, '/');
    char name[NAME_MAX_BYTES + 1];
    size_t len = 0;
    for (const char *at = slash && slash[1] ? slash + 1 : text; *at && len < NAME_MAX_BYTES; at++) {
        int c = tolower((unsigned char)*at);
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (letter || (len && (c == '.' || c == '_' || c == '-'))) {
            name[len++] = (char)c;
        } else if (len && name[len - 1] != '-') {
            name[len++] = '-';
        }
    }
    while (len && name[len - 1] == '-') {
        len--;
    }
    name[len] = 0;
    draft->name = cli_draft_clean(draft, len ? name : "dataset", NAME_MAX_BYTES);
}

/* --- Columns ---------------------------------------------------------------------------------------- */

static bool is_taken(const struct cli_draft *draft, const char *name)
{
    for (size_t i = 0; i < draft->column_count; i++) {
        if (strcasecmp(draft->columns[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static const char *column_name(struct cli_draft *draft, const char *source)
{
    char name[64];
    size_t len = 0;
    for (const char *at = source; *at && len < 48; at++) {
        unsigned char c = (unsigned char)*at;
        bool plain = c < 0x80 && isalnum(c);
        if (plain && len == 0 && isdigit(c)) {
            name[len++] = 'c';
        }
        if (plain || (len && name[len - 1] != '_')) {
            name[len++] = plain ? (char)c : '_';
        }
    }
    while (len && name[len - 1] == '_') {
        len--;
    }
    len = len ? len : (size_t)snprintf(name, sizeof name, "column");
    name[len] = 0;
    for (unsigned n = 2; is_taken(draft, name); n++) {
        snprintf(name + len, sizeof name - len, "_%u", n);
    }
    return cli_draft_clean(draft, name, sizeof name);
}

struct cli_draft_column *cli_draft_column(struct cli_draft *draft, const char *source,
                                          const char *type)
{
    if (!draft->columns) {
        draft->columns =
            arena_alloc(&draft->arena, CLI_DRAFT_COLUMNS, sizeof(struct cli_draft_column));
    }
    draft->short_of_memory |= !draft->columns;
    if (!draft->columns || draft->column_count == CLI_DRAFT_COLUMNS) {
        if (draft->columns) {
            cli_draft_note(draft, "the column %s and what follows it: more than %d columns", source,
                           CLI_DRAFT_COLUMNS);
        }
        return NULL;
    }
    struct cli_draft_column column = {.name = column_name(draft, source), .type = type};
    column.source = cli_draft_clean(draft, source, 127);
    if (!column.name || !column.source) {
        return NULL;
    }
    draft->columns[draft->column_count] = column;
    return &draft->columns[draft->column_count++];
}

/* --- The licence ------------------------------------------------------------------------------------ */

/* Addresses under which licences are named; the creativecommons.org ones are built from their parts. */
static const struct {
    const char *part;
    const char *spdx;
} addresses[] = {
    {"creativecommons.org/publicdomain/zero/1.0", "CC0-1.0"},
    {"opendatacommons.org/licenses/by", "ODC-By-1.0"},
    {"opendatacommons.org/licenses/odbl", "ODbL-1.0"},
    {"opendatacommons.org/licenses/pddl", "PDDL-1.0"},
    {"apache.org/licenses/license-2.0", "Apache-2.0"},
    {"cdla.dev/permissive-2-0", "CDLA-Permissive-2.0"},
    {"cdla.dev/permissive-1-0", "CDLA-Permissive-1.0"},
    {"cdla.dev/sharing-1-0", "CDLA-Sharing-1.0"},
};

/* Names that card writers use and that differ from the id by more than case. */
static const struct {
    const char *said;
    const char *spdx;
} names[] = {
    {"odc-by", "ODC-By-1.0"},
    {"odbl", "ODbL-1.0"},
    {"pddl", "PDDL-1.0"},
    {"cc0", "CC0-1.0"},
};

/* The id as the list spells it. */
static const char *spelled(const char *id)
{
    const char *listed;
    for (size_t i = 0; (listed = proto_spdx_id_at(i)); i++) {
        if (strcasecmp(listed, id) == 0) {
            return listed;
        }
    }
    return NULL;
}

/* "…/licenses/by-nc/4.0/deed.en" is CC-BY-NC-4.0. */
static const char *creative_commons(const char *after)
{
    char kind[16], version[8], id[40];
    if (sscanf(after, "%15[a-z-]/%7[0-9.]", kind, version) != 2) {
        return NULL;
    }
    snprintf(id, sizeof id, "CC-%s-%s", kind, version);
    return spelled(id);
}

static const char *of_address(struct cli_draft *draft, const char *said)
{
    static const char *const lists[] = {"spdx.org/licenses/", "opensource.org/licenses/",
                                        "opensource.org/license/"};
    char *low = arena_strdup(&draft->arena, span_str(said));
    if (!low) {
        draft->short_of_memory = true;
        return NULL;
    }
    for (char *at = low; *at; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        if (strstr(low, addresses[i].part)) {
            return addresses[i].spdx;
        }
    }
    char *at = strstr(low, "creativecommons.org/licenses/");
    if (at) {
        return creative_commons(at + strlen("creativecommons.org/licenses/"));
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        at = strstr(low, lists[i]);
        if (at) {
            char *id = at + strlen(lists[i]);
            id[strcspn(id, "/?#")] = 0;
            char *end = strrchr(id, '.');
            if (end && (strcmp(end, ".html") == 0 || strcmp(end, ".json") == 0)) {
                *end = 0;
            }
            return spelled(id);
        }
    }
    return NULL;
}

static const char *licence_of(struct cli_draft *draft, const char *said)
{
    const char *id = spelled(said);
    for (size_t i = 0; !id && i < sizeof names / sizeof *names; i++) {
        id = strcasecmp(names[i].said, said) == 0 ? names[i].spdx : NULL;
    }
    return id ? id : of_address(draft, said);
}

/* "A AND B" with no parentheses but those that it needs. */
static const char *both_of(struct cli_draft *draft, const char *a, const char *b)
{
    struct proto_spdx_expression expression;
    struct err_info ignored = {0};
    struct buf text = {.max = 1024};
    char whole[512];
    snprintf(whole, sizeof whole, "(%s) AND (%s)", a, b);
    enum err err = proto_spdx_parse(span_str(whole), &expression, &ignored);
    err = err ? err : proto_spdx_print(&expression, &text);
    const char *both = err ? NULL : arena_strdup(&draft->arena, buf_span(&text));
    buf_fini(&text);
    return both ? both : "NOASSERTION";
}

void cli_draft_licence(struct cli_draft *draft, const char *said)
{
    struct proto_spdx_terms terms;
    struct err_info ignored = {0};
    said = cli_draft_clean(draft, said, 200);
    if (!said || !*said) {
        return;
    }
    const char *id = licence_of(draft, said);
    if (!id && !proto_spdx_terms_of(span_str(said), PROTO_READING_CONSERVATIVE, &terms, &ignored)) {
        id = said;
    }
    if (!id) {
        cli_draft_note(draft, "its licence, \"%s\", is on no list: find out what it permits", said);
        id = "NOASSERTION";
    }
    if (!draft->spdx) {
        draft->spdx = id;
    } else if (strcmp(draft->spdx, "NOASSERTION") == 0 || strcmp(id, "NOASSERTION") == 0) {
        draft->spdx = "NOASSERTION"; /* it stands alone */
    } else if (strcmp(draft->spdx, id) != 0) {
        draft->spdx = both_of(draft, draft->spdx, id);
        cli_draft_note(draft, "it names several licences: all of them are taken to apply");
    }
}

void cli_draft_codes(struct cli_draft *draft, const char *text)
{
    for (const char *at = strstr(text, "DUO"); at; at = strstr(at + 3, "DUO")) {
        char curie[16];
        uint64_t code;
        struct err_info why = {0};
        size_t digits = at[3] == '_' || at[3] == ':' ? strspn(at + 4, "0123456789") : 0;
        if (digits < 7 || digits > 8) {
            continue;
        }
        snprintf(curie, sizeof curie, "DUO:%.*s", (int)digits, at + 4);
        enum err err = proto_duo_parse(curie, &code, &why);
        if (err) {
            cli_draft_note(draft, "it names %s: %s", curie, why.text);
        }
        if (err == E_UNSUPPORTED && draft->obsolete_count < CLI_DRAFT_CODES) {
            const char *kept = cli_draft_clean(draft, curie, sizeof curie);
            draft->obsolete[draft->obsolete_count] = kept;
            draft->obsolete_count += kept != NULL;
        }
        if (err) {
            continue;
        }
        bool seen = false;
        for (size_t i = 0; i < draft->code_count; i++) {
            seen |= draft->codes[i] == code;
        }
        if (!seen && draft->code_count < CLI_DRAFT_CODES) {
            draft->codes[draft->code_count++] = code;
        }
    }
}

/* --- Reading ---------------------------------------------------------------------------------------- */

/* The lines between the two "---" of a card. */
static bool front_matter(struct span bytes, struct span *ret)
{
    const char *text = (const char *)bytes.ptr;
    if (bytes.len < 8 || memcmp(text, "---", 3) != 0 || (text[3] != '\n' && text[3] != '\r')) {
        return false;
    }
    for (size_t i = 3; i + 4 <= bytes.len; i++) {
        if (memcmp(text + i, "\n---", 4) == 0) {
            *ret = span_of(bytes.ptr + 4, i + 1 - 4);
            return true;
        }
    }
    return false;
}

static enum err read_card(struct span bytes, const char *name, struct cli_draft *ret,
                          struct err_info *reterr)
{
    struct buf text = {.max = 16 * CONFIG_YAML_BYTES_MAX};
    json_t *json = NULL;
    enum err err = config_yaml_json(bytes, name, &text, reterr);
    if (!err) {
        json = json_loadb((const char *)text.ptr, text.len, 0, NULL);
        err = json ? cli_draft_card(json, ret, reterr)
                   : proto_err_set(reterr, E_INVALID, "%s: its front matter is not a map", name);
    }
    json_decref(json);
    buf_fini(&text);
    return err;
}

enum err cli_draft_read(struct span bytes, const char *name, struct cli_draft *ret,
                        struct err_info *reterr)
{
    struct span front;
    json_error_t at;
    if (bytes.len > CONFIG_YAML_BYTES_MAX) {
        return proto_err_set(reterr, E_LIMIT, "%s: larger than %zu bytes", name,
                             CONFIG_YAML_BYTES_MAX);
    }
    if (front_matter(bytes, &front)) {
        return read_card(front, name, ret, reterr);
    }
    json_t *json = json_loadb((const char *)bytes.ptr, bytes.len, 0, &at);
    if (!json) {
        return proto_err_set(reterr, E_INVALID,
                             "%s:%d:%d: neither Croissant (%s) nor a card that begins with ---",
                             name, at.line, at.column, at.text);
    }
    enum err err = cli_draft_croissant(json, ret, reterr);
    json_decref(json);
    return err;
}

/* --- Printing --------------------------------------------------------------------------------------- */

static enum err put_quoted(struct buf *out, const char *text)
{
    enum err err = buf_put(out, span_str("\""));
    for (; !err && *text; text++) {
        err = *text == '"' || *text == '\\' ? buf_put(out, span_str("\\")) : E_OK;
        err = err ? err : buf_put(out, span_of((const uint8_t *)text, 1));
    }
    return err ? err : buf_put(out, span_str("\""));
}

static enum err put_member(struct buf *out, const char *key, const char *text)
{
    enum err err = text && *text ? buf_printf(out, "%s: ", key) : E_OK;
    err = err || !text || !*text ? err : put_quoted(out, text);
    return err || !text || !*text ? err : buf_put(out, span_str("\n"));
}

static enum err put_column(struct buf *out, const struct cli_draft_column *column)
{
    enum err err = buf_printf(out, "  - {name: \"%s\", type: %s", column->name, column->type);
    for (size_t i = 0; !err && i < column->value_count; i++) {
        err = buf_put(out, span_str(i ? ", " : ", values: ["));
        err = err ? err : put_quoted(out, column->values[i]);
    }
    if (!err && column->value_count) {
        err = buf_put(out, span_str("]"));
    }
    if (!err && strcmp(column->type, "text") == 0) {
        err = buf_put(out, span_str(", deidentify: drop"));
    }
    if (!err && *column->source && strcmp(column->name, column->source) != 0) {
        err = buf_put(out, span_str(", source: "));
        err = err ? err : put_quoted(out, column->source);
    }
    const char *note = column->note;
    if (!note && (strcmp(column->type, "integer") == 0 || strcmp(column->type, "real") == 0)) {
        note = "min and max: from what is known of it, never from the rows";
    } else if (!note && strcmp(column->type, "text") == 0) {
        note = "dropped; a category when its values are known and few";
    }
    return err ? err : buf_printf(out, "}%s%s\n", note ? "  # " : "", note ? note : "");
}

static enum err put_modifier(struct buf *out, bool first, const char *code, const char *why)
{
    return buf_printf(out, "%s        - {code: \"%s\"}  # %s\n", first ? "      modifiers:\n" : "",
                      code, why);
}

/* A restriction that cannot be stated as it is makes the manifest's reader refuse: it is never left out. */
static enum err put_modifiers(struct buf *out, const struct cli_draft *draft)
{
    char text[PROTO_DUO_SIZE];
    bool first = true;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < draft->code_count; i++) {
        if (proto_duo_is_modifier(draft->codes[i])) {
            err = put_modifier(out, first, proto_duo_format(draft->codes[i], text),
                               proto_duo_label(draft->codes[i]));
            first = false;
        }
    }
    for (size_t i = 0; !err && i < draft->obsolete_count; i++) {
        err = put_modifier(out, first, draft->obsolete[i], "obsolete: write what replaces it");
        first = false;
    }
    return err;
}

static enum err put_grant(struct buf *out, const struct cli_draft *draft)
{
    uint64_t permission = PROTO_DUO_HMB;
    for (size_t i = 0; i < draft->code_count; i++) {
        permission = proto_duo_is_permission(draft->codes[i]) ? draft->codes[i] : permission;
    }
    enum err err = buf_printf(out, "  grants:\n    - permission: %s\n", proto_duo_name(permission));
    if (!err && permission == PROTO_DUO_DS) {
        err = buf_put(out,
                      span_str("      disease: []  # which: for instance [\"MONDO:0004992\"]\n"));
    }
    err = err ? err : put_modifiers(out, draft);
    return err ? err
               : buf_put(out, span_str("      actions: [count]\n      min_cohort: 10\n"
                                       "      privacy: {epsilon_total: 1, epsilon_per_query: 0.1, "
                                       "delta: 1e-6}\n"));
}

enum err cli_draft_print(const struct cli_draft *draft, struct buf *out)
{
    char expires[PROTO_TIME_SIZE];
    proto_time_format((int64_t)time(NULL) + YEAR_SECONDS, expires);
    expires[10] = 0;
    enum err err = buf_put(out, span_str("# A draft: read each line, then `concordat dataset "
                                         "import`. What its description left open:\n"));
    for (size_t i = 0; !err && i < draft->note_count; i++) {
        err = buf_printf(out, "#  - %s\n", draft->notes[i]);
    }
    err = err ? err : put_member(out, "dataset", draft->name);
    err = err ? err : put_member(out, "version", draft->version ? draft->version : "1");
    err = err ? err : put_member(out, "title", draft->title);
    if (!err && draft->size) {
        err = buf_printf(out, "size: %llu  # of rows, as described; state how many persons\n",
                         (unsigned long long)draft->size);
    }
    err = err ? err : buf_put(out, span_str("columns:\n"));
    for (size_t i = 0; !err && i < draft->column_count; i++) {
        err = put_column(out, &draft->columns[i]);
    }
    err = err ? err : buf_put(out, span_str("licence:\n"));
    err = err ? err : put_member(out, "  spdx", draft->spdx);
    err =
        err ? err
            : buf_printf(out, "  expires: %s\n  approval: manual  # each use waits for your yes\n",
                         expires);
    err = err ? err : put_member(out, "  contact", draft->contact);
    return err ? err : put_grant(out, draft);
}

void cli_draft_fini(struct cli_draft *draft)
{
    arena_fini(&draft->arena);
}

/* --- The command ------------------------------------------------------------------------------------ */

enum err cli_dataset_draft(struct cli_call *call, json_t **ret, int *ret_exit,
                           struct err_info *reterr)
{
    (void)ret_exit;
    struct cli_draft draft = {0};
    struct proto_manifest manifest = {0};
    struct buf bytes = {.max = CONFIG_YAML_BYTES_MAX};
    struct buf text = {.max = 4 * CONFIG_YAML_BYTES_MAX};
    struct err_info needs = {0};
    const char *path = cli_text(call, "FILE");
    const char *out = cli_text(call, "--out");
    enum err err = store_file_read(path, &bytes, reterr);
    err = err ? err : cli_draft_read(buf_span(&bytes), path, &draft, reterr);
    err = err ? err : cli_draft_print(&draft, &text);
    if (!err) { /* what is still to be filled in is no fault of the draft */
        err = config_yaml_manifest_bytes(buf_span(&text), out ? out : "draft", &manifest, &needs);
        err = err == E_NO_MEMORY ? err : E_OK;
    }
    err = err || !out ? err : cli_write_new(out, buf_span(&text), reterr);
    if (!err && call->json) {
        *ret =
            json_pack("{s:o, s:o, s:o}", "manifest", json_stringn((const char *)text.ptr, text.len),
                      "needs", *needs.text ? json_string(needs.text) : json_null(), "notes",
                      json_integer((json_int_t)draft.note_count));
    } else if (!err) {
        if (!out) {
            fwrite(text.ptr, 1, text.len, stdout);
        }
        fprintf(stderr, "%s%s\n",
                *needs.text ? "before it is accepted: " : "the draft is accepted as it is",
                needs.text);
    }
    proto_manifest_fini(&manifest);
    cli_draft_fini(&draft);
    buf_fini(&text);
    buf_fini(&bytes);
    return err;
}
