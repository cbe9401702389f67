/* The two signed messages of a query: what goes in comes out, and nothing else is let in. */
#include "config.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "crypto/provider.h"
#include "node/query/message.h"
#include "store/audit.h"
#include "tests/lib/seed.h"

static struct crypto_identity *identity;
static const uint8_t federation[16] = {7, 7, 7};
static uint8_t zeros[QUERY_CELLS_MAX * 8];

static int setup(void **state)
{
    (void)state;
    struct err_info info = {0};
    return crypto_init(&info) || crypto_identity_generate(&identity);
}

static int teardown(void **state)
{
    (void)state;
    crypto_identity_free(identity);
    return 0;
}

static const struct proto_text diseases[] = {{{(const uint8_t *)"MONDO:0005148", 13}},
                                             {{(const uint8_t *)"MONDO:0005015", 13}}};
static struct query_node_ref sites[QUERY_SITES_MAX + 1];

static struct query_request request(size_t site_count)
{
    for (size_t i = 0; i <= QUERY_SITES_MAX; i++) {
        sites[i].node = span_of(zeros + i, 16);
    }
    return (struct query_request){
        .version = QUERY_VERSION,
        .query_id = span_of("0123456789abcdef", 16),
        .dataset = span_str("flchain"),
        .schema_hash = span_of(zeros, 32),
        .sql = span_str("SELECT COUNT(*) FROM flchain"),
        .epsilon_u = 1000000,
        .delta_e12 = 1000000,
        .explain = true,
        .purpose = {.permission = 42,
                    .diseases = {(void *)(uintptr_t)diseases, 2},
                    .person = span_str("ada"),
                    .project = span_str("heart"),
                    .has_research = true,
                    .research = 3,
                    .ethics_ref = span_str("EK-1"),
                    .ethics_expires = 1900000000},
        .sites = {sites, site_count},
        .time = 1800000000,
    };
}

static enum err seal(const struct query_request *from, struct buf *out)
{
    return query_message_seal(&query_request_message, from, QUERY_REQUEST_DOMAIN, identity,
                              federation, out, NULL);
}

static enum err open_as(struct span bytes, const char *domain, const uint8_t point[65],
                        const uint8_t fed[16], struct query_request *ret)
{
    static struct arena arena;
    arena_fini(&arena);
    arena = (struct arena){0};
    return query_message_open(&query_request_message, bytes, domain, point, fed, &arena, ret, NULL);
}

static void request_round_trip(void **state)
{
    (void)state;
    struct buf bytes = {.max = PROTO_CODEC_MAX};
    struct buf again = {.max = PROTO_CODEC_MAX};
    struct query_request from = request(3);
    struct query_request to;
    const uint8_t *point = crypto_identity_point(identity);
    assert_int_equal(seal(&from, &bytes), E_OK);
    assert_int_equal(open_as(buf_span(&bytes), QUERY_REQUEST_DOMAIN, point, federation, &to), E_OK);
    assert_true(span_equal(to.sql, from.sql) && span_equal(to.query_id, from.query_id));
    assert_true(span_equal(to.purpose.person, from.purpose.person) &&
                span_equal(to.purpose.project, from.purpose.project));
    assert_int_equal(to.epsilon_u, 1000000);
    assert_int_equal(to.delta_e12, 1000000);
    assert_true(to.explain && !to.secure && !to.purpose.has_commercial);
    assert_int_equal(to.purpose.diseases.count, 2);
    assert_true(span_equal(((const struct proto_text *)to.purpose.diseases.items)[1].text,
                           span_str("MONDO:0005015")));
    assert_int_equal(to.sites.count, 3);
    assert_int_equal(to.time, 1800000000);
    /* What came in goes out as the same body. */
    struct buf body = {.max = PROTO_CODEC_MAX};
    assert_int_equal(proto_codec_encode(&query_request_message, &from, &body, NULL), E_OK);
    assert_int_equal(proto_codec_encode(&query_request_message, &to, &again, NULL), E_OK);
    assert_true(span_equal(buf_span(&body), buf_span(&again)));
    buf_fini(&body);
    buf_fini(&again);
    buf_fini(&bytes);
}

static void another_signer_domain_or_federation_is_refused(void **state)
{
    (void)state;
    struct buf bytes = {.max = PROTO_CODEC_MAX};
    struct query_request from = request(1);
    struct query_request to;
    struct crypto_identity *other;
    const uint8_t *point = crypto_identity_point(identity);
    const uint8_t elsewhere[16] = {8};
    assert_int_equal(crypto_identity_generate(&other), E_OK);
    assert_int_equal(seal(&from, &bytes), E_OK);
    assert_int_equal(open_as(buf_span(&bytes), "concordat1-answer", point, federation, &to),
                     E_AUTH);
    assert_int_equal(open_as(buf_span(&bytes), QUERY_REQUEST_DOMAIN, point, elsewhere, &to),
                     E_AUTH);
    assert_int_equal(open_as(buf_span(&bytes), QUERY_REQUEST_DOMAIN, crypto_identity_point(other),
                             federation, &to),
                     E_AUTH);
    assert_int_equal(open_as(buf_span(&bytes), QUERY_REQUEST_DOMAIN, point, federation, &to), E_OK);
    crypto_identity_free(other);
    buf_fini(&bytes);
}

