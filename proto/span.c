#include "config.h"
#include "proto/span.h"

bool span_to_cstr(struct span from, char *to, size_t size)
{
    if (from.len >= size || (from.len && memchr(from.ptr, 0, from.len))) {
        return false;
    }
    if (from.len) {
        memcpy(to, from.ptr, from.len);
    }
    to[from.len] = '\0';
    return true;
}

void span_to_hex(struct span from, char *to)
{
    static const char digit[] = "0123456789abcdef";
    for (size_t i = 0; i < from.len; i++) {
        to[2 * i] = digit[from.ptr[i] >> 4];
        to[2 * i + 1] = digit[from.ptr[i] & 15];
    }
    to[2 * from.len] = '\0';
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool span_from_hex(const char *hex, uint8_t *to, size_t len)
{
    if (!hex || strlen(hex) != 2 * len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        int high = nibble(hex[2 * i]);
        int low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
