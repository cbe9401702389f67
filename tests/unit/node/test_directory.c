/* Which records the council's signatures carry: today's council, a former one in its time and after, strangers; charters that follow and that
 * do not; endorsements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "crypto/envelope.h"
#include "node/peer/directory.h"
#include "node/peer/enrol_internal.h"

#define DAY ((int64_t)86400)

static const uint8_t federation[16] = {7};
static struct crypto_identity *who[4]; /* 0: founder, 1: second seat, 2: candidate, 3: stranger */
static uint8_t ids[4][16];
static int64_t now;

static int setup(void **state)
{
    (void)state;
    struct err_info info;
    if (crypto_init(&info)) {
        return -1;
    }
    now = (int64_t)time(NULL);
    for (int i = 0; i < 4; i++) {
        if (crypto_identity_generate(&who[i])) {
            return -1;
        }
        crypto_identity_node_id(crypto_identity_point(who[i]), ids[i]);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        crypto_identity_free(who[i]);
    }
    return 0;
}

/* SIGNERS: a bit each. */
static size_t sign(unsigned signers, const char *domain, struct span bytes,
                   struct proto_signature to[4], uint8_t sigs[4][64])
{
    size_t count = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (signers & 1u << i) {
            assert_int_equal(crypto_envelope_sign(who[i], domain, federation, bytes, sigs[i]),
                             E_OK);
            to[count++] = (struct proto_signature){span_of(ids[i], 16), span_of(sigs[i], 64)};
        }
    }
    return count;
}

static void charter_record(unsigned seats, uint64_t epoch, const uint8_t *prev, unsigned signers,
                           int64_t when, struct buf *out)
{
    static const uint8_t root[8] = {1};
    struct proto_council_seat seat[4];
    struct proto_signature signatures[4];
    uint8_t sigs[4][64];
    size_t count = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (seats & 1u << i) {
            seat[count++] = (struct proto_council_seat){span_of(ids[i], 16),
                                                        span_of(crypto_identity_point(who[i]), 65)};
        }
    }
    struct proto_charter charter = {.v = 1,
                                    .federation = span_str("fed"),
                                    .federation_id = span_of(federation, 16),
                                    .root_der = span_of(root, 8),
                                    .council = {seat, count},
                                    .threshold = proto_charter_threshold(count),
                                    .epoch = epoch,
                                    .prev = prev ? span_of(prev, 16) : SPAN_NONE};
    struct buf bytes = {.max = 4096}, body = {.max = 4096};
    assert_int_equal(proto_charter_signed(&charter, &bytes, NULL), E_OK);
    charter.signatures = (struct proto_list){
        signatures, sign(signers, PROTO_CHARTER_DOMAIN, buf_span(&bytes), signatures, sigs)};
    assert_int_equal(proto_charter_encode(&charter, &body, NULL), E_OK);
    assert_int_equal(enrol_record(who[0], federation, PROTO_RECORD_CHARTER, "charter",
                                  buf_span(&body), when, out, NULL),
                     E_OK);
    buf_fini(&bytes);
    buf_fini(&body);
}

static enum proto_gossip_verdict judge_charter(struct peer_directory *d, unsigned seats,
                                               uint64_t epoch, const uint8_t *prev,
                                               unsigned signers, int64_t when, bool apply)
{
    struct buf record = {.max = PROTO_RECORD_MAX};
    charter_record(seats, epoch, prev, signers, when, &record);
    enum proto_gossip_verdict verdict = peer_directory_judge(d, buf_span(&record));
    if (apply) {
        assert_int_equal(verdict, PROTO_GOSSIP_ACCEPT);
        peer_directory_apply(d, buf_span(&record));
    }
    buf_fini(&record);
    return verdict;
}

/* A MEMBER record of the candidate, signed by SIGNERS and published by the founder WHEN. */
static enum proto_gossip_verdict judge_member(struct peer_directory *d, unsigned signers,
                                              int64_t when)
{
    static const uint8_t spki[32] = {9};
    struct proto_text role = {span_str("node")};
    struct proto_signature signatures[4];
    uint8_t sigs[4][64];
    struct proto_member member = {.v = 1,
                                  .node_id = span_of(ids[2], 16),
                                  .name = span_str("candidate"),
                                  .identity_point = span_of(crypto_identity_point(who[2]), 65),
                                  .tls_spki = span_of(spki, 32),
                                  .org = span_str("org"),
                                  .org_type = span_str("nonprofit"),
                                  .country = span_str("DE"),
                                  .roles = {&role, 1},
                                  .not_before = (uint64_t)when,
                                  .expires = (uint64_t)(when + 300 * DAY)};
    struct buf bytes = {.max = 4096}, body = {.max = 4096}, record = {.max = PROTO_RECORD_MAX};
    assert_int_equal(proto_member_signed(&member, &bytes, NULL), E_OK);
    member.signatures = (struct proto_list){
        signatures, sign(signers, PROTO_MEMBER_DOMAIN, buf_span(&bytes), signatures, sigs)};
    assert_int_equal(proto_member_encode(&member, &body, NULL), E_OK);
    assert_int_equal(enrol_record(who[0], federation, PROTO_RECORD_MEMBER, "candidate",
                                  buf_span(&body), when, &record, NULL),
                     E_OK);
    enum proto_gossip_verdict verdict = peer_directory_judge(d, buf_span(&record));
    buf_fini(&bytes);
    buf_fini(&body);
    buf_fini(&record);
    return verdict;
}

