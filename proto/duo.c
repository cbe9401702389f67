#include "config.h"
#include "proto/duo.h"
#include "proto/nearest.h"

#include <stdio.h>

static const struct {
    uint64_t code;
    const char *name;
    const char *label;
} codes[] = {
#define X(number, name, kind, label) {number, #name, label},
    PROTO_DUO_CODES(X)
#undef X
};
#define CODE_COUNT (sizeof codes / sizeof *codes)

static const struct {
    uint64_t code;
    const char *name;
    const char *hint;
} obsolete[] = {
    {2, "NRES-OLD", "use DUO:0000004 (NRES)"},
    {3, "GRU-OLD", "use DUO:0000042 (GRU)"},
    {5, "GRU-CC", "use DUO:0000042 (GRU) with the modifier DUO:0000043 (CC)"},
    {14, "RU", "use DUO:0000042 (GRU) with the modifier DUO:0000046 (NCU)"},
};

/* The sort of each number, at hand for decisions: 0 where there is no such code. */
static char kind_of(uint64_t code)
{
    static const char kinds[64] = {
#define X(number, name, kind, label) [number] = #kind[0],
        PROTO_DUO_CODES(X)
#undef X
    };
    return code < sizeof kinds ? kinds[code] : 0;
}

static size_t find(uint64_t code)
{
    size_t i = 0;
    while (i < CODE_COUNT && codes[i].code != code) {
        i++;
    }
    return i;
}

/* "DUO:" and 7 digits, or 8 as the ontology's own file spells NPOA. */
static bool parse_number(const char *text, uint64_t *ret)
{
    size_t len = strlen(text);
    if (strncmp(text, "DUO:", 4) != 0 || (len != 11 && len != 12)) {
        return false;
    }
    uint64_t value = 0;
    for (const char *p = text + 4; *p; p++) {
        if (*p < '0' || *p > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(*p - '0');
    }
    *ret = value;
    return len == 11 || text[4] == '0';
}

static enum err no_such_code(const char *text, struct err_info *reterr)
{
    struct proto_nearest nearest = proto_nearest_to(span_str(text));
    char formatted[CODE_COUNT][PROTO_DUO_SIZE];
    for (size_t i = 0; i < CODE_COUNT; i++) {
        proto_nearest_try(&nearest, span_str(codes[i].name));
        proto_nearest_try(&nearest, span_str(proto_duo_format(codes[i].code, formatted[i])));
    }
    uint64_t code = 0;
    for (size_t i = 0; i < CODE_COUNT && nearest.best.ptr; i++) {
        if (span_is(nearest.best, codes[i].name) || span_is(nearest.best, formatted[i])) {
            code = codes[i].code;
        }
    }
    if (!code) {
        return proto_err_set(reterr, E_INVALID, "not a DUO code: write \"DUO:0000042\" or \"GRU\"");
    }
    char number[PROTO_DUO_SIZE];
    return proto_err_set(reterr, E_INVALID, "not a DUO code; the nearest is %s (%s, %s)",
                         proto_duo_format(code, number), proto_duo_name(code),
                         proto_duo_label(code));
}

enum err proto_duo_parse(const char *text, uint64_t *ret_code, struct err_info *reterr)
{
    uint64_t number = 0;
    bool numeric = parse_number(text, &number);
    for (size_t i = 0; i < sizeof obsolete / sizeof *obsolete; i++) {
        if (numeric ? obsolete[i].code == number : strcmp(obsolete[i].name, text) == 0) {
            return proto_err_set(reterr, E_UNSUPPORTED, "%.20s is obsolete: %s", text,
                                 obsolete[i].hint);
        }
    }
    for (size_t i = 0; i < CODE_COUNT; i++) {
        if (numeric ? codes[i].code == number : strcmp(codes[i].name, text) == 0) {
            *ret_code = codes[i].code;
            return E_OK;
        }
    }
    return no_such_code(text, reterr);
}

const char *proto_duo_name(uint64_t code)
{
    size_t i = find(code);
    return i < CODE_COUNT ? codes[i].name : "unknown";
}

const char *proto_duo_label(uint64_t code)
{
    size_t i = find(code);
    return i < CODE_COUNT ? codes[i].label : "unknown";
}

const char *proto_duo_format(uint64_t code, char text[PROTO_DUO_SIZE])
{
    snprintf(text, PROTO_DUO_SIZE, "DUO:%07u", (unsigned)(code % 10000000));
    return text;
}

bool proto_duo_is_permission(uint64_t code)
{
    return kind_of(code) == 'P';
}

bool proto_duo_is_modifier(uint64_t code)
{
    return kind_of(code) == 'M';
}

bool proto_duo_is_purpose(uint64_t code)
{
    return (proto_duo_is_permission(code) && code != PROTO_DUO_NRES) || code == PROTO_DUO_CC ||
           code == PROTO_DUO_MDS;
}
