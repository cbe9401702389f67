#include "config.h"
#include "proto/lineage.h"

#include "proto/base64.h"
#include "proto/time.h"

#define SAFE (INT64_C(1) << 53)

static const struct proto_field node_fields[] = {
    PROTO_FIELD(struct proto_lineage_node, node, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_lineage_node, name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_lineage_node, org, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_lineage_node, licence, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_lineage_node, rounds, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_lineage_node, epsilon_u, PROTO_U64, 0, SAFE),
};
static const struct proto_message node_message =
    PROTO_MESSAGE("participant", struct proto_lineage_node, node_fields);

static const struct proto_field fields[] = {
    PROTO_FIELD(struct proto_lineage, v, PROTO_U64, PROTO_LINEAGE_VERSION, PROTO_LINEAGE_VERSION),
    PROTO_FIELD(struct proto_lineage, federation, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_lineage, model, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_lineage, job, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct proto_lineage, job_name, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_lineage, plan, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct proto_lineage, dataset, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_lineage, task, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_lineage, weights, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct proto_lineage, size, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_lineage, rounds, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_lineage, delta_e12, PROTO_U64, 0, SAFE),
    PROTO_FIELD(struct proto_lineage, unit, PROTO_STR, 1, 64),
    PROTO_FIELD(struct proto_lineage, coordinator, PROTO_STR, 1, 64),
    PROTO_FIELD_LIST(struct proto_lineage, nodes, &node_message, 0, PROTO_LINEAGE_NODES),
    PROTO_FIELD(struct proto_lineage, created, PROTO_I64, 0, SAFE),
};
const struct proto_message proto_lineage_message =
    PROTO_MESSAGE("lineage", struct proto_lineage, fields);

/* --- JSON, with keys in one order and numbers that no library can write in another way ------------------- */

static enum err put_text(struct buf *out, const char *before, struct span text)
{
    enum err err = buf_printf(out, "%s\"", before);
    for (size_t i = 0; !err && i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '"' || c == '\\') {
            err = buf_printf(out, "\\%c", c);
        } else if (c < 0x20) {
            err = buf_printf(out, "\\u%04x", c);
        } else {
            err = buf_put(out, span_of(&text.ptr[i], 1));
        }
    }
    return err ? err : buf_put(out, span_str("\""));
}

static enum err put_hex(struct buf *out, const char *before, struct span bytes)
{
    char text[65];
    if (bytes.len > 32) {
        return E_LIMIT;
    }
    span_to_hex(bytes, text);
    return buf_printf(out, "%s\"%s\"", before, text);
}

static enum err put_node(struct buf *out, const struct proto_lineage_node *node, bool first)
{
    enum err err = put_text(out, first ? "{\"node\":" : ",{\"node\":", node->name);
    err = err ? err : put_hex(out, ",\"id\":", node->node);
    err = err ? err : put_text(out, ",\"institution\":", node->org);
    err = err ? err : put_hex(out, ",\"licence\":", node->licence);
    return err ? err
               : buf_printf(out, ",\"rounds\":%llu,\"epsilon\":\"%llu.%06llu\"}",
                            (unsigned long long)node->rounds,
                            (unsigned long long)(node->epsilon_u / 1000000),
                            (unsigned long long)(node->epsilon_u % 1000000));
}

static enum err put_predicate(struct buf *out, const struct proto_lineage *lineage)
{
    char when[PROTO_TIME_SIZE];
    const struct proto_lineage_node *nodes = lineage->nodes.items;
    enum err err = put_hex(out, "{\"federation\":", lineage->federation);
    err = err ? err : put_hex(out, ",\"job\":", lineage->job);
    err = err ? err : put_text(out, ",\"name\":", lineage->job_name);
    err = err ? err : put_hex(out, ",\"plan\":{\"sha256\":", lineage->plan);
    err = err ? err : put_text(out, "},\"dataset\":", lineage->dataset);
    err = err ? err : put_text(out, ",\"task\":", lineage->task);
    err = err ? err : put_text(out, ",\"coordinator\":", lineage->coordinator);
    err = err ? err : put_text(out, ",\"unit\":", lineage->unit);
    err = err ? err
              : buf_printf(out,
                           ",\"size\":%llu,\"rounds\":%llu,\"delta\":\"0.%012llu\",\"created\":"
                           "\"%s\",\"participants\":[",
                           (unsigned long long)lineage->size, (unsigned long long)lineage->rounds,
                           (unsigned long long)lineage->delta_e12,
                           proto_time_format(lineage->created, when));
    for (size_t i = 0; !err && i < lineage->nodes.count; i++) {
        err = put_node(out, &nodes[i], i == 0);
    }
    return err ? err : buf_put(out, span_str("]}"));
}

enum err proto_lineage_statement(const struct proto_lineage *lineage, struct buf *out)
{
    enum err err = put_text(
        out,
        "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"name\":", lineage->model);
    err = err ? err : put_hex(out, ",\"digest\":{\"sha256\":", lineage->weights);
    err =
        err ? err
            : buf_put(out,
                      span_str("}}],\"predicateType\":\"urn:concordat:lineage:1\",\"predicate\":"));
    err = err ? err : put_predicate(out, lineage);
    return err ? err : buf_put(out, span_str("}"));
}

enum err proto_lineage_signed(struct span statement, struct buf *out)
{
    enum err err = buf_printf(out, "DSSEv1 %zu %s %zu ", sizeof PROTO_LINEAGE_TYPE - 1,
                              PROTO_LINEAGE_TYPE, statement.len);
    return err ? err : buf_put(out, statement);
}

enum err proto_lineage_envelope(struct span statement,
                                const struct proto_lineage_signature *signatures, size_t count,
                                struct buf *out)
{
    enum err err = buf_printf(out, "{\"payloadType\":\"%s\",\"payload\":\"", PROTO_LINEAGE_TYPE);
    err = err ? err : proto_base64_encode(PROTO_BASE64, statement, out);
    err = err ? err : buf_put(out, span_str("\",\"signatures\":["));
    for (size_t i = 0; !err && i < count; i++) {
        char id[33];
        span_to_hex(span_of(signatures[i].node, 16), id);
        err = buf_printf(out, "%s{\"keyid\":\"%s\",\"sig\":\"", i ? "," : "", id);
        err = err ? err : proto_base64_encode(PROTO_BASE64, signatures[i].der, out);
        err = err ? err : buf_put(out, span_str("\"}"));
    }
    return err ? err : buf_put(out, span_str("]}\n"));
}

bool proto_lineage_is_envelope(struct span document)
{
    static const char head[] = "{\"payloadType\":\"" PROTO_LINEAGE_TYPE "\",\"payload\":\"";
    static const char middle[] = "\",\"signatures\":[";
    static const char tail[] = "]}\n";
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    size_t at = sizeof head - 1;
    if (document.len < at || memcmp(document.ptr, head, at) != 0) {
        return false;
    }
    while (at < document.len && memchr(digits, document.ptr[at], sizeof digits - 1)) {
        at++;
    }
    size_t left = document.len - at;
    return left >= sizeof middle - 1 + sizeof tail - 1 &&
           memcmp(document.ptr + at, middle, sizeof middle - 1) == 0 &&
           memcmp(document.ptr + document.len - (sizeof tail - 1), tail, sizeof tail - 1) == 0;
}
