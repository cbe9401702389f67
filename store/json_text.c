#include "config.h"
#include "store/json_text.h"

#include "proto/codec.h"

#include <stdio.h>
#include <stdlib.h>

/* The parser recurses into what it reads, so the depth is looked at first. */
static bool too_deep(struct span text)
{
    unsigned depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > STORE_JSON_DEPTH_MAX) {
                return true;
            }
        } else if (depth && (c == '}' || c == ']')) {
            depth--;
        }
    }
    return false;
}

const char *store_json_parse(struct span text, json_t **ret)
{
    *ret = NULL;
    if (text.len && memchr(text.ptr, 0, text.len)) {
        return "holds a zero byte";
    }
    if (!proto_utf8_valid(text)) {
        return "is not valid UTF-8";
    }
    if (too_deep(text)) {
        return "is nested too deeply";
    }
    json_error_t error;
    json_t *value = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    if (!value) {
        return json_error_code(&error) == json_error_duplicate_key      ? "has a key twice"
               : json_error_code(&error) == json_error_numeric_overflow ? "has a number too large"
               : json_error_code(&error) == json_error_null_character   ? "holds a zero byte"
                                                                        : "is not valid JSON";
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return "is not a JSON object";
    }
    *ret = value;
    return NULL;
}

const char *store_json_scalar(const json_t *value, char number[STORE_JSON_NUMBER],
                              struct store_field *ret)
{
    *ret = (struct store_field){.text = ""};
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_NULL:
        ret->null = true;
        return NULL;
    case JSON_STRING:
        ret->text = json_string_value(value);
        ret->len = json_string_length(value);
        return ret->len > STORE_JSON_FIELD_MAX ? "is too long" : NULL;
    case JSON_INTEGER:
        ret->len = (size_t)snprintf(number, STORE_JSON_NUMBER, "%lld",
                                    (long long)json_integer_value(value));
        break;
    case JSON_REAL: {
        /* The shortest of the two that reads back the same, so that 0.1 stays a short decimal. */
        double real = json_real_value(value);
        ret->len = (size_t)snprintf(number, STORE_JSON_NUMBER, "%.15g", real);
        if (strtod(number, NULL) != real) {
            ret->len = (size_t)snprintf(number, STORE_JSON_NUMBER, "%.17g", real);
        }
        break;
    }
    case JSON_TRUE:
    case JSON_FALSE:
        ret->text = json_is_true(value) ? "true" : "false";
        ret->len = strlen(ret->text);
        return NULL;
    default:
        return "has a list or object where a value belongs";
    }
    ret->text = number;
    return NULL;
}
