#include "config.h"
#include "crypto/certificate.h"

#include "crypto/certificate_private.h"
#include "crypto/compat_mbedtls.h"
#include "crypto/identity_pk.h"
#include "crypto/memory.h"
#include "crypto/random.h"
#include "proto/time.h"

#include <assert.h>
#include <stdio.h>

#define SCHEME     "concordat://"
#define SCHEME_LEN (sizeof SCHEME - 1)
/* One constant name for every root: it is our own text, so that the library's name parser sees nothing foreign
 * (CVE-2025-47917). Which root it is follows from key, key identifier and URI name. */
#define ROOT_NAME "CN=Concordat federation root"
#define URI_MAX   (SCHEME_LEN + 32 + 1 + 64 + 1 + 32)
#define TIME_MIN  INT64_C(946684800)  /* 2000-01-01 */
#define TIME_MAX  INT64_C(4102444800) /* 2100-01-01 */
#define TAG_DNS   (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2)
#define TAG_URI   (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 6)

const mbedtls_x509_crt_profile crypto_certificate_profile = {
    .allowed_mds = MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256),
    .allowed_pks = MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECDSA) | MBEDTLS_X509_ID_FLAG(MBEDTLS_PK_ECKEY),
    .allowed_curves = MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1),
    .rsa_min_bitlen = 0x7fffffff,
};

/* --- names ----------------------------------------------------------------------------------------------------------- */

static bool name_valid(struct span name, size_t max)
{
    if (name.len == 0 || name.len > max) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-')) {
            return false;
        }
    }
    return true;
}

bool crypto_certificate_federation_valid(const char *federation)
{
    return federation && name_valid(span_str(federation), 32);
}

/* Takes the part before the next '/', or the rest; what was taken is removed from *REST. */
static struct span next_part(struct span *rest)
{
    const uint8_t *slash = rest->len ? memchr(rest->ptr, '/', rest->len) : NULL;
    size_t len = slash ? (size_t)(slash - rest->ptr) : rest->len;
    struct span part = span_of(rest->ptr, len);
    size_t skip = slash ? len + 1 : len;
    rest->ptr += skip;
    rest->len -= skip;
    return part;
}

static bool node_uri_parse(struct span uri, struct crypto_certificate_info *info)
{
    if (uri.len < SCHEME_LEN || uri.len > URI_MAX || memcmp(uri.ptr, SCHEME, SCHEME_LEN) != 0) {
        return false;
    }
    struct span rest = span_of(uri.ptr + SCHEME_LEN, uri.len - SCHEME_LEN);
    struct span federation = next_part(&rest);
    struct span org = next_part(&rest);
    char hex[33];
    char canonical[33];
    if (!name_valid(federation, 32) || !name_valid(org, 64) ||
        !span_to_cstr(rest, hex, sizeof hex) || !span_from_hex(hex, info->node_id, 16)) {
        return false;
    }
    span_to_hex(span_of(info->node_id, 16), canonical);
    return strcmp(hex, canonical) == 0 &&
           span_to_cstr(federation, info->federation, sizeof info->federation) &&
           span_to_cstr(org, info->org, sizeof info->org);
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static int64_t seconds(const mbedtls_x509_time *t)
{
    return (int64_t)proto_time_days(t->year, t->mon, t->day) * 86400 + t->hour * 3600 +
           t->min * 60 + t->sec;
}

static bool is_oid(const mbedtls_x509_buf *buf, const char *oid, size_t len)
{
    return buf->len == len && memcmp(buf->p, oid, len) == 0;
}

/* Exactly server and client authentication, in whatever order. */
static bool usage_valid(const mbedtls_x509_crt *crt)
{
    bool server = false;
    bool client = false;
    size_t count = 0;
    for (const mbedtls_x509_sequence *s = &crt->ext_key_usage; s && s->buf.p; s = s->next) {
        count++;
        server = server || is_oid(&s->buf, MBEDTLS_OID_SERVER_AUTH,
                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH));
        client = client || is_oid(&s->buf, MBEDTLS_OID_CLIENT_AUTH,
                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH));
    }
    return count == 2 && server && client;
}

