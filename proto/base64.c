#include "config.h"
#include "proto/base64.h"

static const char *letters_of(enum proto_base64 alphabet)
{
    return alphabet == PROTO_BASE64_URL
               ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
               : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}

enum err proto_base64_encode(enum proto_base64 alphabet, struct span bytes, struct buf *out)
{
    const char *letters = letters_of(alphabet);
    size_t start = out->len;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < bytes.len; i += 3) {
        size_t left = bytes.len - i < 3 ? bytes.len - i : 3;
        uint32_t bits = (uint32_t)bytes.ptr[i] << 16;
        bits |= left > 1 ? (uint32_t)bytes.ptr[i + 1] << 8 : 0;
        bits |= left > 2 ? bytes.ptr[i + 2] : 0;
        char four[4] = {letters[bits >> 18], letters[bits >> 12 & 63], letters[bits >> 6 & 63],
                        letters[bits & 63]};
        if (left < 3) {
            four[3] = '=';
            four[2] = left < 2 ? '=' : four[2];
        }
        err = buf_put(out, span_of(four, alphabet == PROTO_BASE64_URL ? left + 1 : 4));
    }
    out->len = err ? start : out->len;
    return err;
}

/* The padding that the length of what stands before it asks for. */
static bool unpad(enum proto_base64 alphabet, struct span *text)
{
    size_t len = text->len;
    if (alphabet == PROTO_BASE64) {
        while (len && text->ptr[len - 1] == '=' && text->len - len < 2) {
            len--;
        }
        if (text->len % 4) {
            return false;
        }
    }
    text->len = len;
    return len % 4 != 1;
}

enum err proto_base64_decode(enum proto_base64 alphabet, struct span text, struct buf *out)
{
    const char *letters = letters_of(alphabet);
    size_t start = out->len;
    uint32_t bits = 0;
    unsigned have = 0;
    enum err err = unpad(alphabet, &text) ? E_OK : E_INVALID;
    for (size_t i = 0; !err && i < text.len; i++) {
        const char *at = text.ptr[i] ? strchr(letters, text.ptr[i]) : NULL;
        if (!at) {
            err = E_INVALID;
            break;
        }
        bits = (bits << 6 | (uint32_t)(at - letters)) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            uint8_t byte = (uint8_t)(bits >> have);
            err = buf_put(out, span_of(&byte, 1));
        }
    }
    if (!err && (bits & ((1u << have) - 1))) {
        err = E_INVALID;
    }
    out->len = err ? start : out->len;
    return err;
}
