/* FHIR resources as rows: mapping files and what is wrong with them, the ready mappings over exports and Bundles, references,
 * units, what may reach which column. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "crypto/provider.h"
#include "node/config/yaml.h"
#include "store/fhir_path.h"
#include "store/reader_fhir.h"

#define TEXT(...) #__VA_ARGS__

static struct err_info info;

static void load(const char *yaml, struct proto_mapping *ret)
{
    *ret = (struct proto_mapping){0};
    if (config_yaml_mapping_bytes(span_str(yaml), "m.yaml", ret, &info)) {
        fail_msg("%s", info.text);
    }
}

/* Rows of BYTES, one a line: fields joined by |, - where there is none, or the fault. */
static const char *rows_of(const struct proto_mapping *mapping, const char *bytes)
{
    static char said[16384];
    struct store_reader_fhir_options options = {.folder = "/tmp"};
    struct store_source *source;
    struct store_row row;
    said[0] = '\0';
    if (store_reader_fhir_bytes(mapping, &options, span_str(bytes), &source, &info)) {
        return info.text;
    }
    enum err err;
    while (!(err = source->next(source, &row, &info)) && !row.end) {
        size_t at = strlen(said);
        if (row.fault) {
            snprintf(said + at, sizeof said - at, "%llu %s: %s\n", (unsigned long long)row.line,
                     row.fault_column ? row.fault_column : "", row.fault);
            continue;
        }
        for (size_t i = 0; i < row.count; i++) {
            at = strlen(said);
            assert_int_equal(strlen(row.fields[i].text), row.fields[i].len);
            snprintf(said + at, sizeof said - at, "%s%s",
                     row.fields[i].null ? "-" : row.fields[i].text,
                     i + 1 == row.count ? "\n" : "|");
        }
    }
    if (source->unjoined) {
        size_t at = strlen(said);
        snprintf(said + at, sizeof said - at, "unjoined %llu\n",
                 (unsigned long long)source->unjoined);
    }
    source->free(source);
    return err ? info.text : said;
}

static const char *rows_by(const char *yaml, const char *bytes)
{
    struct proto_mapping mapping;
    load(yaml, &mapping);
    const char *said = rows_of(&mapping, bytes);
    proto_mapping_fini(&mapping);
    return said;
}

/* Rows by a ready mapping, of which only the fields of the list are left, so that a test says what it looks at. */
static const char *rows_ready(const char *name, const char *const *fields, const char *bytes)
{
    struct proto_mapping mapping = {0};
    assert_int_equal(config_yaml_mapping_bytes(config_mapping_text(name), name, &mapping, &info),
                     E_OK);
    size_t count = 0;
    for (; fields[count]; count++) {
        int found = proto_mapping_find(&mapping, fields[count]);
        assert_true(found >= (int)count);
        struct proto_mapping_field swap = mapping.fields[count];
        mapping.fields[count] = mapping.fields[found];
        mapping.fields[found] = swap;
    }
    mapping.field_count = count;
    const char *said = rows_of(&mapping, bytes);
    proto_mapping_fini(&mapping);
    return said;
}

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* --- mapping files --------------------------------------------------------------------------- */

#define HEAD  "mapping: m\nformat: fhir\nrows: Observation\n"
#define JOINS "joins: [{resource: Patient, by: subject}]\n"

static void ready_mappings_are_whole(void **state)
{
    (void)state;
    assert_true(config_mapping_count() >= 5);
    for (size_t i = 0; i < config_mapping_count(); i++) {
        struct proto_mapping mapping = {0};
        const char *name = config_mapping_name(i);
        if (config_yaml_mapping_bytes(config_mapping_text(name), name, &mapping, &info)) {
            fail_msg("%s", info.text);
        }
        assert_string_equal(mapping.name, name);
        assert_non_null(mapping.title);
        proto_mapping_fini(&mapping);
    }
    assert_null(config_mapping_text("nothing").ptr);
}