/* The only DNS and the only URI name, when there are no others; a span stays empty when its kind is missing. */
static bool alt_names(const mbedtls_x509_crt *crt, struct span *dns, struct span *uri)
{
    *dns = *uri = SPAN_NONE;
    for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s && s->buf.p; s = s->next) {
        struct span *to = s->buf.tag == TAG_DNS ? dns : s->buf.tag == TAG_URI ? uri : NULL;
        if (!to || to->ptr) {
            return false;
        }
        *to = span_of(s->buf.p, s->buf.len);
    }
    return true;
}

static bool spki_point(struct span spki, uint8_t ret_point[65])
{
    uint8_t expect[CRYPTO_SPKI_SIZE];
    if (spki.len != CRYPTO_SPKI_SIZE) {
        return false;
    }
    crypto_identity_spki(spki.ptr + CRYPTO_SPKI_SIZE - CRYPTO_POINT_SIZE, expect);
    if (memcmp(expect, spki.ptr, sizeof expect) != 0) {
        return false;
    }
    memcpy(ret_point, spki.ptr + CRYPTO_SPKI_SIZE - CRYPTO_POINT_SIZE, CRYPTO_POINT_SIZE);
    return true;
}

static bool read_names(const mbedtls_x509_crt *crt, struct crypto_certificate_info *info)
{
    struct span dns;
    struct span uri;
    char hex[33];
    if (!alt_names(crt, &dns, &uri) || !node_uri_parse(uri, info)) {
        return false;
    }
    span_to_hex(span_of(info->node_id, 16), hex);
    return span_is(dns, hex);
}

enum err crypto_certificate_read(const mbedtls_x509_crt *crt, struct crypto_certificate_info *ret,
                                 struct err_info *reterr)
{
    struct crypto_certificate_info info = {0};
    const char *wrong = NULL;
    size_t skip = crt->serial.len > 1 && crt->serial.p[0] == 0 ? 1 : 0;
    if (crt->version != 3) {
        wrong = "it is not an X.509 version 3 certificate";
    } else if (!read_names(crt, &info)) {
        wrong = "its names are not one DNS node id and one concordat:// URI";
    } else if (compat_crt_is_ca(crt)) {
        wrong = "it is a certificate authority";
    } else if (compat_crt_key_usage(crt) != MBEDTLS_X509_KU_DIGITAL_SIGNATURE ||
               !usage_valid(crt)) {
        wrong = "its key usage is not that of a node";
    } else if (!spki_point(span_of(crt->pk_raw.p, crt->pk_raw.len), info.point)) {
        wrong = "its key is not on P-256";
    } else if (crt->serial.len - skip > sizeof info.serial || crt->serial.len == 0) {
        wrong = "its serial number is too long";
    }
    if (wrong) {
        return proto_err_set(reterr, E_INVALID, "certificate: %s", wrong);
    }
    info.serial_len = crt->serial.len - skip;
    memcpy(info.serial, crt->serial.p + skip, info.serial_len);
    crypto_sha256_one(span_of(crt->pk_raw.p, crt->pk_raw.len), info.spki_hash);
    info.not_before = seconds(&crt->valid_from);
    info.not_after = seconds(&crt->valid_to);
    *ret = info;
    return E_OK;
}

enum err crypto_certificate_root_read(const mbedtls_x509_crt *crt, char ret_federation[33],
                                      uint8_t ret_point[65], struct err_info *reterr)
{
    struct span dns;
    struct span uri;
    uint8_t point[65];
    if (crt->version != 3 || !alt_names(crt, &dns, &uri) || dns.ptr || uri.len < SCHEME_LEN ||
        memcmp(uri.ptr, SCHEME, SCHEME_LEN) != 0) {
        return proto_err_set(reterr, E_INVALID, "root certificate: it does not name a federation");
    }
    struct span federation = span_of(uri.ptr + SCHEME_LEN, uri.len - SCHEME_LEN);
    if (!name_valid(federation, 32) || !compat_crt_is_ca(crt) ||
        compat_crt_key_usage(crt) != (MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN) ||
        !spki_point(span_of(crt->pk_raw.p, crt->pk_raw.len), point)) {
        return proto_err_set(reterr, E_INVALID,
                             "root certificate: it is not a federation's P-256 authority");
    }
    if (!span_to_cstr(federation, ret_federation, 33)) {
        return E_INTERNAL;
    }
    memcpy(ret_point, point, sizeof point);
    return E_OK;
}

