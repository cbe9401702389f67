/* The rules of de-identification, one by one. */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "crypto/provider.h"
#include "proto/time.h"
#include "store/redact.h"
#include "store/transform.h"

static void zip_codes(void **state)
{
    (void)state;
    static const struct {
        const char *zip, *three;
    } cases[] = {
        {"10001", "100"},    {"2743", "027"},  {"10001-1234", "100"},  {" 02743 ", "027"},
        {"03601", "000"},    {"89312", "000"}, {"12345678901", "000"}, {"123", "000"},
        {"", "000"},         {"abc", "000"},   {"00401", "000"},       {"20301", "000"},
        {"27431234", "027"}, {"9021O", "090"}, {"102 01", "000"},      {"100011234", "100"}};
    static const uint16_t hidden[] = {36,  59,  63,  102, 202, 203, 204, 205, 369, 556, 692, 753,
                                      772, 790, 821, 823, 830, 831, 878, 879, 884, 890, 893};
    struct store_zips *zips;
    assert_int_equal(store_zips_open(SPAN_NONE, &zips, NULL), E_OK);
    char three[4];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        store_zip3(zips, span_str(cases[i].zip), three);
        assert_string_equal(three, cases[i].three);
    }
    unsigned count = 0;
    for (unsigned prefix = 5; prefix < 1000; prefix++) {
        char zip[8];
        snprintf(zip, sizeof zip, "%03u77", prefix);
        store_zip3(zips, span_str(zip), three);
        bool is_hidden = strcmp(three, "000") == 0;
        count += is_hidden;
        bool listed = false;
        for (size_t i = 0; i < 23; i++) {
            listed = listed || hidden[i] == prefix;
        }
        assert_int_equal(is_hidden, listed);
    }
    assert_int_equal(count, 23);
    store_zips_free(zips);

    struct err_info info;
    assert_int_equal(store_zips_open(span_str("# mine\n777\n"), &zips, &info), E_OK);
    store_zip3(zips, span_str("77712"), three);
    assert_string_equal(three, "000");
    store_zip3(zips, span_str("03612"), three);
    assert_string_equal(three, "036");
    store_zips_free(zips);
    assert_int_equal(store_zips_open(span_str("100 1500000\n101,20000\n102;20001\n"), &zips, &info),
                     E_OK);
    static const struct {
        const char *zip, *three;
    } counted[] = {{"10001", "100"}, {"10101", "000"}, {"10201", "102"}, {"55555", "000"}};
    for (size_t i = 0; i < 4; i++) {
        store_zip3(zips, span_str(counted[i].zip), three);
        assert_string_equal(three, counted[i].three);
    }
    store_zips_free(zips);
    assert_int_equal(store_zips_open(span_str("100\nx\n"), &zips, &info), E_INVALID);
    assert_non_null(strstr(info.text, "line 2"));
}

static void hierarchies(void **state)
{
    (void)state;
    static const char text[] = "A00.1;A00;A00-B99\r\nA00.9;A00;A00-B99\n\nB01.0; B01 ;A00-B99\n";
    struct store_hierarchy *hierarchy;
    struct err_info info = {0};
    assert_int_equal(store_hierarchy_open(span_str(text), 1, &hierarchy, &info), E_OK);
    assert_string_equal(store_hierarchy_find(hierarchy, span_str("A00.9")), "A00");
    assert_string_equal(store_hierarchy_find(hierarchy, span_str("B01.0")), "B01");
    assert_null(store_hierarchy_find(hierarchy, span_str("Z99")));
    store_hierarchy_free(hierarchy);
    assert_int_equal(store_hierarchy_open(span_str(text), 2, &hierarchy, &info), E_OK);
    assert_string_equal(store_hierarchy_find(hierarchy, span_str("A00.1")), "A00-B99");
    store_hierarchy_free(hierarchy);
    assert_int_equal(store_hierarchy_open(span_str(text), 3, &hierarchy, &info), E_INVALID);
    assert_int_equal(store_hierarchy_open(span_str("a,b\na,c\n"), 1, &hierarchy, &info), E_INVALID);
    assert_non_null(strstr(info.text, "line 2"));
    assert_int_equal(store_hierarchy_open(span_str("\n"), 1, &hierarchy, &info), E_INVALID);
}

static void shifts_are_even(void **state)
{
    (void)state;
    struct crypto_key *dek = crypto_key_new();
    assert_non_null(dek);
    memset(dek->bytes, 7, CRYPTO_KEY_SIZE);
    struct crypto_key *key, *other;
    assert_int_equal(store_transform_key(dek, "dateshift", "", &key), E_OK);
    assert_int_equal(store_transform_key(dek, "dateshift", "x", &other), E_OK);
    unsigned counts[101] = {0}, same = 0;
    for (unsigned i = 0; i < 40400; i++) {
        char id[16];
        snprintf(id, sizeof id, "p%u", i);
        int days = store_shift_days(key, span_str(id));
        assert_in_range(days + 50, 0, 100);
        assert_int_equal(days, store_shift_days(key, span_str(id)));
        same += days == store_shift_days(other, span_str(id));
        counts[days + 50]++;
    }
    /* Chi-square with 100 degrees of freedom; keys are fixed, so this either holds or not. 0.1 % lies above 149. */
    double chi = 0;
    for (size_t i = 0; i < 101; i++) {
        double off = counts[i] - 400.0;
        chi += off * off / 400.0;
    }
    assert_true(chi < 149.4);
    assert_in_range(same, 250, 550); /* another key, other shifts: one in 101 */
    char a[17], b[17], c[17];
    store_pseudonym_text(key, span_str("P1"), a);
    store_pseudonym_text(key, span_str("P1"), b);
    store_pseudonym_text(other, span_str("P1"), c);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    assert_int_equal(strspn(a, "abcdefghijklmnopqrstuvwxyz234567"), 16);
    crypto_key_free(key);
    crypto_key_free(other);
    crypto_key_free(dek);
}