static void slips_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *said;
    } cases[] = {
        {"mapping: m\nformat: fhir\nfields: [{name: a, path: b}]\n", "rows: must be a type"},
        {"mapping: m\nformat: csv\nfields: [{name: a, path: b}]\n", "m.yaml:2:9: format: must be"},
        {HEAD "fields: [{name: a, path: b, colour: red}]\n", "m.yaml:4:29: unknown key 'colour'"},
        {HEAD "fields: [{name: a, path: b..c}]\n", "has a step that is neither"},
        {HEAD "fields: [{name: a, path: b.}]\n", "is no path"},
        {HEAD "fields: [{name: a, path: \"b[c\"}]\n", "has a step that is neither"},
        {HEAD "fields: [{name: a, path: \"b[=c]\"}]\n", "has a step that is neither"},
        {HEAD "fields: [{name: a, path: a.b.c.d.e.f.g.h.i.j.k.l.m}]\n", "too many steps"},
        {HEAD "fields: [{name: a, path: Patient.gender}]\n", "begins with a type that is neither"},
        {HEAD "fields: [{name: a, path: Observation}]\n", "leads nowhere"},
        {HEAD "fields: [{name: a, path: b}, {name: a, path: c}]\n", "fields[1].name: stands twice"},
        {HEAD "fields: [{name: a, path: b, as: age}]\n", "age needs a join with Patient"},
        {HEAD "fields: [{name: a, path: b, as: days}]\n", "until: belongs to as: days"},
        {HEAD "fields: [{name: a, path: b, until: c}]\n", "until: belongs to as: days"},
        {HEAD "fields: [{name: a, path: b, as: quantity}]\n", "unit: belongs to as: quantity"},
        {HEAD
         "fields: [{name: a, path: b, as: quantity, unit: g, convert: [{unit: kg, factor: 0}]}]\n",
         "needs a factor other than 0"},
        {HEAD "fields: [{name: a, path: b, system: LOINCC}]\n", "system: must be a URL, or LOINC"},
        {HEAD "fields: [{name: a, path: b, system: LOINC, take: version}]\n", "is code or display"},
        {HEAD "fields: [{name: a, path: b, system: LOINC, as: date}]\n", "belongs to a code"},
        {HEAD "joins: [{resource: patient, by: subject}]\nfields: [{name: a, path: b}]\n",
         "joins[0].resource: is no type"},
        {HEAD "joins: [{resource: Observation, by: subject}]\nfields: [{name: a, path: b}]\n",
         "is the type of the rows"},
        {HEAD JOINS
         "where: [{path: Patient.gender, values: [male]}]\nfields: [{name: a, path: b}]\n",
         "where[0].path: must lead from the row"},
        {HEAD "query: SELECT 1\nfields: [{name: a, path: b}]\n", "query: belongs to"},
        {"mapping: m\nformat: postgres\n", "needs one SELECT"},
        {"mapping: m\nformat: postgres\nquery: SELECT 1\nfields: [{name: a, path: b}]\n",
         "of postgres the query says it all"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct proto_mapping mapping = {0};
        info.text[0] = '\0';
        assert_int_equal(
            config_yaml_mapping_bytes(span_str(cases[i].yaml), "m.yaml", &mapping, &info),
            E_INVALID);
        if (!strstr(info.text, cases[i].said)) {
            fail_msg("case %zu: %s", i, info.text);
        }
        proto_mapping_fini(&mapping);
    }
}

/* --- values ---------------------------------------------------------------------------------- */

