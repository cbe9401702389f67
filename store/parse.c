#include "config.h"
#include "store/parse.h"

#include "proto/time.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

#define EXACT_MAX  ((uint64_t)1 << 53)
#define NUMBER_MAX 64 /* bytes of a number's text */

static bool blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span store_parse_trim(struct span text)
{
    while (text.len && blank(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len && blank(text.ptr[text.len - 1])) {
        text.len--;
    }
    return text;
}

bool store_parse_missing(const struct proto_column *column, struct span text)
{
    struct span trimmed = store_parse_trim(text);
    if (column->missing_count == 0) {
        return trimmed.len == 0;
    }
    for (size_t i = 0; i < column->missing_count; i++) {
        struct span missing = span_str(column->missing[i]);
        if (span_equal(text, missing) || span_equal(trimmed, missing)) {
            return true;
        }
    }
    return false;
}

static bool digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

const char *store_parse_integer(struct span text, double *ret)
{
    struct span rest = store_parse_trim(text);
    bool negative = rest.len && rest.ptr[0] == '-';
    if (rest.len && (rest.ptr[0] == '-' || rest.ptr[0] == '+')) {
        rest = span_of(rest.ptr + 1, rest.len - 1);
    }
    if (rest.len == 0) {
        return text.len ? "is not an integer" : "is empty, which is no missing marker here";
    }
    uint64_t value = 0;
    for (size_t i = 0; i < rest.len; i++) {
        if (!digit(rest.ptr[i])) {
            return "is not an integer";
        }
        value = value * 10 + (uint64_t)(rest.ptr[i] - '0');
        if (value > EXACT_MAX) {
            return "is an integer beyond 2^53";
        }
    }
    *ret = (negative ? -(double)value : (double)value) + 0.0;
    return NULL;
}

/* digits [. digits] [e [sign] digits], at least one digit before the exponent. */
static bool decimal_shape(struct span text)
{
    size_t i = text.len && (text.ptr[0] == '-' || text.ptr[0] == '+');
    size_t digits = 0;
    for (; i < text.len && digit(text.ptr[i]); i++) {
        digits++;
    }
    if (i < text.len && text.ptr[i] == '.') {
        for (i++; i < text.len && digit(text.ptr[i]); i++) {
            digits++;
        }
    }
    if (digits && i < text.len && (text.ptr[i] == 'e' || text.ptr[i] == 'E')) {
        i++;
        i += i < text.len && (text.ptr[i] == '-' || text.ptr[i] == '+');
        size_t start = i;
        while (i < text.len && digit(text.ptr[i])) {
            i++;
        }
        digits = i > start ? digits : 0;
    }
    return digits && i == text.len;
}

/* Up to 15 digits without exponent: mantissa and power of ten are exact doubles, so one division
 * rounds correctly (Clinger 1990). */
static bool short_decimal(struct span text, double *ret)
{
    static const double tens[] = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    bool negative = text.ptr[0] == '-';
    uint64_t mantissa = 0;
    unsigned digits = 0;
    unsigned decimals = 0;
    bool point = false;
    for (size_t i = negative || text.ptr[0] == '+'; i < text.len; i++) {
        if (text.ptr[i] == '.') {
            point = true;
        } else if (!digit(text.ptr[i]) || ++digits > 15) {
            return false;
        } else {
            mantissa = mantissa * 10 + (uint64_t)(text.ptr[i] - '0');
            decimals += point;
        }
    }
    double value = (double)mantissa / tens[decimals];
    *ret = (negative ? -value : value) + 0.0;
    return true;
}

const char *store_parse_real(struct span text, double *ret)
{
    struct span trimmed = store_parse_trim(text);
    if (trimmed.len == 0) {
        return "is empty, which is no missing marker here";
    }
    if (trimmed.len >= NUMBER_MAX || !decimal_shape(trimmed)) {
        return "is not a number";
    }
    if (short_decimal(trimmed, ret)) {
        return NULL;
    }
    char copy[NUMBER_MAX];
    memcpy(copy, trimmed.ptr, trimmed.len);
    copy[trimmed.len] = '\0';
    double value = strtod(copy, NULL);
    memset(copy, 0, sizeof copy);
    if (!isfinite(value)) {
        return "is a number too large";
    }
    *ret = value + 0.0;
    return NULL;
}

const char *store_parse_real_comma(struct span text, double *ret)
{
    struct span trimmed = store_parse_trim(text);
    if (trimmed.len == 0) {
        return store_parse_real(trimmed, ret);
    }
    if (trimmed.len >= NUMBER_MAX || memchr(trimmed.ptr, '.', trimmed.len)) {
        return "is not a number with a decimal comma";
    }
    char copy[NUMBER_MAX];
    memcpy(copy, trimmed.ptr, trimmed.len);
    char *comma = memchr(copy, ',', trimmed.len);
    if (comma) {
        *comma = '.';
    }
    const char *fault = store_parse_real(span_of(copy, trimmed.len), ret);
    memset(copy, 0, sizeof copy);
    return fault;
}

const char *store_parse_boolean(struct span text, uint32_t *ret)
{
    static const char *const words[2][5] = {{"false", "f", "no", "n", "0"},
                                            {"true", "t", "yes", "y", "1"}};
    struct span trimmed = store_parse_trim(text);
    for (uint32_t value = 0; value < 2; value++) {
        for (size_t i = 0; i < 5; i++) {
            const char *word = words[value][i];
            if (strlen(word) == trimmed.len &&
                strncasecmp(word, (const char *)trimmed.ptr, trimmed.len) == 0) {
                *ret = value;
                return NULL;
            }
        }
    }
    return "is neither true nor false";
}

const char *store_parse_date(struct span text, double *ret)
{
    struct span trimmed = store_parse_trim(text);
    char copy[16];
    int32_t days;
    if (!span_to_cstr(trimmed, copy, sizeof copy) || !proto_time_parse_date(copy, &days)) {
        return "is not a date (YYYY-MM-DD)";
    }
    *ret = days;
    return NULL;
}
