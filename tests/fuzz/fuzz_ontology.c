/* Disease hierarchies: any bytes. What parses knows its own terms; each is at or below itself; an unknown one below none. */
#include "config.h"

#include <stdlib.h>

#include "proto/ontology.h"
#include "tests/lib/fake_hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proto_ontology ontology;
    struct err_info info = {0};
    enum err err = proto_ontology_parse(span_of(data, size), &fake_hash, &ontology, &info);
    if (err) {
        if (!info.text[0] || ontology.term_count) {
            abort();
        }
        return 0;
    }
    struct span unknown = span_str("no such term");
    for (size_t i = 0; i < ontology.term_count && i < 64; i++) {
        struct span term = ontology.terms[i];
        if (!proto_ontology_knows(&ontology, term) || !proto_ontology_is_a(&ontology, term, term) ||
            proto_ontology_is_a(&ontology, unknown, term)) {
            abort();
        }
        for (uint32_t p = ontology.first[i]; p < ontology.first[i + 1]; p++) {
            if (!proto_ontology_is_a(&ontology, term, ontology.terms[ontology.ancestors[p]])) {
                abort();
            }
        }
    }
    proto_ontology_fini(&ontology);
    return 0;
}
