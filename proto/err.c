#include "config.h"
#include "proto/err.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
    enum err_kind kind;
    int exit_code;
} table[ERR_COUNT] = {
#define X(code, name, kind, exit_code, text) [code] = {name, text, ERR_KIND_##kind, exit_code},
    PROTO_ERRORS(X)
#undef X
};

static const char *const kind_names[] = {"none",   "bug",  "usage", "missing",   "policy",
                                         "budget", "peer", "input", "integrity", "busy"};

static enum err known(enum err code)
{
    return (unsigned)code < ERR_COUNT ? code : E_INTERNAL;
}

const char *proto_err_name(enum err code)
{
    return table[known(code)].name;
}

const char *proto_err_text(enum err code)
{
    return table[known(code)].text;
}

enum err_kind proto_err_kind(enum err code)
{
    return table[known(code)].kind;
}

const char *proto_err_kind_name(enum err_kind kind)
{
    return (unsigned)kind < sizeof kind_names / sizeof *kind_names ? kind_names[kind] : "bug";
}

int proto_err_exit(enum err code)
{
    return table[known(code)].exit_code;
}

enum err proto_err_by_name(const char *name)
{
    for (int i = 0; i < ERR_COUNT; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return (enum err)i;
        }
    }
    return E_INTERNAL;
}

enum err proto_err_set(struct err_info *reterr, enum err code, const char *format, ...)
{
    if (reterr) {
        va_list args;
        va_start(args, format);
        reterr->code = code;
        vsnprintf(reterr->text, sizeof reterr->text, format, args);
        va_end(args);
    }
    return code;
}

void proto_err_frame(struct err_info *reterr, const char *format, ...)
{
    if (!reterr) {
        return;
    }
    size_t used = strlen(reterr->text);
    if (used + 10 >= sizeof reterr->text) {
        return;
    }
    int n = snprintf(reterr->text + used, sizeof reterr->text - used, used ? " (while " : "");
    used += (size_t)n;
    va_list args;
    va_start(args, format);
    vsnprintf(reterr->text + used, sizeof reterr->text - used, format, args);
    va_end(args);
    size_t end = strlen(reterr->text);
    if (n > 0 && end + 1 < sizeof reterr->text) {
        reterr->text[end] = ')';
        reterr->text[end + 1] = '\0';
    }
}
