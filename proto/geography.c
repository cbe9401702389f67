#include "config.h"
#include "proto/geography.h"
#include "proto/countries.h"
#include "proto/nearest.h"

/* The 27 member states; the EEA adds the last three. */
static const char *const eea[] = {"AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI",
                                  "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV", "MT",
                                  "NL", "PL", "PT", "RO", "SE", "SI", "SK", "IS", "LI", "NO"};
#define EU_COUNT  27
#define EEA_COUNT 30
_Static_assert(sizeof eea / sizeof *eea == EEA_COUNT, "27 member states and three");

static const struct {
    const char *code;
    const char *name;
} countries[] = {
#define X(code, name) {code, name},
    PROTO_COUNTRIES(X)
#undef X
};
#define COUNTRIES (sizeof countries / sizeof *countries)

bool proto_geography_valid(struct span code)
{
    if (code.len < 2 || code.len > 6 || code.len == 3 || (code.len > 3 && code.ptr[2] != '-')) {
        return false;
    }
    for (size_t i = 0; i < code.len; i++) {
        char c = (char)code.ptr[i];
        bool letter = c >= 'A' && c <= 'Z';
        bool digit = c >= '0' && c <= '9';
        if (i != 2 && !letter && !(i > 2 && digit)) {
            return false;
        }
    }
    return true;
}

bool proto_geography_within(struct span place, struct span area)
{
    return span_equal(place, area) || (place.len > 2 && span_equal(span_of(place.ptr, 2), area));
}

bool proto_geography_expand(const char *code, const char *const **ret_codes, size_t *ret_count)
{
    *ret_codes = eea;
    *ret_count = 0;
    if (strcmp(code, "EU") == 0) {
        *ret_count = EU_COUNT;
    } else if (strcmp(code, "EEA") == 0) {
        *ret_count = EEA_COUNT;
    }
    return *ret_count > 0 || proto_geography_valid(span_str(code));
}

const char *proto_geography_name(struct span country)
{
    for (size_t i = 0; i < COUNTRIES; i++) {
        if (span_is(country, countries[i].code)) {
            return countries[i].name;
        }
    }
    return NULL;
}

/* A name is nearer than a code: two letters that differ by one are near to a dozen countries. */
static const char *nearest_country(struct span wanted)
{
    struct proto_nearest names = proto_nearest_to(wanted), codes = names;
    for (size_t i = 0; i < COUNTRIES; i++) {
        proto_nearest_try(&names, span_str(countries[i].name));
        proto_nearest_try(&codes, span_str(countries[i].code));
    }
    for (size_t i = 0; i < COUNTRIES && wanted.len > 3; i++) {
        if (span_is(names.best, countries[i].name)) {
            return countries[i].code;
        }
    }
    return (const char *)codes.best.ptr;
}

enum err proto_geography_check(struct span code, struct err_info *reterr)
{
    struct span country = span_of(code.ptr, code.len < 2 ? code.len : 2);
    if (span_is(code, "EU") || span_is(code, "EEA") ||
        (proto_geography_valid(code) && proto_geography_name(country))) {
        return E_OK;
    }
    /* Of "UK-ENG" the country is what is wrong. */
    bool subdivision = proto_geography_valid(code) && code.len > 2;
    const char *near = span_is(country, "UK") ? "GB"
                       : span_is(code, "USA") ? "US"
                                              : nearest_country(subdivision ? country : code);
    const char *name = near ? proto_geography_name(span_str(near)) : NULL;
    return proto_err_set(reterr, E_INVALID,
                         "not an ISO 3166 country: write two capital letters such as DE, a "
                         "subdivision such as DE-BY, EU or EEA%s%s%s%s%s",
                         near ? "; the nearest is " : "", near ? near : "", name ? " (" : "",
                         name ? name : "", name ? ")" : "");
}