/* Founded 100 days ago; CHANGED: when the second seat was added. */
static struct peer_directory *make(int64_t changed)
{
    struct peer_directory *d;
    struct peer_council council;
    struct buf genesis = {.max = PROTO_RECORD_MAX};
    assert_int_equal(peer_directory_new(federation, ids[0], &d), E_OK);
    charter_record(1, 0, NULL, 0, now - 100 * DAY, &genesis);
    assert_int_equal(peer_directory_charter(d, buf_span(&genesis), NULL), E_OK);
    peer_directory_council(d, &council);
    if (changed) {
        judge_charter(d, 3, 1, council.charter_id, 3, changed, true);
    }
    assert_int_equal(peer_directory_judge(d, buf_span(&genesis)),
                     PROTO_GOSSIP_ACCEPT); /* it stays in the set */
    buf_fini(&genesis);
    return d;
}

static void test_charters(void **state)
{
    (void)state;
    struct peer_directory *d = make(0);
    struct peer_council council;
    static const uint8_t other[16] = {1};
    peer_directory_council(d, &council);
    assert_int_equal(council.epoch, 0);
    assert_int_equal(judge_charter(d, 3, 1, council.charter_id, 1, now, false),
                     PROTO_GOSSIP_REJECT); /* 1 of the new 2 */
    assert_int_equal(judge_charter(d, 3, 1, council.charter_id, 2, now, false),
                     PROTO_GOSSIP_REJECT); /* none of the old */
    assert_int_equal(judge_charter(d, 3, 1, council.charter_id, 9, now, false),
                     PROTO_GOSSIP_REJECT); /* a stranger for one */
    assert_int_equal(judge_charter(d, 3, 2, council.charter_id, 3, now, false), PROTO_GOSSIP_LATER);
    assert_int_equal(judge_charter(d, 3, 1, other, 3, now, false), PROTO_GOSSIP_LATER);
    judge_charter(d, 3, 1, council.charter_id, 3, now, true);
    peer_directory_council(d, &council);
    assert_int_equal(council.epoch, 1);
    assert_int_equal(council.threshold, 2);
    assert_int_equal(judge_charter(d, 9, 1, council.charter_id, 3, now, false),
                     PROTO_GOSSIP_LATER); /* another of that epoch */
    assert_int_equal(judge_charter(d, 1, 2, council.charter_id, 1, now, false),
                     PROTO_GOSSIP_REJECT); /* the founder alone */
    judge_charter(d, 1, 2, council.charter_id, 3, now, true);
    peer_directory_council(d, &council);
    assert_int_equal(council.epoch, 2);
    assert_int_equal(council.seats, 1);
    peer_directory_free(d);
}

/* Read from disk in any order, the last is in force and each ends where the next begins. */
static void test_order(void **state)
{
    (void)state;
    struct peer_directory *d = make(0);
    struct peer_council first, second, council;
    struct buf one = {.max = PROTO_RECORD_MAX}, two = {.max = PROTO_RECORD_MAX};
    peer_directory_council(d, &first);
    charter_record(3, 1, first.charter_id, 3, now - 20 * DAY, &one);
    struct proto_record record;
    struct proto_charter charter;
    struct arena arena = {0};
    assert_int_equal(proto_record_decode(buf_span(&one), &crypto_proto_hash, &record, NULL), E_OK);
    assert_int_equal(proto_charter_decode(record.envelope.body, &arena, &charter, NULL), E_OK);
    assert_true(peer_council_of(&charter, &second));
    charter_record(1, 2, second.charter_id, 3, now - 10 * DAY, &two);
    peer_directory_apply(d, buf_span(&two));
    peer_directory_apply(d, buf_span(&one));
    peer_directory_apply(d, buf_span(&one));
    peer_directory_council(d, &council);
    assert_int_equal(council.epoch, 2);
    assert_int_equal(judge_member(d, 3, now - 15 * DAY), PROTO_GOSSIP_ACCEPT);
    assert_int_equal(judge_member(d, 1, now - 15 * DAY),
                     PROTO_GOSSIP_ACCEPT); /* the founder is alone again */
    assert_int_equal(judge_member(d, 2, now - 15 * DAY),
                     PROTO_GOSSIP_REJECT); /* one of two, in its time */
    arena_fini(&arena);
    buf_fini(&one);
    buf_fini(&two);
    peer_directory_free(d);
}