static enum err parse_der(struct span der, mbedtls_x509_crt *crt, struct err_info *reterr)
{
    if (der.len == 0 || der.len > CRYPTO_CERTIFICATE_MAX) {
        return proto_err_set(reterr, E_LIMIT, "certificate: %zu bytes", der.len);
    }
    if (mbedtls_x509_crt_parse_der(crt, der.ptr, der.len) != 0 || crt->raw.len != der.len) {
        return proto_err_set(reterr, E_INVALID, "certificate: it is not well-formed DER");
    }
    return E_OK;
}

enum err crypto_certificate_parse(struct span der, struct crypto_certificate_info *ret,
                                  struct err_info *reterr)
{
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    enum err err = parse_der(der, &crt, reterr);
    if (!err) {
        err = crypto_certificate_read(&crt, ret, reterr);
    }
    mbedtls_x509_crt_free(&crt);
    return err;
}

/* The library judges the chain; time is judged here, since it would read a clock of its own. */
static enum err check_chain(mbedtls_x509_crt *crt, mbedtls_x509_crt *root, struct err_info *reterr)
{
    uint32_t flags = 0;
    int ret = mbedtls_x509_crt_verify_with_profile(crt, root, NULL, &crypto_certificate_profile,
                                                   NULL, &flags, NULL, NULL);
    flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
    if (flags != 0 || (ret != 0 && ret != MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)) {
        return proto_err_set(reterr, E_AUTH, "certificate: the root did not sign it");
    }
    return E_OK;
}

static enum err check_time(const mbedtls_x509_crt *crt, int64_t now, struct err_info *reterr)
{
    if (now < seconds(&crt->valid_from)) {
        return proto_err_set(reterr, E_AUTH, "certificate: it is not valid yet");
    }
    if (now > seconds(&crt->valid_to)) {
        return proto_err_set(reterr, E_AUTH, "certificate: it has expired");
    }
    return E_OK;
}

enum err crypto_certificate_root_parse(struct span root_der, char ret_federation[33],
                                       uint8_t ret_point[65], struct err_info *reterr)
{
    mbedtls_x509_crt root;
    mbedtls_x509_crt_init(&root);
    char federation[33];
    uint8_t point[65];
    enum err err = parse_der(root_der, &root, reterr);
    if (!err) {
        err = crypto_certificate_root_read(&root, federation, point, reterr);
    }
    if (!err) {
        err = check_chain(&root, &root, reterr);
    }
    if (!err) {
        memcpy(ret_federation, federation, sizeof federation);
        memcpy(ret_point, point, sizeof point);
    }
    mbedtls_x509_crt_free(&root);
    return err;
}

enum err crypto_certificate_verify(struct span der, struct span root_der, int64_t now,
                                   struct crypto_certificate_info *ret, struct err_info *reterr)
{
    mbedtls_x509_crt crt;
    mbedtls_x509_crt root;
    mbedtls_x509_crt_init(&crt);
    mbedtls_x509_crt_init(&root);
    struct crypto_certificate_info info;
    char federation[33];
    uint8_t root_point[65];
    enum err err = parse_der(der, &crt, reterr);
    if (!err) {
        err = crypto_certificate_read(&crt, &info, reterr);
    }
    if (!err) {
        err = parse_der(root_der, &root, reterr);
    }
    if (!err) {
        err = crypto_certificate_root_read(&root, federation, root_point, reterr);
    }
    if (!err) {
        err = check_chain(&crt, &root, reterr);
    }
    if (!err && strcmp(federation, info.federation) != 0) {
        err = proto_err_set(reterr, E_AUTH, "certificate: it is of federation %s, not %s",
                            info.federation, federation);
    }
    if (!err) {
        err = check_time(&crt, now, reterr);
    }
    if (!err) {
        err = check_time(&root, now, reterr);
    }
    if (!err) {
        *ret = info;
    }
    mbedtls_x509_crt_free(&root);
    mbedtls_x509_crt_free(&crt);
    return err;
}