static void paths_lead_to_values(void **state)
{
    (void)state;
    static const char yaml[] =
        HEAD "fields:\n"
             "  - {name: number, path: a.b}\n"
             "  - {name: first, path: list.x}\n"
             "  - {name: second, path: list.1.x}\n"
             "  - {name: either, path: [nothing, Observation.other]}\n"
             "  - {name: chosen, path: \"extension[url=http://x.y/z].valueCode\"}\n"
             "  - {name: loinc, path: code.coding, system: LOINC}\n"
             "  - {name: shown, path: code.coding, system: [SNOMED, LOINC], take: display}\n"
             "  - {name: inside, path: part.resolve().code}\n"
             "  - {name: yes, path: [gone, died], as: flag}\n"
             "  - {name: day, path: when, as: date}\n"
             "  - {name: days, path: from, until: to, as: days}\n"
             "  - {name: sex, path: sex, map: [{from: female, to: F}, {from: male, to: M}]}\n";
    static const char all[] = TEXT({
        "resourceType" : "Observation",
        "a" : {"b" : 0.1},
        "list" : [ {}, {"x" : null}, {"x" : 3} ],
        "other" : true,
        "extension" :
            [ {"url" : "u", "valueCode" : "no"}, {"url" : "http://x.y/z", "valueCode" : "yes"} ],
        "code" : {
            "coding" : [
                {"system" : "urn:local", "code" : "L"},
                {"system" : "http://loinc.org", "code" : "2160-0", "display" : "Creatinine"}
            ]
        },
        "contained" : [ {"id" : "n"}, {"id" : "m", "code" : "C"} ],
        "part" : {"reference" : "#m"},
        "gone" : false,
        "died" : "2020",
        "when" : "2024-03-01T10:00:00+01:00",
        "from" : "2024-02-28T23:00:00Z",
        "to" : "2024-03-01",
        "sex" : "female"
    });
    assert_string_equal(rows_by(yaml, all),
                        "0.1|3|-|true|yes|2160-0|Creatinine|C|true|2024-03-01|2|F\n");
    assert_string_equal(rows_by(yaml, "{\"resourceType\":\"Observation\",\"sex\":\"intersex\"}"),
                        "-|-|-|-|-|-|-|-|false|-|-|intersex\n");
    assert_string_equal(rows_by(yaml, "{\"resourceType\":\"Observation\",\"other\":{}}"),
                        "1 either: has a list or object where a value belongs\n");
    assert_string_equal(
        rows_by(yaml, "{\"resourceType\":\"Observation\",\"from\":\"soon\",\"to\":\"2020\"}"),
        "1 days: is not a date\n");
}

static void units_are_converted_or_refused(void **state)
{
    (void)state;
    static const char yaml[] = HEAD
        "fields: [{name: mg, path: q, as: quantity, unit: mg/dL, convert: [{unit: umol/L, factor: "
        "0.0113122}]}]\n";
    static const char quantities[] =
        "{\"resourceType\":\"Observation\",\"q\":{\"value\":1.25,\"code\":\"mg/dL\"}}\n"
        "{\"resourceType\":\"Observation\",\"q\":{\"value\":100,\"unit\":\"umol/L\"}}\n"
        "{\"resourceType\":\"Observation\",\"q\":{\"value\":1,\"unit\":\"mg/dL\",\"code\":\"g/"
        "L\"}}\n"
        "{\"resourceType\":\"Observation\",\"q\":{\"value\":1,\"code\":\"mg/"
        "dL\",\"comparator\":\"<\"}}\n"
        "{\"resourceType\":\"Observation\",\"q\":{\"code\":\"mg/dL\"}}\n"
        "{\"resourceType\":\"Observation\"}\n"
        "{\"resourceType\":\"Observation\",\"q\":7}\n";
    assert_string_equal(
        rows_by(yaml, quantities),
        "1.25\n1.13122\n3 mg: is in a unit that the mapping does not know\n"
        "4 mg: is no exact value but has a comparator\n-\n-\n7 mg: is no Quantity\n");
}

static void conditions_choose_rows(void **state)
{
    (void)state;
    static const char yaml[] =
        HEAD "where:\n  - {path: code.coding, system: LOINC, values: [1, 2]}\n"
             "  - {path: status, values: [draft], not: true}\n"
             "fields: [{name: n, path: n}]\n";
    static const char rows[] = "{\"resourceType\":\"Observation\",\"n\":1,\"code\":{\"coding\":[{"
                               "\"system\":\"http://loinc.org\","
                               "\"code\":\"2\"}]}}\n"
                               "{\"resourceType\":\"Observation\",\"n\":2,\"code\":{\"coding\":[{"
                               "\"system\":\"http://snomed.info/sct\","
                               "\"code\":\"2\"}]}}\n"
                               "{\"resourceType\":\"Observation\",\"n\":3,\"status\":\"draft\","
                               "\"code\":{\"coding\":[{\"system\":"
                               "\"http://loinc.org\",\"code\":\"1\"}]}}\n"
                               "{\"resourceType\":\"Observation\",\"n\":4}\n";
    assert_string_equal(rows_by(yaml, rows), "1\n");
}