static void test_members(void **state)
{
    (void)state;
    struct peer_directory *d = make(now - 10 * DAY);
    assert_int_equal(judge_member(d, 3, now), PROTO_GOSSIP_ACCEPT);
    assert_int_equal(judge_member(d, 2, now), PROTO_GOSSIP_REJECT); /* 1 of 2 */
    assert_int_equal(judge_member(d, 0, now), PROTO_GOSSIP_REJECT); /* nobody */
    assert_int_equal(judge_member(d, 8, now),
                     PROTO_GOSSIP_LATER); /* perhaps a seat that we have not heard of */
    assert_int_equal(judge_member(d, 1, now),
                     PROTO_GOSSIP_LATER); /* the founder, who was alone until ten days ago */
    assert_int_equal(judge_member(d, 1, now - 9 * DAY), PROTO_GOSSIP_LATER);
    assert_int_equal(judge_member(d, 1, now - 11 * DAY), PROTO_GOSSIP_ACCEPT);
    peer_directory_free(d);

    d = make(now -
             31 * DAY); /* the time for latecomers is over: dated back it does not help any more */
    assert_int_equal(judge_member(d, 1, now - 40 * DAY), PROTO_GOSSIP_LATER);
    assert_int_equal(judge_member(d, 3, now), PROTO_GOSSIP_ACCEPT);
    peer_directory_free(d);
}

static enum proto_gossip_verdict judge_endorse(struct peer_directory *d, int by, const char *domain,
                                               bool own_key)
{
    static const char subject[] = "what is signed";
    uint8_t sig[64], hash[32];
    struct buf body = {.max = 4096}, record = {.max = PROTO_RECORD_MAX};
    crypto_sha256_one(span_str(subject), hash);
    assert_int_equal(crypto_envelope_sign(who[by], domain, federation, span_str(subject), sig),
                     E_OK);
    const struct proto_endorse endorse = {1, PROTO_RECORD_REVOKE, span_str(subject),
                                          span_of(sig, 64)};
    assert_int_equal(proto_endorse_encode(&endorse, &body, NULL), E_OK);
    uint8_t id[16], envelope_sig[64];
    crypto_identity_node_id(crypto_identity_point(who[0]), id);
    struct buf bytes = {.max = PROTO_RECORD_MAX};
    struct proto_envelope envelope = {.version = 1,
                                      .kind = PROTO_RECORD_ENDORSE,
                                      .issuer = span_of(id, 16),
                                      .key = span_of(own_key ? hash : id, 16),
                                      .seq = 1,
                                      .hlc = (uint64_t)now * 1000 << 16,
                                      .body = buf_span(&body)};
    assert_int_equal(proto_record_encode(&envelope, &bytes, NULL), E_OK);
    assert_int_equal(crypto_envelope_sign(who[0], PROTO_RECORD_DOMAIN, federation, buf_span(&bytes),
                                          envelope_sig),
                     E_OK);
    assert_int_equal(proto_record_seal(buf_span(&bytes), envelope_sig, &record), E_OK);
    enum proto_gossip_verdict verdict = peer_directory_judge(d, buf_span(&record));
    buf_fini(&bytes);
    buf_fini(&body);
    buf_fini(&record);
    return verdict;
}

static void test_endorsements(void **state)
{
    (void)state;
    struct peer_directory *d = make(now - DAY);
    assert_int_equal(judge_endorse(d, 0, PROTO_REVOKE_DOMAIN, true), PROTO_GOSSIP_ACCEPT);
    assert_int_equal(judge_endorse(d, 1, PROTO_REVOKE_DOMAIN, true),
                     PROTO_GOSSIP_REJECT); /* another's signature */
    assert_int_equal(judge_endorse(d, 0, PROTO_MEMBER_DOMAIN, true),
                     PROTO_GOSSIP_REJECT); /* of another kind */
    assert_int_equal(judge_endorse(d, 0, PROTO_REVOKE_DOMAIN, false), PROTO_GOSSIP_REJECT);
    peer_directory_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_charters),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_endorsements),
    };
    return cmocka_run_group_tests_name("node/peer/directory", tests, setup, teardown);
}