enum err crypto_certificate_point(struct span spki_or_cert_der, uint8_t ret_point[65])
{
    uint8_t point[65];
    bool ok = spki_point(spki_or_cert_der, point);
    if (!ok) {
        mbedtls_x509_crt crt;
        mbedtls_x509_crt_init(&crt);
        ok = parse_der(spki_or_cert_der, &crt, NULL) == E_OK &&
             spki_point(span_of(crt.pk_raw.p, crt.pk_raw.len), point);
        mbedtls_x509_crt_free(&crt);
    }
    if (!ok || crypto_identity_check_point(point) != E_OK) {
        return E_INVALID;
    }
    memcpy(ret_point, point, sizeof point);
    return E_OK;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

static enum err library(int ret, struct err_info *reterr)
{
    return ret >= 0 ? E_OK
                    : proto_err_set(reterr, E_INTERNAL, "certificate: mbedTLS error -0x%04x",
                                    (unsigned)-ret);
}

/* "YYYYMMDDhhmmss" */
static void time_text(int64_t unix_s, char text[15])
{
    char rfc[PROTO_TIME_SIZE];
    proto_time_format(unix_s, rfc);
    size_t n = 0;
    for (const char *p = rfc; *p && n < 14; p++) {
        if (*p >= '0' && *p <= '9') {
            text[n++] = *p;
        }
    }
    text[n] = '\0';
}

/* One GeneralName before *p; lengths are bounded by our own name rules (the 2.28 writer does not check them). */
static size_t put_name(unsigned char **p, unsigned char *start, const char *name, unsigned char tag)
{
    size_t len = strlen(name);
    assert((size_t)(*p - start) >= len + 4);
    int n = mbedtls_asn1_write_raw_buffer(p, start, (const unsigned char *)name, len);
    n += mbedtls_asn1_write_len(p, start, len);
    n += mbedtls_asn1_write_tag(p, start, tag);
    return (size_t)n;
}

static int set_names(mbedtls_x509write_cert *crt, const char *dns, const char *uri)
{
    unsigned char der[256];
    unsigned char *p = der + sizeof der;
    size_t len = put_name(&p, der, uri, TAG_URI);
    if (dns) {
        len += put_name(&p, der, dns, TAG_DNS);
    }
    len += (size_t)mbedtls_asn1_write_len(&p, der, len);
    len +=
        (size_t)mbedtls_asn1_write_tag(&p, der, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
    return mbedtls_x509write_crt_set_extension(crt, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, p,
                                               len);
}

static int set_usage(mbedtls_x509write_cert *crt)
{
    static const unsigned char both[] = {0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05,
                                         0x05, 0x07, 0x03, 0x01, 0x06, 0x08, 0x2b, 0x06,
                                         0x01, 0x05, 0x05, 0x07, 0x03, 0x02};
    return mbedtls_x509write_crt_set_extension(crt, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0,
                                               both, sizeof both);
}

struct plan {
    mbedtls_pk_context *subject_key;
    mbedtls_pk_context *issuer_key;
    const char *subject;
    const char *dns; /* NULL for a root */
    const char *uri;
    bool is_root;
    int64_t from;
    int64_t until;
};

static int fill(mbedtls_x509write_cert *crt, const struct plan *plan)
{
    char from[15];
    char until[15];
    uint8_t serial[16];
    if (crypto_random(serial, sizeof serial) != E_OK) {
        return MBEDTLS_ERR_ECP_RANDOM_FAILED;
    }
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive, and always 16 bytes long */
    time_text(plan->from, from);
    time_text(plan->until, until);
    mbedtls_x509write_crt_set_version(crt, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(crt, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(crt, plan->subject_key);
    mbedtls_x509write_crt_set_issuer_key(crt, plan->issuer_key);
    int ret = compat_crt_set_serial(crt, serial, sizeof serial);
    ret = ret ? ret : mbedtls_x509write_crt_set_validity(crt, from, until);
    ret = ret ? ret : mbedtls_x509write_crt_set_issuer_name(crt, ROOT_NAME);
    ret = ret ? ret : mbedtls_x509write_crt_set_subject_name(crt, plan->subject);
    ret = ret ? ret
              : mbedtls_x509write_crt_set_basic_constraints(crt, plan->is_root,
                                                            plan->is_root ? 0 : -1);
    ret = ret ? ret
              : mbedtls_x509write_crt_set_key_usage(
                    crt, plan->is_root ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
                                       : MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
    ret = ret ? ret : mbedtls_x509write_crt_set_subject_key_identifier(crt);
    ret = ret ? ret : mbedtls_x509write_crt_set_authority_key_identifier(crt);
    ret = ret ? ret : set_names(crt, plan->dns, plan->uri);
    return ret || plan->is_root ? ret : set_usage(crt);
}

static enum err write_crt(const struct plan *plan, struct buf *ret_der, struct err_info *reterr)
{
    if (plan->from < TIME_MIN || plan->until > TIME_MAX || plan->from >= plan->until) {
        return proto_err_set(reterr, E_INVALID,
                             "certificate: its time of validity is empty or outside 2000 to 2099");
    }
    mbedtls_x509write_cert crt;
    unsigned char der[CRYPTO_CERTIFICATE_MAX];
    mbedtls_x509write_crt_init(&crt);
    int ret = fill(&crt, plan);
    if (ret == 0) {
        ret = mbedtls_x509write_crt_der(&crt, der, sizeof der, compat_rng, NULL);
    }
    mbedtls_x509write_crt_free(&crt);
    enum err err = library(ret, reterr);
    return err ? err : buf_put(ret_der, span_of(der + sizeof der - (size_t)ret, (size_t)ret));
}

enum err crypto_certificate_root(const struct crypto_identity *root, const char *federation,
                                 int64_t from, int64_t until, struct buf *ret_der,
                                 struct err_info *reterr)
{
    if (!crypto_certificate_federation_valid(federation)) {
        return proto_err_set(reterr, E_INVALID,
                             "a federation's name has 1 to 32 letters, digits, '.', '_' or '-'");
    }
    char uri[URI_MAX + 1];
    snprintf(uri, sizeof uri, SCHEME "%s", federation);
    mbedtls_pk_context key;
    mbedtls_pk_init(&key);
    enum err err = crypto_identity_to_pk(root, &key);
    if (!err) {
        struct plan plan = {.subject_key = &key,
                            .issuer_key = &key,
                            .subject = ROOT_NAME,
                            .uri = uri,
                            .is_root = true,
                            .from = from,
                            .until = until};
        err = write_crt(&plan, ret_der, reterr);
    }
    mbedtls_pk_free(&key);
    return err;
}

enum err crypto_certificate_request(const struct crypto_identity *tls_key, struct buf *ret_der,
                                    struct err_info *reterr)
{
    mbedtls_pk_context key;
    mbedtls_x509write_csr csr;
    unsigned char der[CRYPTO_CERTIFICATE_MAX];
    mbedtls_pk_init(&key);
    mbedtls_x509write_csr_init(&csr);
    enum err err = crypto_identity_to_pk(tls_key, &key);
    if (!err) {
        mbedtls_x509write_csr_set_md_alg(&csr, MBEDTLS_MD_SHA256);
        mbedtls_x509write_csr_set_key(&csr, &key);
        int ret = mbedtls_x509write_csr_set_subject_name(&csr, "CN=Concordat node");
        if (ret == 0) {
            ret = mbedtls_x509write_csr_der(&csr, der, sizeof der, compat_rng, NULL);
        }
        err = library(ret, reterr);
        if (!err) {
            err = buf_put(ret_der, span_of(der + sizeof der - (size_t)ret, (size_t)ret));
        }
    }
    mbedtls_x509write_csr_free(&csr);
    mbedtls_pk_free(&key);
    return err;
}

/* Proof of possession: the library parses a request without looking at its signature. */
static enum err check_request(mbedtls_x509_csr *csr, struct span der, struct err_info *reterr)
{
    unsigned char spki[256];
    uint8_t point[65];
    uint8_t digest[32];
    uint8_t sig[64];
    if (der.len == 0 || der.len > CRYPTO_CERTIFICATE_MAX) {
        return proto_err_set(reterr, E_LIMIT, "certificate request: %zu bytes", der.len);
    }
    if (mbedtls_x509_csr_parse_der(csr, der.ptr, der.len) != 0) {
        return proto_err_set(reterr, E_INVALID, "certificate request: it is not well-formed DER");
    }
    int len = mbedtls_pk_write_pubkey_der(&csr->pk, spki, sizeof spki);
    if (len <= 0 || !spki_point(span_of(spki + sizeof spki - (size_t)len, (size_t)len), point)) {
        return proto_err_set(reterr, E_INVALID, "certificate request: its key is not on P-256");
    }
    if (!is_oid(&csr->sig_oid, MBEDTLS_OID_ECDSA_SHA256,
                MBEDTLS_OID_SIZE(MBEDTLS_OID_ECDSA_SHA256))) {
        return proto_err_set(reterr, E_INVALID,
                             "certificate request: it is not signed by ECDSA with SHA-256");
    }
    const mbedtls_x509_buf *signature = compat_csr_signature(csr);
    crypto_sha256_one(span_of(csr->cri.p, csr->cri.len), digest);
    if (crypto_signature_from_der(span_of(signature->p, signature->len), sig) != E_OK ||
        crypto_provider()->p256_verify(point, digest, sig) != E_OK) {
        return proto_err_set(reterr, E_AUTH, "certificate request: its key did not sign it");
    }
    return E_OK;
}

static enum err check_root(const struct crypto_identity *root, struct span root_der,
                           const char *federation, struct err_info *reterr)
{
    char name[33];
    uint8_t point[65];
    enum err err = crypto_certificate_root_parse(root_der, name, point, reterr);
    if (!err && memcmp(point, crypto_identity_point(root), sizeof point) != 0) {
        err = proto_err_set(reterr, E_AUTH, "the root key is not the root certificate's");
    }
    if (!err && strcmp(name, federation) != 0) {
        err = proto_err_set(reterr, E_INVALID, "the root is of federation %s", name);
    }
    return err;
}

enum err crypto_certificate_issue(const struct crypto_identity *root, struct span root_der,
                                  struct span csr_der, const char *federation, const char *org,
                                  const uint8_t node_id[16], int64_t from, int64_t until,
                                  struct buf *ret_der, struct err_info *reterr)
{
    if (!crypto_certificate_federation_valid(federation) || !org ||
        !name_valid(span_str(org), 64)) {
        return proto_err_set(
            reterr, E_INVALID,
            "a federation has 1 to 32, an organisation 1 to 64 letters, digits, '.', '_' or '-'");
    }
    char hex[33];
    char uri[URI_MAX + 1];
    char subject[40];
    span_to_hex(span_of(node_id, 16), hex);
    snprintf(uri, sizeof uri, SCHEME "%s/%s/%s", federation, org, hex);
    snprintf(subject, sizeof subject, "CN=%s", hex);
    mbedtls_pk_context key;
    mbedtls_x509_csr csr;
    mbedtls_pk_init(&key);
    mbedtls_x509_csr_init(&csr);
    enum err err = check_root(root, root_der, federation, reterr);
    if (!err) {
        err = check_request(&csr, csr_der, reterr);
    }
    if (!err) {
        err = crypto_identity_to_pk(root, &key);
    }
    if (!err) {
        struct plan plan = {.subject_key = &csr.pk,
                            .issuer_key = &key,
                            .subject = subject,
                            .dns = hex,
                            .uri = uri,
                            .from = from,
                            .until = until};
        err = write_crt(&plan, ret_der, reterr);
    }
    mbedtls_x509_csr_free(&csr);
    mbedtls_pk_free(&key);
    return err;
}
