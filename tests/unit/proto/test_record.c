/* Records: round trips, the merge order's laws on random sets, equivocation, and every body through its table. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "proto/body.h"
#include "tests/lib/fake_hash.h"
#include "tests/lib/seed.h"

static const uint8_t bytes65[65] = {4, 1, 2, 3};
#define BYTES(n) span_of(bytes65, n)

static struct proto_envelope make(uint64_t seq, uint64_t flags, const char *body)
{
    return (struct proto_envelope){.version = 1,
                                   .kind = PROTO_RECORD_LICENCE,
                                   .issuer = BYTES(16),
                                   .key = BYTES(16),
                                   .seq = seq,
                                   .hlc = 77,
                                   .expires = 99,
                                   .flags = flags,
                                   .body = span_str(body)};
}

/* Encodes, seals and decodes; the bytes stay in OUT. */
static enum err pass(const struct proto_envelope *envelope, struct buf *out,
                     struct proto_record *ret)
{
    static const uint8_t signature[64] = {9};
    struct buf inner = {.max = 8192};
    enum err err = proto_record_encode(envelope, &inner, NULL);
    if (!err) {
        err = proto_record_seal(buf_span(&inner), signature, out);
    }
    buf_fini(&inner);
    return err ? err : proto_record_decode(buf_span(out), &fake_hash, ret, NULL);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct buf out = {.max = 8192};
    struct proto_record record;
    struct proto_envelope envelope = make(3, PROTO_RECORD_MUST_UNDERSTAND, "body");
    envelope.prev = BYTES(16);
    assert_int_equal(pass(&envelope, &out, &record), E_OK);
    assert_int_equal(record.envelope.seq, 3);
    assert_int_equal(record.signature[0], 9);
    assert_true(span_is(record.envelope.body, "body"));
    assert_true(span_equal(record.envelope.prev, BYTES(16)));
    uint8_t id[16];
    proto_record_id(&fake_hash, record.envelope_bytes, id);
    assert_memory_equal(id, record.id, 16);
    for (size_t n = 0; n < out.len; n++) {
        assert_int_not_equal(proto_record_decode(span_of(out.ptr, n), &fake_hash, &record, NULL),
                             E_OK);
    }
    buf_fini(&out);
}

static void test_limits(void **state)
{
    (void)state;
    static char big[PROTO_RECORD_BODY_MAX + 2];
    struct buf out = {.max = 8192};
    struct proto_record record;
    struct proto_envelope envelope = make(1, 0, "x");
    memset(big, 'b', PROTO_RECORD_BODY_MAX);
    envelope.body = span_str(big);
    assert_int_equal(pass(&envelope, &out, &record), E_OK);
    out.len = 0;
    big[PROTO_RECORD_BODY_MAX] = 'b';
    envelope.body = span_str(big);
    assert_int_equal(pass(&envelope, &out, &record), E_LIMIT);
    envelope = make(0, 0, "x");
    assert_int_equal(pass(&envelope, &out, &record), E_LIMIT);
    envelope = make(1, 16, "x");
    assert_int_equal(pass(&envelope, &out, &record), E_LIMIT);
    envelope = make(1, 0, "");
    assert_int_equal(pass(&envelope, &out, &record), E_INVALID);
    envelope = make(2, PROTO_RECORD_FINAL, "");
    envelope.body = span_of("", 0);
    assert_int_equal(pass(&envelope, &out, &record), E_OK);
    envelope = make(1, 0, "x");
    envelope.prev = BYTES(16);
    assert_int_equal(pass(&envelope, &out, &record), E_INVALID);
    buf_fini(&out);
}

static struct proto_record random_record(struct seed *seed)
{
    struct proto_record record = {0};
    record.envelope.issuer = record.envelope.key = BYTES(16);
    record.envelope.seq = 1 + seed_below(seed, 4);
    record.envelope.flags = seed_below(seed, 5) == 0 ? PROTO_RECORD_FINAL : 0;
    record.id[0] = (uint8_t)seed_below(seed, 4);
    record.id[15] = (uint8_t)seed_below(seed, 3);
    return record;
}

