#include "config.h"
#include "proto/record.h"

static const struct proto_field envelope_fields[] = {
    PROTO_FIELD(struct proto_envelope, version, PROTO_U64, 1, 1),
    PROTO_FIELD(struct proto_envelope, kind, PROTO_U64, 1, PROTO_RECORD_KIND_MAX),
    PROTO_FIELD(struct proto_envelope, issuer, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_envelope, key, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_envelope, seq, PROTO_U64, 1, INT64_C(1) << 53),
    PROTO_FIELD(struct proto_envelope, hlc, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct proto_envelope, expires, PROTO_U64, 0, INT64_C(1) << 53),
    PROTO_FIELD_OPTIONAL(struct proto_envelope, prev, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_envelope, flags, PROTO_U64, 0, PROTO_RECORD_FLAGS),
    PROTO_FIELD(struct proto_envelope, body, PROTO_BIN, 0, PROTO_RECORD_BODY_MAX),
};
static const struct proto_message envelope_message =
    PROTO_MESSAGE("envelope", struct proto_envelope, envelope_fields);

struct sealed {
    struct span envelope_bytes;
    struct span signature;
};
static const struct proto_field sealed_fields[] = {
    PROTO_FIELD(struct sealed, envelope_bytes, PROTO_BIN, 1, PROTO_RECORD_MAX - 72),
    PROTO_FIELD(struct sealed, signature, PROTO_BIN, 64, 64),
};
static const struct proto_message sealed_message =
    PROTO_MESSAGE("record", struct sealed, sealed_fields);

const char *proto_record_kind_name(uint64_t kind)
{
    switch (kind) {
#define X(name, number, text)                                                                      \
    case number:                                                                                   \
        return text;
        PROTO_RECORD_KINDS(X)
#undef X
    default:
        return "unknown";
    }
}

/* Two rules that the table cannot state. */
static enum err envelope_valid(const struct proto_envelope *envelope, struct err_info *reterr)
{
    bool gone = envelope->flags & (PROTO_RECORD_TOMBSTONE | PROTO_RECORD_FINAL);
    if (envelope->body.len == 0 && !gone) {
        return proto_err_set(reterr, E_INVALID, "envelope.body: only a withdrawn record has none");
    }
    if (envelope->seq == 1 && envelope->prev.ptr) {
        return proto_err_set(reterr, E_INVALID,
                             "envelope.prev: the first version replaces nothing");
    }
    return E_OK;
}

enum err proto_record_encode(const struct proto_envelope *envelope, struct buf *ret_envelope_bytes,
                             struct err_info *reterr)
{
    enum err err = envelope_valid(envelope, reterr);
    return err ? err : proto_codec_encode(&envelope_message, envelope, ret_envelope_bytes, reterr);
}

enum err proto_record_seal(struct span envelope_bytes, const uint8_t signature[64],
                           struct buf *ret_record)
{
    struct sealed sealed = {envelope_bytes, span_of(signature, 64)};
    return proto_codec_encode(&sealed_message, &sealed, ret_record, NULL);
}

static void tagged_hash(const struct proto_hash *hash, const char *tag, struct span bytes,
                        uint8_t ret[16])
{
    uint8_t digest[PROTO_HASH_SIZE];
    /* The zero byte ends the tag, so that no tag is the beginning of another. */
    struct span parts[] = {span_of(tag, strlen(tag) + 1), bytes};
    hash->sha256(parts, 2, digest);
    memcpy(ret, digest, 16);
}

void proto_record_id(const struct proto_hash *hash, struct span envelope_bytes,
                     uint8_t ret_id[PROTO_RECORD_ID_SIZE])
{
    tagged_hash(hash, "concordat1-rid", envelope_bytes, ret_id);
}

void proto_record_key(const struct proto_hash *hash, const char *name, uint8_t ret_key[16])
{
    tagged_hash(hash, "concordat1-key", span_str(name), ret_key);
}

enum err proto_record_decode(struct span record, const struct proto_hash *hash,
                             struct proto_record *ret, struct err_info *reterr)
{
    if (record.len > PROTO_RECORD_MAX) {
        return proto_err_set(reterr, E_LIMIT, "record: longer than %d bytes", PROTO_RECORD_MAX);
    }
    struct arena unused = {0}; /* neither table holds a list */
    struct sealed sealed;
    struct proto_record decoded = {0};
    enum err err = proto_codec_decode(&sealed_message, record, &unused, &sealed, reterr);
    if (!err) {
        err = proto_codec_decode(&envelope_message, sealed.envelope_bytes, &unused,
                                 &decoded.envelope, reterr);
    }
    if (!err) {
        err = envelope_valid(&decoded.envelope, reterr);
    }
    arena_fini(&unused);
    if (err) {
        return err;
    }
    decoded.envelope_bytes = sealed.envelope_bytes;
    memcpy(decoded.signature, sealed.signature.ptr, sizeof decoded.signature);
    proto_record_id(hash, sealed.envelope_bytes, decoded.id);
    *ret = decoded;
    return E_OK;
}

int proto_record_compare(const struct proto_record *a, const struct proto_record *b)
{
    uint64_t final_a = a->envelope.flags & PROTO_RECORD_FINAL;
    uint64_t final_b = b->envelope.flags & PROTO_RECORD_FINAL;
    if (final_a != final_b) {
        return final_a ? 1 : -1;
    }
    if (a->envelope.seq != b->envelope.seq) {
        return a->envelope.seq > b->envelope.seq ? 1 : -1;
    }
    int order = memcmp(a->id, b->id, sizeof a->id);
    return order < 0 ? 1 : order > 0 ? -1 : 0;
}

bool proto_record_equivocates(const struct proto_record *a, const struct proto_record *b)
{
    return span_equal(a->envelope.issuer, b->envelope.issuer) &&
           span_equal(a->envelope.key, b->envelope.key) && a->envelope.seq == b->envelope.seq &&
           memcmp(a->id, b->id, sizeof a->id) != 0;
}