static void dates_and_years(void **state)
{
    (void)state;
    double day;
    bool partial;
    assert_null(store_parse_record_date(span_str("2024-02-29T10:30:00+01:00"), &day, &partial));
    assert_true(day == proto_time_days(2024, 2, 29) && !partial);
    assert_null(store_parse_record_date(span_str("2024-02"), &day, &partial));
    assert_true(day == proto_time_days(2024, 2, 1) && partial);
    assert_null(store_parse_record_date(span_str(" 2024 "), &day, &partial));
    assert_true(day == proto_time_days(2024, 1, 1) && partial);
    static const char *const none[] = {"2024-13",     "2024-02-30", "20240229", "2024-02-29x",
                                       "2024-02-29T", "abcd",       "",         "2024-02-29Tten"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_non_null(store_parse_record_date(span_str(none[i]), &day, &partial));
    }
    double leap = proto_time_days(1936, 2, 29);
    assert_int_equal(store_years_between(leap, proto_time_days(2026, 2, 28)), 89);
    assert_int_equal(store_years_between(leap, proto_time_days(2026, 3, 1)), 90);
    assert_int_equal(store_years_between(leap, proto_time_days(2024, 2, 28)), 87);
    assert_int_equal(store_years_between(leap, proto_time_days(2024, 2, 29)), 88);
}

static void patterns_are_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *text, *clean;
    } cases[] = {
        {"see https://x.org/a?b=1, or www.y.de.", "see [URL], or [URL]."},
        {"write to a.b+c@mail.example.com now", "write to [EMAIL] now"},
        {"from 10.0.0.255 and fe80::1:2", "from [IP] and [IP]"},
        {"ssn 123-45-6789, not 666-12-3456 or 950-12-3456",
         "ssn [SSN], not 666-12-3456 or 950-12-3456"},
        {"on 2024-03-01, 2024/03/01, 3/1/2024, 1.3.2024, 1 March 2024, Mar 1st, 2024",
         "on [DATE], [DATE], [DATE], [DATE], [DATE], [DATE]"},
        {"in Sept. 2019 and on 12th of May", "in [DATE] and on [DATE]"},
        {"card 4111 1111 1111 1111 and 4111-1111-1111-1112", "card [CARD] and 4111-1111-1111-1112"},
        {"call (212) 555-1234 or +49 30 1234567, fax: 212-555-9999",
         "call [PHONE] or [PHONE], fax: [FAX]"},
        {"tel 030/1234567, 555-1234", "tel [PHONE], [PHONE]"},
        {"MRN: 00123-7 and medical record number 4711", "[MRN] and [MRN]"},
        {"lives in NY 10001, zip 02743, or 10001-1234", "lives in NY [ZIP], zip [ZIP], or [ZIP]"},
        {"vin 1HGCM82633A004352", "vin [VIN]"},
        {"a 93-year-old, aged 91; a 89 year old", "a [AGE]-year-old, aged [AGE]; a 89 year old"},
        {"number 1234567890123", "number [NUMBER]"},
        {"Mrs Mustermann saw Erika's file", "Mrs [NAME] saw [NAME]'s file"},
        /* What must stay readable. */
        {"BP 120/80, Hb 13.5, WBC 12000, at 10:30", "BP 120/80, Hb 13.5, WBC 12000, at 10:30"},
        {"2 of 10 tablets, 1.5 mg, 3-4 times", "2 of 10 tablets, 1.5 mg, 3-4 times"},
        {"may have decided in march", "may have decided in march"},
        {"", ""},
    };
    struct span names[2] = {span_str("Erika"), span_str("van der MUSTERMANN, Ed")};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out = {.max = 4096};
        uint64_t count = 0;
        assert_int_equal(store_redact(span_str(cases[i].text), names, 2, &out, &count), E_OK);
        assert_int_equal(buf_put(&out, span_of("", 1)), E_OK);
        assert_string_equal((char *)out.ptr, cases[i].clean);
        assert_int_equal(count > 0, strcmp(cases[i].text, cases[i].clean) != 0);
        buf_fini(&out);
    }
    struct buf small = {.max = 3};
    uint64_t count = 0;
    assert_int_equal(store_redact(span_str("abcdef"), NULL, 0, &small, &count), E_LIMIT);
    buf_fini(&small);
}

int main(void)
{
    if (crypto_init(NULL)) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zip_codes),
        cmocka_unit_test(hierarchies),
        cmocka_unit_test(shifts_are_even),
        cmocka_unit_test(dates_and_years),
        cmocka_unit_test(patterns_are_replaced),
    };
    return cmocka_run_group_tests_name("transform", tests, NULL, NULL);
}
