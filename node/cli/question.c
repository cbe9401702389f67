/* The text of a question: as it was typed, or from where it is kept. */
#include "config.h"
#include "node/cli/cli.h"

#include "proto/query.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

static enum err too_long(const char *where, struct err_info *reterr)
{
    return proto_err_set(reterr, E_USAGE, "%s: a question has at most %d bytes of SQL", where,
                         PROTO_QUERY_SENT_MAX);
}

/* One byte more than a question may have tells that there is more. */
static enum err read_text(struct cli_call *call, const char *where, FILE *from, const char **ret,
                          struct err_info *reterr)
{
    char *text = arena_alloc(&call->arena, PROTO_QUERY_SENT_MAX + 2, 1);
    if (!text) {
        return E_NO_MEMORY;
    }
    size_t len = fread(text, 1, PROTO_QUERY_SENT_MAX + 1, from);
    if (ferror(from)) {
        return proto_err_set(reterr, E_INVALID, "%s: %s", where, strerror(errno));
    }
    if (len > PROTO_QUERY_SENT_MAX) {
        return too_long(where, reterr);
    }
    if (memchr(text, 0, len)) {
        return proto_err_set(reterr, E_USAGE, "%s: a zero byte is no part of SQL", where);
    }
    while (len && isspace((unsigned char)text[len - 1])) {
        len--;
    }
    text[len] = 0;
    *ret = text;
    return len ? E_OK : proto_err_set(reterr, E_USAGE, "%s: there is no question in it", where);
}

static enum err read_from(struct cli_call *call, const char *typed, const char **ret,
                          struct err_info *reterr)
{
    if (strcmp(typed, "-") == 0) {
        return read_text(call, "standard input", stdin, ret, reterr);
    }
    FILE *from = fopen(typed + 1, "re");
    if (!from) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_INVALID, "%s: %s", typed + 1,
                             strerror(errno));
    }
    enum err err = read_text(call, typed + 1, from, ret, reterr);
    fclose(from);
    return err;
}

enum err cli_question_text(struct cli_call *call, struct err_info *reterr)
{
    for (size_t i = 0; i < call->value_count; i++) {
        struct cli_value *at = &call->values[i];
        if (strcmp(at->argument->name, "SQL") != 0) {
            continue;
        }
        if (strcmp(at->value, "-") == 0 || at->value[0] == '@') {
            return read_from(call, at->value, &at->value, reterr);
        }
        return strlen(at->value) > PROTO_QUERY_SENT_MAX ? too_long("SQL", reterr) : E_OK;
    }
    return E_OK;
}