static void references_name_resources(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
    } cases[] = {
        {"Patient/7", "Patient/7"},
        {"7", "Patient/7"},
        {"http://x/fhir/Patient/7", "Patient/7"},
        {"https://x:8080/a/b/Group/7/_history/3", "Group/7"},
        {"urn:uuid:0a-1b", "urn:uuid:0a-1b"},
        {"#p", NULL},
        {"", NULL},
        {"Patient/", NULL},
        {"/7", "Patient/7"},
    };
    char name[STORE_FHIR_NAME];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool good = store_fhir_reference(cases[i].text, "Patient", name);
        assert_int_equal(good, cases[i].name != NULL);
        assert_true(!good || strcmp(name, cases[i].name) == 0);
    }
    assert_string_equal(store_fhir_id("urn:uuid:0a-1b"), "0a-1b");
    assert_string_equal(store_fhir_id("Patient/7"), "7");
}

/* --- joins ----------------------------------------------------------------------------------- */

#define PATIENT_7                                                                                  \
    "{\"resourceType\":\"Patient\",\"id\":\"7\",\"gender\":\"female\",\"birthDate\":\"1950-05-"    \
    "20\","                                                                                        \
    "\"deceasedDateTime\":\"2024-01-01\"}\n"
#define PATIENT_8                                                                                  \
    "{\"resourceType\":\"Patient\",\"id\":\"8\",\"gender\":\"male\",\"birthDate\":\"2000\"}\n"

static void rows_take_from_their_patient(void **state)
{
    (void)state;
    const char *const *fields = FIELDS("patient", "sex", "birth_date", "deceased", "age", "code");
    /* Patients may stand behind what refers to them; the day before the birthday counts as the age before. */
    static const char lines[] = "{\"resourceType\":\"Condition\",\"subject\":{\"reference\":"
                                "\"Patient/7\"},\"onsetDateTime\":"
                                "\"2020-05-19\",\"code\":{\"coding\":[{\"system\":\"http://hl7.org/"
                                "fhir/sid/icd-10\",\"code\":\"E11\"}]}}\n" PATIENT_7
                                "{\"resourceType\":\"Condition\",\"subject\":{\"reference\":\"http:"
                                "//x/Patient/7/_history/1\"},"
                                "\"onsetDateTime\":\"2020-05-20T08:00:00Z\"}\n"
                                "{\"resourceType\":\"Condition\",\"subject\":{\"reference\":"
                                "\"Patient/8\"},\"recordedDate\":\"2020-03\"}\n"
                                "{\"resourceType\":\"Condition\",\"subject\":{\"reference\":"
                                "\"Patient/9\"},\"recordedDate\":\"2020-03\"}\n"
                                "{\"resourceType\":\"Condition\",\"verificationStatus\":{"
                                "\"coding\":[{\"code\":\"refuted\"}]}}\n" PATIENT_8;
    assert_string_equal(rows_ready("fhir-condition", fields, lines),
                        "7|F|1950-05-20|true|69|E11\n7|F|1950-05-20|true|70|-\n"
                        "8|M|2000|false|20|-\n9|-|-|-|-|-\nunjoined 1\n");
}

