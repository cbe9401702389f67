#include "config.h"
#include "crypto/identity.h"

#include "crypto/chunk.h"
#include "crypto/compat_mbedtls.h"
#include "crypto/file.h"
#include "crypto/identity_pk.h"
#include "crypto/random.h"

#define FILE_HEADER (4 + CRYPTO_POINT_SIZE)
#define FILE_SIZE   (FILE_HEADER + 32 + CRYPTO_CHUNK_OVERHEAD)

struct crypto_identity {
    struct crypto_key *secret;    /* big-endian scalar */
    struct crypto_signer *signer; /* the same, as the provider wants it */
    uint8_t point[CRYPTO_POINT_SIZE];
};

/* SubjectPublicKeyInfo { ecPublicKey, prime256v1 }, up to the uncompressed point (RFC 5480). */
static const uint8_t spki_head[CRYPTO_SPKI_SIZE - CRYPTO_POINT_SIZE] = {
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};

void crypto_identity_spki(const uint8_t point[65], uint8_t ret_spki[CRYPTO_SPKI_SIZE])
{
    memcpy(ret_spki, spki_head, sizeof spki_head);
    memcpy(ret_spki + sizeof spki_head, point, CRYPTO_POINT_SIZE);
}

void crypto_identity_node_id(const uint8_t point[65], uint8_t ret_id[16])
{
    uint8_t hash[32];
    struct span parts[2] = {span_of(spki_head, sizeof spki_head),
                            span_of(point, CRYPTO_POINT_SIZE)};
    crypto_sha256(parts, 2, hash);
    memcpy(ret_id, hash, 16);
}

void crypto_identity_fingerprint(const uint8_t point[65], char ret[65])
{
    uint8_t hash[32];
    struct span parts[2] = {span_of(spki_head, sizeof spki_head),
                            span_of(point, CRYPTO_POINT_SIZE)};
    crypto_sha256(parts, 2, hash);
    span_to_hex(span_of(hash, sizeof hash), ret);
}

enum err crypto_identity_check_point(const uint8_t point[65])
{
    mbedtls_ecp_group group;
    mbedtls_ecp_point q;
    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&q);
    bool ok = point[0] == 4 && mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1) == 0 &&
              mbedtls_ecp_point_read_binary(&group, &q, point, CRYPTO_POINT_SIZE) == 0 &&
              mbedtls_ecp_check_pubkey(&group, &q) == 0;
    mbedtls_ecp_point_free(&q);
    mbedtls_ecp_group_free(&group);
    return ok ? E_OK : E_INVALID;
}

static struct crypto_identity *identity_new(void)
{
    struct crypto_identity *identity = proto_alloc(1, sizeof *identity);
    if (identity) {
        identity->secret = crypto_key_new();
        if (!identity->secret) {
            proto_free(identity);
            identity = NULL;
        }
    }
    return identity;
}

void crypto_identity_free(struct crypto_identity *identity)
{
    if (identity) {
        if (identity->signer) {
            crypto_provider()->p256_signer_free(identity->signer);
        }
        crypto_key_free(identity->secret);
        proto_free(identity);
    }
}

/* When secret and point are there. */
static enum err make_signer(struct crypto_identity *identity)
{
    return crypto_provider()->p256_signer_new(identity->secret->bytes, identity->point,
                                              &identity->signer);
}

enum err crypto_identity_clone(const struct crypto_identity *identity, struct crypto_identity **ret)
{
    struct crypto_identity *copy = identity_new();
    if (!copy) {
        return E_NO_MEMORY;
    }
    *copy->secret = *identity->secret;
    memcpy(copy->point, identity->point, sizeof copy->point);
    enum err err = make_signer(copy);
    if (err) {
        crypto_identity_free(copy);
        return err;
    }
    *ret = copy;
    return E_OK;
}

/* Fills the point from the secret; a secret outside 1..n-1 is refused. */
static enum err derive_point(struct crypto_identity *identity)
{
    mbedtls_ecp_group group;
    mbedtls_ecp_point q;
    mbedtls_mpi d;
    size_t len = 0;
    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&q);
    mbedtls_mpi_init(&d);
    enum err err = E_OK;
    if (mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1) != 0 ||
        mbedtls_mpi_read_binary(&d, identity->secret->bytes, 32) != 0) {
        err = E_NO_MEMORY;
    } else if (mbedtls_ecp_check_privkey(&group, &d) != 0) {
        err = E_INVALID;
    } else if (mbedtls_ecp_mul(&group, &q, &d, &group.G, compat_rng, NULL) != 0 ||
               mbedtls_ecp_point_write_binary(&group, &q, MBEDTLS_ECP_PF_UNCOMPRESSED, &len,
                                              identity->point, CRYPTO_POINT_SIZE) != 0 ||
               len != CRYPTO_POINT_SIZE) {
        err = E_INTERNAL;
    }
    mbedtls_mpi_free(&d);
    mbedtls_ecp_point_free(&q);
    mbedtls_ecp_group_free(&group);
    return err;
}

