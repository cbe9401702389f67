/* What a person writes for a disease, a country or a DUO code: any bytes. A refusal says why; what is taken is well formed. */
#include "config.h"

#include <stdlib.h>

#include "proto/duo.h"
#include "proto/licence.h"
#include "proto/ontology.h"
#include "proto/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err_info curie = {0}, place = {0}, duo = {0}, research = {0};
    struct span text = span_of(data, size);
    struct proto_text one = {text};
    struct proto_list list = {&one, 1};
    char copy[256];
    uint64_t number;
    enum err err = proto_curie_check(text, &curie);
    if (err ? !curie.text[0] : !memchr(data, ':', size)) {
        abort();
    }
    err = proto_geography_check(text, &place);
    if (err ? !place.text[0] : size < 2 || size > 6) {
        abort();
    }
    err = proto_research_parse(&list, &number, &research);
    if (err ? !research.text[0] : (number & ~PROTO_RESEARCH_ALL) != 0) {
        abort();
    }
    if (span_to_cstr(text, copy, sizeof copy)) {
        err = proto_duo_parse(copy, &number, &duo);
        char formatted[PROTO_DUO_SIZE];
        uint64_t again;
        if (err ? !duo.text[0]
                : proto_duo_parse(proto_duo_format(number, formatted), &again, NULL) ||
                      again != number) {
            abort();
        }
    }
    (void)proto_obligation_nearest(text);
    return 0;
}