static void bundles_resolve_their_urls(void **state)
{
    (void)state;
    const char *const *fields = FIELDS("patient", "sex", "age", "rxnorm");
    static const char bundle[] = TEXT({
        "entry" : [
            {
                "fullUrl" : "urn:uuid:aa",
                "resource" : {
                    "resourceType" : "MedicationRequest",
                    "status" : "active",
                    "subject" : {"reference" : "urn:uuid:bb"},
                    "authoredOn" : "2021-01-01",
                    "medicationReference" : {"reference" : "urn:uuid:cc"}
                }
            },
            {
                "fullUrl" : "urn:uuid:bb",
                "resource" : {
                    "resourceType" : "Patient",
                    "id" : "p1",
                    "gender" : "male",
                    "birthDate" : "1990-12-31"
                },
                "request" : {"method" : "POST", "url" : "Patient"}
            },
            {
                "fullUrl" : "urn:uuid:cc",
                "resource" : {
                    "resourceType" : "Medication",
                    "code" : {
                        "coding" : [ {
                            "system" : "http://www.nlm.nih.gov/research/umls/rxnorm",
                            "code" : "1049630"
                        } ]
                    }
                }
            },
            {"request" : {"method" : "DELETE", "url" : "Patient/4"}}, {
                "fullUrl" : "http://x/fhir/MedicationRequest/3",
                "resource" : {
                    "resourceType" : "MedicationRequest",
                    "status" : "stopped",
                    "subject" : {"reference" : "Patient/p1"},
                    "medicationReference" : {"reference" : "#med"},
                    "contained" : [ {
                        "resourceType" : "Medication",
                        "id" : "med",
                        "code" : {
                            "coding" : [ {
                                "system" : "http://www.nlm.nih.gov/research/umls/rxnorm",
                                "code" : "2"
                            } ]
                        }
                    } ]
                }
            }
        ],
        "type" : "transaction",
        "resourceType" : "Bundle"
    });
    assert_string_equal(rows_ready("fhir-medicationrequest", fields, bundle),
                        "p1|M|30|1049630\np1|M|-|2\n");
    static const char *const types[] = {"history", "message", ""};
    for (size_t i = 0; i < 3; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"resourceType\":\"Bundle\",\"type\":\"%s\",\"entry\":[]}",
                 types[i]);
        assert_non_null(strstr(rows_ready("fhir-patient", FIELDS("patient"), text),
                               "a Bundle whose type is none of"));
    }
    assert_non_null(strstr(
        rows_ready("fhir-patient", FIELDS("patient"),
                   "{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":[{\"resource\":"
                   "{\"resourceType\":\"Bundle\"}}]}"),
        "is a Bundle in a Bundle"));
}

/* A patient who is only being made has no id yet: that of the fullUrl is the one that rows refer to. */
static void patients_without_id_are_named_by_their_url(void **state)
{
    (void)state;
    static const char bundle[] = TEXT({
        "resourceType" : "Bundle",
        "type" : "transaction",
        "entry" : [
            {
                "fullUrl" : "urn:uuid:0b-1c",
                "resource" : {"resourceType" : "Patient", "gender" : "female"}
            },
            {
                "resource" : {
                    "resourceType" : "Encounter",
                    "status" : "finished",
                    "subject" : {"reference" : "urn:uuid:0b-1c"},
                    "class" : {"code" : "IMP"},
                    "period" : {"start" : "2024-01-30T10:00:00Z", "end" : "2024-02-02T09:00:00Z"}
                }
            }
        ]
    });
    assert_string_equal(rows_ready("fhir-patient", FIELDS("patient", "sex"), bundle), "0b-1c|F\n");
    assert_string_equal(
        rows_ready("fhir-encounter", FIELDS("patient", "sex", "class", "days"), bundle),
        "0b-1c|F|IMP|3\n");
}

static void bad_resources_are_named_by_line(void **state)
{
    (void)state;
    static const char lines[] = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n"
                                "{\"resourceType\":\"Patient\",\"id\":\"2\"\n"
                                "{\"resourceType\":\"Patient\",\"id\":\"3\",\"id\":\"4\"}\n"
                                "\n"
                                "{\"id\":\"5\"}\n"
                                "{\"resourceType\":\"Patient\",\"id\":\"\xff\"}\n"
                                "{\"resourceType\":\"Group\",\"id\":[]}\n"
                                "{\"resourceType\":\"Patient\",\"id\":[[]]}\n"
                                "{\"resourceType\":\"Patient\",\"id\":\"6\\u0000\"}\n";
    assert_string_equal(rows_ready("fhir-patient", FIELDS("patient"), lines),
                        "1\n2 : ends in the middle\n3 : has a key twice\n5 : is no FHIR resource\n"
                        "6 : is not valid UTF-8\n-\n9 : holds a zero byte\n");
}

/* --- what may reach a column ------------------------------------------------------------------ */

static void identifying_elements_need_their_operation(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum proto_deidentify good; /* the weakest that is taken; DROP: none other */
    } cases[] = {
        {"gender", PROTO_DEID_NONE},
        {"birthDate", PROTO_DEID_NONE},
        {"address.state", PROTO_DEID_NONE},
        {"address.0.country", PROTO_DEID_NONE},
        {"maritalStatus.coding.display", PROTO_DEID_NONE},
        {"identifier.system", PROTO_DEID_NONE},
        {"identifier.0.type.coding.code", PROTO_DEID_NONE},
        {"identifier.type.text", PROTO_DEID_REDACT},
        {"identifier.assigner.identifier.value", PROTO_DEID_PSEUDONYM},
        {"generalPractitioner.display", PROTO_DEID_DROP},
        {"photo.0.url", PROTO_DEID_DROP},
        {"position.latitude", PROTO_DEID_DROP},
        {"name.family", PROTO_DEID_DROP},
        {"name.0.given.0", PROTO_DEID_DROP},
        {"telecom.value", PROTO_DEID_DROP},
        {"address.city", PROTO_DEID_DROP},
        {"address.line", PROTO_DEID_DROP},
        {"address.text", PROTO_DEID_DROP},
        {"photo.data", PROTO_DEID_DROP},
        {"contact.name.family", PROTO_DEID_DROP},
        {"contact.gender", PROTO_DEID_DROP},
        {"contained.0.gender", PROTO_DEID_DROP},
        {"id", PROTO_DEID_PSEUDONYM},
        {"identifier.0.value", PROTO_DEID_PSEUDONYM_HMAC},
        {"managingOrganization.reference", PROTO_DEID_PSEUDONYM},
        {"address.postalCode", PROTO_DEID_ZIP3},
        {"address.postalCode", PROTO_DEID_GENERALISE},
        {"text.div", PROTO_DEID_REDACT},
        {"maritalStatus.text", PROTO_DEID_GENERALISE},
        {"note.0.text", PROTO_DEID_REDACT},
        {"extension[url=http://x/birthsex].valueCode", PROTO_DEID_DROP},
        {"address.extension[url=x].valueDecimal", PROTO_DEID_DROP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[300];
        struct proto_mapping mapping;
        snprintf(yaml, sizeof yaml,
                 "mapping: m\nformat: fhir\nrows: Patient\nfields: [{name: f, path: \"%s\"}]\n",
                 cases[i].path);
        load(yaml, &mapping);
        struct proto_column column = {.name = "c", .source = "f", .type = PROTO_COLUMN_TEXT};
        struct proto_schema schema = {.columns = &column, .count = 1};
        column.deidentify = cases[i].good;
        if (proto_mapping_fits(&mapping, &schema, &info)) {
            fail_msg("%s: %s", cases[i].path, info.text);
        }
        column.deidentify = PROTO_DEID_DROP;
        assert_int_equal(proto_mapping_fits(&mapping, &schema, &info), E_OK);
        column.deidentify = PROTO_DEID_NONE;
        if (proto_mapping_fits(&mapping, &schema, &info) !=
            (cases[i].good == PROTO_DEID_NONE ? E_OK : E_INVALID)) {
            fail_msg("%s is taken as it stands", cases[i].path);
        }
        proto_mapping_fini(&mapping);
    }
}

static void exceptions_are_said(void **state)
{
    (void)state;
    struct proto_mapping mapping;
    struct proto_column column = {.name = "patient", .type = PROTO_COLUMN_TEXT};
    struct proto_schema schema = {.columns = &column, .count = 1};
    load("mapping: m\nformat: fhir\nrows: Observation\nfields: [{name: patient, path: subject, as: "
         "reference}]\n",
         &mapping);
    assert_int_equal(proto_mapping_fits(&mapping, &schema, &info), E_INVALID);
    assert_non_null(strstr(info.text, "column patient takes an id"));
    snprintf(schema.unit, sizeof schema.unit, "patient"); /* a unit is stored as a number alone */
    assert_int_equal(proto_mapping_fits(&mapping, &schema, &info), E_OK);
    proto_mapping_fini(&mapping);
    load("mapping: m\nformat: fhir\nrows: Patient\nfields: [{name: patient, path: "
         "extension.valueCode, allow: "
         "true}]\n",
         &mapping);
    schema.unit[0] = '\0';
    assert_int_equal(proto_mapping_fits(&mapping, &schema, &info), E_OK);
    proto_mapping_fini(&mapping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_mappings_are_whole),
        cmocka_unit_test(slips_are_named),
        cmocka_unit_test(paths_lead_to_values),
        cmocka_unit_test(units_are_converted_or_refused),
        cmocka_unit_test(conditions_choose_rows),
        cmocka_unit_test(references_name_resources),
        cmocka_unit_test(rows_take_from_their_patient),
        cmocka_unit_test(bundles_resolve_their_urls),
        cmocka_unit_test(patients_without_id_are_named_by_their_url),
        cmocka_unit_test(bad_resources_are_named_by_line),
        cmocka_unit_test(identifying_elements_need_their_operation),
        cmocka_unit_test(exceptions_are_said),
    };
    return crypto_init(&info) ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