enum err crypto_identity_generate(struct crypto_identity **ret)
{
    struct crypto_identity *identity = identity_new();
    if (!identity) {
        return E_NO_MEMORY;
    }
    enum err err;
    do { /* a random 256-bit number is out of range once in 2^32 */
        err = crypto_random(identity->secret->bytes, 32);
        if (!err) {
            err = derive_point(identity);
        }
    } while (err == E_INVALID);
    err = err ? err : make_signer(identity);
    if (err) {
        crypto_identity_free(identity);
        return err;
    }
    *ret = identity;
    return E_OK;
}

const uint8_t *crypto_identity_point(const struct crypto_identity *identity)
{
    return identity->point;
}

static struct span file_context(void)
{
    return span_str("concordat/identity/1");
}

enum err crypto_identity_save(const struct crypto_identity *identity, const char *path,
                              const struct crypto_key *dek, struct err_info *reterr)
{
    uint8_t file[FILE_SIZE] = {'C', 'I', 'D', '1'};
    size_t len = 0;
    struct crypto_sealer *sealer = NULL;
    memcpy(file + 4, identity->point, CRYPTO_POINT_SIZE);
    enum err err = crypto_sealer_open(dek, file_context(), &sealer);
    if (!err) {
        err = crypto_sealer_seal(sealer, span_of(file, FILE_HEADER),
                                 span_of(identity->secret->bytes, 32), file + FILE_HEADER,
                                 sizeof file - FILE_HEADER, &len);
    }
    crypto_sealer_close(sealer);
    if (err) {
        return proto_err_set(reterr, err, "sealing the key for %s failed", path);
    }
    return crypto_file_write(path, span_of(file, FILE_HEADER + len), false, reterr);
}

static enum err unseal(struct span file, const struct crypto_key *dek,
                       struct crypto_identity *identity)
{
    if (file.len != FILE_SIZE || memcmp(file.ptr, "CID1", 4) != 0) {
        return E_CORRUPT;
    }
    size_t len = 0;
    enum err err = crypto_chunk_open(dek, file_context(), span_of(file.ptr, FILE_HEADER),
                                     span_of(file.ptr + FILE_HEADER, file.len - FILE_HEADER),
                                     identity->secret->bytes, 32, &len);
    if (!err && len != 32) {
        err = E_CORRUPT;
    }
    if (!err) {
        err = derive_point(identity);
    }
    if (!err && memcmp(identity->point, file.ptr + 4, CRYPTO_POINT_SIZE) != 0) {
        err = E_CORRUPT;
    }
    return err ? err : make_signer(identity);
}

enum err crypto_identity_load(const char *path, const struct crypto_key *dek,
                              struct crypto_identity **ret, struct err_info *reterr)
{
    struct buf file = {.max = FILE_SIZE + 1};
    struct crypto_identity *identity = identity_new();
    enum err err = identity ? crypto_file_read(path, &file, reterr) : E_NO_MEMORY;
    if (!err) {
        err = unseal(buf_span(&file), dek, identity);
        if (err) {
            proto_err_set(reterr, err, "%s: %s", path,
                          err == E_AUTH ? "the key does not open it, or it was changed"
                                        : proto_err_text(err));
        }
    }
    buf_fini(&file);
    if (err) {
        crypto_identity_free(identity);
        return err;
    }
    *ret = identity;
    return E_OK;
}

/* s and n - s are both signatures; records take the lower one, so that s has one encoding. Both are public. */
static void lower_s(uint8_t s[32])
{
    static const uint8_t order[32] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
                                      0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
    uint8_t other[32];
    int borrow = 0;
    for (int i = 31; i >= 0; i--) {
        int digit = order[i] - s[i] - borrow;
        borrow = digit < 0;
        other[i] = (uint8_t)(digit & 0xff);
    }
    if (memcmp(other, s, 32) < 0) {
        memcpy(s, other, 32);
    }
}

enum err crypto_identity_sign(const struct crypto_identity *identity, const uint8_t digest[32],
                              uint8_t ret_sig[64])
{
    enum err err = crypto_provider()->p256_sign(identity->signer, digest, ret_sig);
    if (!err) {
        lower_s(ret_sig + 32);
    }
    return err;
}

/* The one way to hand a key to any of the libraries without their private fields. */
void crypto_identity_to_der(const struct crypto_identity *identity,
                            uint8_t ret_der[CRYPTO_IDENTITY_DER_SIZE])
{
    static const uint8_t head[7] = {0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20};
    static const uint8_t middle[17] = {0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                       0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42, 0x00};
    _Static_assert(sizeof head + 32 + sizeof middle + CRYPTO_POINT_SIZE == CRYPTO_IDENTITY_DER_SIZE,
                   "ECPrivateKey of a P-256 key");
    uint8_t *p = ret_der;
    memcpy(p, head, sizeof head);
    p += sizeof head;
    memcpy(p, identity->secret->bytes, 32);
    p += 32;
    memcpy(p, middle, sizeof middle);
    p += sizeof middle;
    memcpy(p, identity->point, CRYPTO_POINT_SIZE);
}

enum err crypto_identity_to_pk(const struct crypto_identity *identity,
                               struct mbedtls_pk_context *pk)
{
    uint8_t der[CRYPTO_IDENTITY_DER_SIZE];
    crypto_identity_to_der(identity, der);
    int ret = compat_pk_parse_key(pk, der, sizeof der);
    crypto_wipe(der, sizeof der);
    return ret == 0 ? E_OK : E_INTERNAL;
}