static struct proto_record merge(struct proto_record a, struct proto_record b)
{
    return proto_record_compare(&a, &b) >= 0 ? a : b;
}

static bool same(struct proto_record a, struct proto_record b)
{
    return proto_record_compare(&a, &b) == 0 && a.envelope.seq == b.envelope.seq &&
           a.envelope.flags == b.envelope.flags && memcmp(a.id, b.id, 16) == 0;
}

static void test_merge_laws(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(1));
    for (int i = 0; i < 20000; i++) {
        struct proto_record a = random_record(&seed), b = random_record(&seed),
                            c = random_record(&seed);
        assert_true(same(merge(a, b), merge(b, a)));
        assert_true(same(merge(merge(a, b), c), merge(a, merge(b, c))));
        assert_true(same(merge(a, a), a));
        assert_true(same(merge(merge(a, b), b), merge(a, b)));
        assert_int_equal(proto_record_compare(&a, &b), -proto_record_compare(&b, &a));
        if (a.envelope.flags && !b.envelope.flags) {
            assert_true(same(merge(a, b), a)); /* withdrawn stays withdrawn */
        }
    }
}

static void test_arrival_order(void **state)
{
    (void)state;
    struct seed seed = seed_of(seed_number(2));
    for (int round = 0; round < 500; round++) {
        struct proto_record set[8], forward, backward;
        for (size_t i = 0; i < 8; i++) {
            set[i] = random_record(&seed);
        }
        forward = set[0];
        backward = set[7];
        for (size_t i = 0; i < 8; i++) {
            forward = merge(forward, set[i]);
            backward = merge(backward, set[7 - i]);
        }
        assert_true(same(forward, backward));
    }
}

static void test_equivocation(void **state)
{
    (void)state;
    struct buf x = {.max = 8192}, y = {.max = 8192}, z = {.max = 8192};
    struct proto_record a, b, c;
    struct proto_envelope one = make(1, 0, "one"), two = make(1, 0, "two"), three = make(2, 0, "3");
    assert_int_equal(pass(&one, &x, &a), E_OK);
    assert_int_equal(pass(&two, &y, &b), E_OK);
    assert_int_equal(pass(&three, &z, &c), E_OK);
    assert_true(proto_record_equivocates(&a, &b));
    assert_true(proto_record_equivocates(&b, &a));
    assert_false(proto_record_equivocates(&a, &a));
    assert_false(proto_record_equivocates(&a, &c));
    /* The same envelope under another signature is the same record. */
    struct proto_record again = a;
    again.signature[3] ^= 1;
    assert_false(proto_record_equivocates(&a, &again));
    buf_fini(&x);
    buf_fini(&y);
    buf_fini(&z);
}

