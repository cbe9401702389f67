#include "config.h"
#include "node/source/copy_row.h"

#include "proto/codec.h"

static int digits(const char *from, const char *end, int base, int most, unsigned *ret)
{
    int count = 0;
    *ret = 0;
    while (from + count < end && count < most) {
        char c = from[count];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : base;
        if (digit >= base) {
            break;
        }
        *ret = *ret * (unsigned)base + (unsigned)digit;
        count++;
    }
    return count;
}

/* The bytes behind a backslash of COPY's text format, of which *INOUT_AT is the first; the byte that they stand for. */
static char unescape(const char **inout_at, const char *end)
{
    static const char names[] = "bfnrtv";
    static const char bytes[] = "\b\f\n\r\t\v";
    unsigned value;
    const char *at = *inout_at;
    const char *name = *at ? strchr(names, *at) : NULL;
    int count = digits(at, end, 8, 3, &value);
    if (count) {
        *inout_at += count;
        return (char)value;
    }
    count = *at == 'x' ? digits(at + 1, end, 16, 2, &value) : 0;
    *inout_at += count + 1;
    return count ? (char)value : name ? bytes[name - names] : *at;
}

/* One field from AT up to a tab or END, in place; returns where it ended. */
static char *take_field(char *at, char *end, struct store_field *ret)
{
    char *to = at;
    *ret = (struct store_field){.text = at};
    if (end - at >= 2 && at[0] == '\\' && at[1] == 'N' && (end - at == 2 || at[2] == '\t')) {
        at[0] = '\0';
        ret->null = true;
        return at + 2;
    }
    while (at < end && *at != '\t') {
        if (*at == '\\' && at + 1 < end) {
            const char *from = at + 1;
            *to++ = unescape(&from, end);
            at += from - at;
        } else {
            *to++ = *at++;
        }
    }
    ret->len = (size_t)(to - ret->text);
    *to = '\0'; /* at most where the tab or the row's newline stood, or behind the row */
    return at;
}

const char *source_copy_row(char *row, size_t len, struct store_field *fields, size_t count,
                            size_t *ret_at)
{
    char *at = row;
    char *end = row + len - (len && row[len - 1] == '\n');
    *ret_at = 0;
    if (len > SOURCE_COPY_ROW_MAX) {
        return "is in a row that is too long";
    }
    for (size_t i = 0; i < count; i++) {
        struct store_field *field = &fields[i];
        char *stop = take_field(at, end, field);
        bool last = i + 1 == count;
        *ret_at = i;
        if ((stop == end) != last) {
            return "is in a row with another number of fields than the query has";
        }
        if (field->len > SOURCE_COPY_FIELD_MAX) {
            return "is too long";
        }
        if (memchr(field->text, 0, field->len)) {
            return "holds a zero byte";
        }
        if (!proto_utf8_valid(span_of(field->text, field->len))) {
            return "is not valid UTF-8";
        }
        at = stop + !last;
    }
    return NULL;
}
