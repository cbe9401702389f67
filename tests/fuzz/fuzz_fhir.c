/* The FHIR reader over arbitrary bytes: lines, documents and Bundles, joined with patients and medications, whose table is so
 * small that it goes to disk, and every kind of field. */
#include "config.h"
#include "crypto/provider.h"
#include "node/config/yaml.h"
#include "store/reader_fhir.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char yaml[] =
    "mapping: fuzz\nformat: fhir\nrows: Observation\n"
    "joins: [{resource: Patient, by: subject}, {resource: Medication, by: part}]\n"
    "where: [{path: status, values: [draft], not: true}, {path: code.coding, system: LOINC, "
    "values: [x], not: true}]\n"
    "fields:\n"
    "  - {name: patient, path: subject, as: reference}\n"
    "  - {name: sex, path: Patient.gender, map: [{from: male, to: M}]}\n"
    "  - {name: age, path: effectiveDateTime, as: age}\n"
    "  - {name: dead, path: [Patient.deceasedBoolean, Patient.deceasedDateTime], as: flag}\n"
    "  - {name: code, path: code.coding, system: [LOINC, SNOMED]}\n"
    "  - {name: drug, path: [part.resolve().code.coding, Medication.code.coding], system: RXNORM, "
    "take: display}\n"
    "  - {name: value, path: valueQuantity, as: quantity, unit: g, convert: [{unit: kg, factor: "
    "1000}]}\n"
    "  - {name: day, path: effectiveDateTime, as: date}\n"
    "  - {name: days, path: effectivePeriod.start, until: effectivePeriod.end, as: days}\n"
    "  - {name: any, path: [\"extension[url=u].valueCode\", component.1.valueInteger]}\n";

static void check_row(const struct store_source *source, const struct store_row *row)
{
    if (row->line == 0 || row->count != source->header_count) {
        abort();
    }
    for (size_t i = 0; !row->fault && i < row->count; i++) {
        const struct store_field *field = &row->fields[i];
        if (strlen(field->text) != field->len || (field->null && field->len)) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct proto_mapping mapping;
    struct store_reader_fhir_options options = {.folder = "/tmp", .memory_bytes = 600};
    struct store_source *source = NULL;
    struct store_row row;
    if (!mapping.name &&
        (crypto_init(NULL) || config_yaml_mapping_bytes(span_str(yaml), "fuzz", &mapping, NULL))) {
        abort();
    }
    if (store_reader_fhir_bytes(&mapping, &options, span_of(data, size), &source, NULL)) {
        return 0;
    }
    while (source->next(source, &row, NULL) == E_OK && !row.end) {
        check_row(source, &row);
    }
    source->free(source);
    return 0;
}