/* Every byte matters; and what is cut short or has something behind it is no message. */
static void damage_is_refused(void **state)
{
    (void)state;
    struct buf bytes = {.max = PROTO_CODEC_MAX};
    struct query_request from = request(2);
    struct query_request to;
    const uint8_t *point = crypto_identity_point(identity);
    struct seed seed = seed_of(seed_number(1));
    assert_int_equal(seal(&from, &bytes), E_OK);
    for (size_t at = 0; at < bytes.len; at++) {
        uint8_t flip = (uint8_t)(1u << seed_below(&seed, 8));
        bytes.ptr[at] ^= flip;
        assert_int_not_equal(
            open_as(buf_span(&bytes), QUERY_REQUEST_DOMAIN, point, federation, &to), E_OK);
        bytes.ptr[at] ^= flip;
    }
    for (size_t len = 0; len < bytes.len; len += 7) {
        assert_int_not_equal(
            open_as(span_of(bytes.ptr, len), QUERY_REQUEST_DOMAIN, point, federation, &to), E_OK);
    }
    assert_int_equal(open_as(buf_span(&bytes), QUERY_REQUEST_DOMAIN, point, federation, &to), E_OK);
    assert_int_equal(buf_put(&bytes, span_of(zeros, 1)), E_OK);
    assert_int_not_equal(open_as(buf_span(&bytes), QUERY_REQUEST_DOMAIN, point, federation, &to),
                         E_OK);
    buf_fini(&bytes);
}

/* The sender's encoder keeps the limits that the receiver's decoder tests. */
static void limits_hold(void **state)
{
    (void)state;
    static char long_text[QUERY_SQL_MAX + 2];
    struct query_request good = request(QUERY_SITES_MAX);
    struct buf bytes = {.max = PROTO_CODEC_MAX};
    memset(long_text, 'x', sizeof long_text - 1);
    good.sql = span_of(long_text, QUERY_SQL_MAX);
    assert_int_equal(seal(&good, &bytes), E_OK);
    for (int what = 0; what < 8; what++) {
        struct query_request bad = good;
        switch (what) {
        case 0:
            bad.sql = span_of(long_text, QUERY_SQL_MAX + 1);
            break;
        case 1:
            bad.sites.count = QUERY_SITES_MAX + 1;
            break;
        case 2:
            bad.sites.count = 0;
            break;
        case 3:
            bad.epsilon_u = 0;
            break;
        case 4:
            bad.delta_e12 = UINT64_C(1000000000000);
            break;
        case 5:
            bad.query_id = span_of(zeros, 15);
            break;
        case 6:
            bad.version = QUERY_VERSION + 1;
            break;
        default:
            bad.purpose.person = span_of(long_text, 129);
        }
        bytes.len = 0;
        assert_int_not_equal(seal(&bad, &bytes), E_OK);
    }
    buf_fini(&bytes);
}

static void answer_round_trip(void **state)
{
    (void)state;
    struct query_coordinate coordinates[] = {{-17, 123456789, 8}, {0, 5, 1}};
    struct query_clause clauses[] = {
        {span_str("permission"), span_str("GRU"), 1, span_str(""), -1}};
    struct query_answer from = {.version = QUERY_VERSION,
                                .query_id = span_of(zeros, 16),
                                .status = QUERY_ANSWERED,
                                .error = span_str("OK"),
                                .clauses = {clauses, 1},
                                .cells = 40,
                                .coordinates = {coordinates, 2},
                                .values = span_of(zeros, 40 * 2 * 8),
                                .withheld = span_of(zeros, 40),
                                .cost_nano = 12,
                                .head = span_of(zeros, STORE_AUDIT_HEAD_SIZE)};
    struct query_answer to;
    struct arena arena = {0};
    struct buf bytes = {.max = PROTO_CODEC_MAX};
    assert_int_equal(query_answer_put(&from, &bytes, NULL), E_OK);
    assert_int_equal(query_answer_take(buf_span(&bytes), &arena, &to, NULL), E_OK);
    const struct query_coordinate *got = to.coordinates.items;
    assert_int_equal(to.coordinates.count, 2);
    assert_int_equal(got[0].grid_log2, -17);
    assert_int_equal(got[0].sigma2_num, 123456789);
    assert_int_equal(to.values.len, 640);
    assert_true(span_equal(((const struct query_clause *)to.clauses.items)[0].clause,
                           span_str("permission")));
    assert_int_equal(to.cost_nano, 12);
    /* An answer is not a request, nor is one that is cut short or goes on. */
    struct query_request request;
    assert_int_not_equal(
        query_message_peek(&query_request_message, buf_span(&bytes), &arena, &request, NULL), E_OK);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_int_not_equal(query_answer_take(span_of(bytes.ptr, len), &arena, &to, NULL), E_OK);
    }
    assert_int_equal(buf_put(&bytes, span_of(zeros, 1)), E_OK);
    assert_int_not_equal(query_answer_take(buf_span(&bytes), &arena, &to, NULL), E_OK);
    coordinates[0].sigma2_den = 0;
    bytes.len = 0;
    assert_int_not_equal(query_answer_put(&from, &bytes, NULL), E_OK);
    buf_fini(&bytes);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_round_trip),
        cmocka_unit_test(another_signer_domain_or_federation_is_refused),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(answer_round_trip),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