#define ROUND_TRIP(name, body, expected)                                                           \
    do {                                                                                           \
        struct buf first = {.max = 8192}, second = {.max = 8192};                                  \
        struct arena arena = {0};                                                                  \
        struct proto_##name back;                                                                  \
        enum err rc = proto_##name##_encode(body, &first, NULL);                                   \
        if (!rc) {                                                                                 \
            assert_int_equal(proto_##name##_decode(buf_span(&first), &arena, &back, NULL), E_OK);  \
            assert_int_equal(proto_##name##_encode(&back, &second, NULL), E_OK);                   \
            assert_true(span_equal(buf_span(&first), buf_span(&second)));                          \
            first.ptr[first.ptr[0] == 0xDC ? 3 : 1] =                                              \
                99; /* a newer version is kept apart from a damaged one */                         \
            assert_int_equal(proto_##name##_decode(buf_span(&first), &arena, &back, NULL),         \
                             E_UNSUPPORTED);                                                       \
        }                                                                                          \
        assert_int_equal(rc, expected);                                                            \
        arena_fini(&arena);                                                                        \
        buf_fini(&first);                                                                          \
        buf_fini(&second);                                                                         \
    } while (0)

static struct proto_text role = {{(const uint8_t *)"node", 4}};

static struct proto_member member(void)
{
    return (struct proto_member){.v = 1,
                                 .node_id = BYTES(16),
                                 .name = span_str("alpha"),
                                 .identity_point = BYTES(65),
                                 .tls_spki = BYTES(32),
                                 .org = span_str("org-a"),
                                 .org_type = span_str("nonprofit"),
                                 .country = span_str("DE"),
                                 .roles = {&role, 1},
                                 .not_before = 1,
                                 .expires = 2};
}

static void test_member(void **state)
{
    (void)state;
    struct proto_signature twice[] = {{BYTES(16), BYTES(64)}, {BYTES(16), BYTES(64)}};
    struct proto_member body = member();
    ROUND_TRIP(member, &body, E_OK);
    body.signatures = (struct proto_list){twice, 1};
    ROUND_TRIP(member, &body, E_OK);
    struct buf bare = {.max = 4096}, with = {.max = 4096};
    struct proto_member unsigned_body = member();
    assert_int_equal(proto_member_signed(&body, &with, NULL), E_OK);
    assert_int_equal(proto_member_encode(&unsigned_body, &bare, NULL), E_OK);
    assert_true(span_equal(buf_span(&bare), buf_span(&with)));
    buf_fini(&bare);
    buf_fini(&with);
    body.signatures.count = 2;
    ROUND_TRIP(member, &body, E_INVALID);
    body = member();
    body.org_type = span_str("nonprofits");
    ROUND_TRIP(member, &body, E_INVALID);
    body = member();
    body.country = span_str("de");
    ROUND_TRIP(member, &body, E_INVALID);
    body = member();
    body.name = span_str("Alpha");
    ROUND_TRIP(member, &body, E_INVALID);
    body = member();
    body.expires = 1;
    ROUND_TRIP(member, &body, E_INVALID);
    body = member();
    body.v = 2;
    ROUND_TRIP(member, &body, E_UNSUPPORTED);
}

static void test_other_bodies(void **state)
{
    (void)state;
    struct proto_address address = {1, span_str("tls+tcp://127.0.0.1:7000"), false};
    ROUND_TRIP(address, &address, E_OK);
    address.url = span_str("none");
    ROUND_TRIP(address, &address, E_INVALID);
    address.reverse = true;
    ROUND_TRIP(address, &address, E_OK);
    address.url = span_str("tcp://127.0.0.1:7000");
    ROUND_TRIP(address, &address, E_INVALID);

    struct proto_council_seat seats[] = {{BYTES(16), BYTES(65)}};
    struct proto_charter charter = {.v = 1,
                                    .federation = span_str("fed"),
                                    .federation_id = BYTES(16),
                                    .root_der = BYTES(40),
                                    .council = {seats, 1},
                                    .threshold = 1};
    ROUND_TRIP(charter, &charter, E_OK);
    charter.threshold = 2;
    ROUND_TRIP(charter, &charter, E_INVALID);
    charter.threshold = 1;
    charter.epoch = 1;
    ROUND_TRIP(charter, &charter, E_INVALID);

    struct proto_revoke revoke = {1, BYTES(16), BYTES(16), span_str("why"), 5, {NULL, 0}};
    ROUND_TRIP(revoke, &revoke, E_OK);
    struct proto_endorse endorse = {1, PROTO_RECORD_CHARTER, BYTES(40), BYTES(64)};
    ROUND_TRIP(endorse, &endorse, E_OK);
    endorse.kind = PROTO_RECORD_LICENCE;
    ROUND_TRIP(endorse, &endorse, E_INVALID);
    struct proto_head head = {1, span_str("audit"), 7, BYTES(32)};
    ROUND_TRIP(head, &head, E_OK);
    struct proto_project project = {.v = 1, .name = span_str("study"), .permission = 42};
    ROUND_TRIP(project, &project, E_OK);
    struct proto_visa visa = {.v = 1,
                              .id = BYTES(16),
                              .node = BYTES(16),
                              .person = span_str("ann"),
                              .type = span_str("ResearcherStatus"),
                              .value = span_str("https://doi.org/10.1038/s41431-018-0219-y"),
                              .source = span_str("https://org-a.example"),
                              .asserted = 1000};
    ROUND_TRIP(visa, &visa, E_OK);
    visa.project = span_str("study");
    ROUND_TRIP(visa, &visa, E_INVALID);

    struct proto_model_participant who = {BYTES(16), span_str("org-a"), 4000000, 10};
    struct proto_model model = {.v = PROTO_MODEL_VERSION,
                                .name = span_str("m1"),
                                .job = span_str("j1"),
                                .dataset = span_str("d"),
                                .task = span_str("tabular-classification"),
                                .weights = BYTES(32),
                                .participants = {&who, 1},
                                .epsilon_u = 4000000,
                                .delta_e12 = 1000000,
                                .unit = span_str("row"),
                                .spdx = span_str("CC-BY-4.0"),
                                .metrics = span_str("{}")};
    ROUND_TRIP(model, &model, E_OK);
    model.lineage = BYTES(32);
    ROUND_TRIP(model, &model, E_INVALID);
    model.lineage_size = 1000;
    ROUND_TRIP(model, &model, E_OK);
    model.delta_e12 = 0;
    ROUND_TRIP(model, &model, E_INVALID);
}

static void test_dataset(void **state)
{
    (void)state;
    struct proto_text values[] = {{span_str("F")}, {span_str("M")}};
    struct proto_dataset_column columns[] = {
        {.name = span_str("sex"), .type = 2, .values = {values, 2}, .public_values = true},
        {.name = span_str("age"), .has_bounds = true, .min = 0, .max = 90}};
    struct proto_dataset dataset = {.v = 1,
                                    .name = span_str("chain-study"),
                                    .version = span_str("2026-01"),
                                    .title = span_str("T"),
                                    .unit = span_str("patient"),
                                    .max_rows_per_unit = 4,
                                    .max_nodes_per_unit = 1,
                                    .size = 1000,
                                    .schema_hash = BYTES(32),
                                    .columns = {columns, 2}};
    ROUND_TRIP(dataset, &dataset, E_OK);
    columns[1].max = -1;
    ROUND_TRIP(dataset, &dataset, E_INVALID);
    columns[1].max = 90;
    columns[1].name = span_str("sex");
    ROUND_TRIP(dataset, &dataset, E_INVALID);
    columns[1].name = span_str("age");
    dataset.unit = SPAN_NONE;
    ROUND_TRIP(dataset, &dataset, E_INVALID);
    dataset.max_rows_per_unit = 1;
    ROUND_TRIP(dataset, &dataset, E_OK);
    /* Too much for one record: refused when written, not cut. */
    static struct proto_dataset_column many[200];
    static char names[200][64];
    for (size_t i = 0; i < 200; i++) {
        snprintf(names[i], sizeof names[i], "a-rather-long-name-of-a-column-%zu", i);
        many[i].name = span_str(names[i]);
    }
    dataset.columns = (struct proto_list){many, 200};
    ROUND_TRIP(dataset, &dataset, E_LIMIT);
}

static void test_threshold(void **state)
{
    (void)state;
    static const uint64_t expected[] = {0, 1, 2, 2, 3, 4, 5, 5};
    for (size_t n = 1; n < 8; n++) {
        assert_int_equal(proto_charter_threshold(n), expected[n]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_merge_laws),   cmocka_unit_test(test_arrival_order),
        cmocka_unit_test(test_equivocation), cmocka_unit_test(test_member),
        cmocka_unit_test(test_other_bodies), cmocka_unit_test(test_dataset),
        cmocka_unit_test(test_threshold),
    };
    return cmocka_run_group_tests_name("proto/record", tests, NULL, NULL);
}
