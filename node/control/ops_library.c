/* model fetch, model publish; and what `model show` says of lineage and taint. */
#include "config.h"
#include "node/control/dispatch.h"
#include "node/control/models.h"
#include "node/control/views.h"

#include "crypto/provider.h"
#include "node/model/folder.h"
#include "node/query/site.h"
#include "node/train/base.h"
#include "node/train/library.h"
#include "node/train/statement.h"
#include "proto/base64.h"
#include "store/blob.h"
#include "store/records.h"

/* --- lineage ------------------------------------------------------------------------------------------------ */

/* The key as common tools read it. */
static json_t *key_pem(const uint8_t point[65])
{
    static const uint8_t head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48,
                                   0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A, 0x86, 0x48,
                                   0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};
    uint8_t der[sizeof head + 65];
    struct buf text = {.max = 256};
    memcpy(der, head, sizeof head);
    memcpy(der + sizeof head, point, 65);
    /* Lines of 64 characters, which come from 48 bytes. */
    enum err err = buf_put(&text, span_str("-----BEGIN PUBLIC KEY-----\n"));
    for (size_t at = 0; at < sizeof der && !err; at += 48) {
        size_t len = sizeof der - at < 48 ? sizeof der - at : 48;
        err = proto_base64_encode(PROTO_BASE64, span_of(der + at, len), &text);
        err = err ? err : buf_put(&text, span_str("\n"));
    }
    err = err ? err : buf_put(&text, span_str("-----END PUBLIC KEY-----\n"));
    json_t *pem = err ? json_null() : control_json_span(buf_span(&text));
    buf_fini(&text);
    return pem;
}

/* Whether NODE's signature on DIGEST is right; *RET_NAME: the member, or the id that nobody has. */
static bool check_signature(struct control_call *call, const json_t *entry,
                            const uint8_t digest[32], const char **ret_name, json_t *keys)
{
    const char *keyid = json_string_value(json_object_get(entry, "keyid"));
    const char *sig = json_string_value(json_object_get(entry, "sig"));
    struct buf der = {.max = CRYPTO_SIGNATURE_DER_MAX};
    struct peer_member member;
    uint8_t id[16];
    uint8_t signature[64];
    *ret_name = keyid ? arena_strdup(&call->arena, span_str(keyid)) : "";
    bool known =
        keyid && span_from_hex(keyid, id, 16) && peer_member_by_id(call->node->peer, id, &member);
    if (known) {
        *ret_name = arena_strdup(&call->arena, span_str(member.name));
        json_object_set_new(keys, member.name, key_pem(member.point));
    }
    bool good = known && sig && proto_base64_decode(PROTO_BASE64, span_str(sig), &der) == E_OK &&
                crypto_signature_from_der(buf_span(&der), signature) == E_OK &&
                crypto_provider()->p256_verify(member.point, digest, signature) == E_OK;
    buf_fini(&der);
    return good;
}

static json_t *signatures_view(struct control_call *call, const json_t *document,
                               struct span statement, json_t *view)
{
    struct buf to_sign = {.max = PROTO_LINEAGE_MAX + 64};
    json_t *good = json_array();
    json_t *bad = json_array();
    json_t *keys = json_object();
    uint8_t digest[32];
    size_t index;
    json_t *entry;
    if (proto_lineage_signed(statement, &to_sign) == E_OK) {
        struct span bytes = buf_span(&to_sign);
        crypto_sha256(&bytes, 1, digest);
        json_array_foreach(json_object_get(document, "signatures"), index, entry)
        {
            const char *name = "";
            bool right = check_signature(call, entry, digest, &name, keys);
            json_array_append_new(right ? good : bad, json_string(name ? name : ""));
        }
    }
    buf_fini(&to_sign);
    json_object_set_new(view, "signed_by", good);
    json_object_set_new(view, "invalid", bad);
    json_object_set_new(view, "keys", keys);
    return view;
}

/* The statement must be about these weights. */
static json_t *lineage_view(const struct control_model *found)
{
    struct control_call *call = found->call;
    const struct proto_model *model = &found->model;
    struct buf bytes = {.max = TRAIN_STATEMENT_MAX};
    struct buf statement = {.max = PROTO_LINEAGE_MAX};
    json_t *view = NULL;
    train_library_lineage(&call->node->query, &found->record, model);
    if (!model->lineage.ptr ||
        store_blob_get(&call->node->store, model->lineage.ptr, &bytes, NULL)) {
        buf_fini(&bytes);
        return json_null();
    }
    json_t *document = json_loadb((const char *)bytes.ptr, bytes.len, 0, NULL);
    const char *payload = json_string_value(json_object_get(document, "payload"));
    json_t *parsed = NULL;
    if (payload && proto_base64_decode(PROTO_BASE64, span_str(payload), &statement) == E_OK) {
        parsed = json_loadb((const char *)statement.ptr, statement.len, 0, NULL);
    }
    char weights[65];
    span_to_hex(model->weights, weights);
    const char *about = json_string_value(json_object_get(
        json_object_get(json_array_get(json_object_get(parsed, "subject"), 0), "digest"),
        "sha256"));
    if (parsed && about && strcmp(about, weights) == 0) {
        view = signatures_view(call, document, buf_span(&statement),
                               json_pack("{s:O}", "statement", parsed));
    }
    json_decref(parsed);
    json_decref(document);
    buf_fini(&bytes);
    buf_fini(&statement);
    return view ? view : json_null();
}

void control_model_use(struct control_call *call, const struct proto_record *record,
                       const struct proto_model *model, json_t *view)
{
    enum proto_reason reason = PROTO_REASON_NONE;
    char by[33] = "";
    struct peer_member self;
    if (peer_member_by_id(call->node->peer, call->node->query.node_id, &self)) {
        reason = train_model_standing(call->node->train, record, model, &self, by);
    }
    json_object_set_new(view, "here",
                        json_boolean(store_blob_has(&call->node->store, model->weights.ptr)));
    json_object_set_new(view, "tainted", json_boolean(by[0] != '\0'));
    json_object_set_new(view, "usable", json_boolean(reason == PROTO_REASON_NONE));
    json_object_set_new(view, "reason", json_string(proto_reason_name(reason)));
    json_object_set_new(view, "tainted_by", by[0] ? json_string(by) : json_null());
}

void control_model_state(const struct control_model *found, json_t *view)
{
    control_model_use(found->call, &found->record, &found->model, view);
    json_object_set_new(view, "lineage", lineage_view(found));
}

/* --- papers ------------------------------------------------------------------------------------------------- */

/* The data licence under which NODE gave its rows; NULL: its record is not here any more. */
static const char *data_licence(struct control_call *call, const struct proto_model *model,
                                struct span node)
{
    const struct proto_model_licence *licences = model->licences.items;
    for (size_t i = 0; i < model->licences.count; i++) {
        struct span bytes;
        struct proto_record record;
        struct proto_licence licence;
        if (store_records_by_id(&call->node->store, licences[i].record_id.ptr, &call->arena,
                                &bytes) == E_OK &&
            proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
            span_equal(record.envelope.issuer, node) &&
            proto_licence_decode(record.envelope.body, &call->arena, &licence, NULL) == E_OK) {
            return arena_strdup(&call->arena, licence.spdx);
        }
    }
    return NULL;
}

static enum err put_sources(const struct control_model *found, struct buf *to)
{
    const struct proto_model_participant *participants = found->model.participants.items;
    enum err err =
        buf_printf(to,
                   "# Attribution\n\nThe model %.*s (licence %.*s) was trained on the "
                   "data set %.*s of:\n\n",
                   (int)found->model.name.len, (const char *)found->model.name.ptr,
                   (int)found->model.spdx.len, (const char *)found->model.spdx.ptr,
                   (int)found->model.dataset.len, (const char *)found->model.dataset.ptr);
    for (size_t i = 0; i < found->model.participants.count && !err; i++) {
        const char *spdx = data_licence(found->call, &found->model, participants[i].node);
        err = buf_printf(to, "- %.*s%s%s\n", (int)participants[i].org.len,
                         (const char *)participants[i].org.ptr, spdx ? ", given under " : "",
                         spdx ? spdx : "");
    }
    return err;
}

/* Whom to name and what is owed, for the people who get the model. */
static enum err put_attribution(const struct control_model *found, const json_t *view,
                                struct buf *to)
{
    const json_t *duties = json_object_get(view, "obligations");
    enum err err = put_sources(found, to);
    if (!err && json_array_size(duties)) {
        err = buf_printf(to, "\nWho uses it owes:\n\n");
    }
    for (size_t i = 0; i < json_array_size(duties) && !err; i++) {
        const json_t *duty = json_array_get(duties, i);
        const char *text = json_string_value(json_object_get(duty, "text"));
        err = buf_printf(to, "- %s%s%.2000s\n", json_string_value(json_object_get(duty, "id")),
                         text ? ": " : "", text ? text : "");
    }
    return err;
}

enum err control_model_papers(const struct control_model *model, const json_t *view,
                              const char *dir, struct err_info *reterr)
{
    struct buf statement = {.max = TRAIN_STATEMENT_MAX};
    struct buf names = {.max = 1 << 20};
    enum err err = put_attribution(model, view, &names);
    err = err ? err : model_folder_write(dir, "ATTRIBUTION.md", buf_span(&names), reterr);
    if (!err && model->model.lineage.ptr &&
        store_blob_get(&model->call->node->store, model->model.lineage.ptr, &statement, NULL) ==
            E_OK) {
        err = model_folder_write(dir, "lineage.json", buf_span(&statement), reterr);
    }
    buf_fini(&names);
    buf_fini(&statement);
    return err;
}

/* --- the library -------------------------------------------------------------------------------------------- */

struct fetching {
    struct control_call *call;
    uint64_t done, total;
};

static void show_progress(void *user, uint64_t bytes)
{
    struct fetching *fetching = user;
    fetching->done += bytes;
    control_progress(fetching->call, "fetching the model", fetching->done, fetching->total);
}

static bool fetch_cancelled(void *user)
{
    struct fetching *fetching = user;
    return control_cancelled(fetching->call);
}

/* A base model is for training on: it gets its name here too, unless that means another one. */
static enum err name_base(struct control_call *call, const struct proto_model *model,
                          struct err_info *reterr)
{
    struct train_base base = {.size = model->size, .time = query_now()};
    if (!span_is(model->task, TRAIN_MODEL_IMPORTED) || model->spdx.len >= sizeof base.spdx) {
        return E_OK;
    }
    snprintf(base.name, sizeof base.name, "%.*s", (int)model->name.len,
             (const char *)model->name.ptr);
    snprintf(base.spdx, sizeof base.spdx, "%.*s", (int)model->spdx.len,
             (const char *)model->spdx.ptr);
    memcpy(base.hash, model->weights.ptr, 32);
    struct train_base other;
    enum err err = train_base_find(&call->node->store, base.name, &other, NULL);
    return err == E_NOT_FOUND ? train_base_put(&call->node->store, &base, reterr) : err;
}

enum err control_model_fetch(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *node = control_text(call, "--node");
    struct control_model found;
    struct control_use use = {.purpose = NULL};
    struct peer_member from;
    enum err err = control_model_find(call, &found, reterr);
    err = err ? err : control_model_may(&found, &use, reterr);
    if (!err && node && !peer_member_by_name(call->node->peer, node, &from)) {
        err = proto_err_set(reterr, E_NOT_FOUND, "no member is called %s", node);
    }
    bool here = !err && store_blob_has(&call->node->store, found.model.weights.ptr);
    struct fetching fetching = {.call = call, .total = err ? 0 : found.model.size};
    err = err ? err
              : control_audit(call, "model.fetch", reterr, "model", control_text(call, "ID"),
                              "node", node, "purpose", use.purpose, "project", use.project,
                              (const char *)NULL);
    err = err ? err
              : train_library_fetch(call->node->train, &found.record, &found.model,
                                    node ? from.id : NULL, fetch_cancelled, show_progress,
                                    &fetching, reterr);
    err = err ? err : name_base(call, &found.model, reterr);
    if (!err) {
        *ret = json_pack("{s:o, s:o, s:I, s:I, s:b}", "model", control_json_span(found.model.name),
                         "weights", control_json_hex(found.model.weights.ptr, 32), "size",
                         (json_int_t)found.model.size, "fetched", (json_int_t)fetching.done,
                         "was_here", here);
    }
    return err;
}

/* An imported model becomes known to the federation, under the licence that it was imported with. */
static enum err publish_base(struct control_call *call, const struct train_base *base,
                             uint8_t ret_id[16], struct err_info *reterr)
{
    struct buf body = {.max = PROTO_RECORD_BODY_MAX};
    struct proto_model model = {.v = PROTO_MODEL_VERSION,
                                .name = span_str(base->name),
                                .job = span_str("import"),
                                .dataset = span_str("none"),
                                .task = span_str(TRAIN_MODEL_IMPORTED),
                                .weights = span_of(base->hash, 32),
                                .size = base->size,
                                .unit = span_str("none"),
                                .spdx = span_str(base->spdx),
                                .release = PROTO_RELEASE_FEDERATION,
                                .metrics = span_str("{}"),
                                .created = (uint64_t)query_now()};
    enum err err = query_clock_check(call->node->peer, reterr);
    err = err ? err : proto_model_encode(&model, &body, reterr);
    err = err ? err
              : control_audit(call, "model.publish", reterr, "model", base->name, "licence",
                              base->spdx, (const char *)NULL);
    err = err ? err
              : peer_publish(call->node->peer, PROTO_RECORD_MODEL, base->name, buf_span(&body), 0,
                             0, ret_id, reterr);
    buf_fini(&body);
    return err;
}

/* A trained model's record went out when its job ended; publishing it says whether others may have it, and who. */
enum err control_model_publish(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *name = control_text(call, "ID");
    struct train_base base;
    struct control_model found;
    const struct proto_model *model = &found.model;
    uint8_t id[16];
    enum err err = train_base_find(&call->node->store, name, &base, reterr);
    if (!err) {
        err = publish_base(call, &base, id, reterr);
        if (!err) {
            *ret = json_pack("{s:s, s:o, s:s, s:s}", "model", base.name, "record",
                             control_json_hex(id, 16), "spdx", base.spdx, "release", "federation");
        }
        return err;
    }
    err = err == E_NOT_FOUND ? control_model_find(call, &found, reterr) : err;
    if (!err && model->participants.count && model->epsilon_u == 0) {
        err = proto_err_set(reterr, E_REFUSED, "%s (LICENSE_NONPRIVATE)",
                            proto_reason_text(PROTO_REASON_LICENSE_NONPRIVATE));
    }
    struct peer_member self;
    if (!err && peer_member_by_id(call->node->peer, call->node->query.node_id, &self)) {
        err = train_model_may(call->node->train, &found.record, model, &self, reterr);
    }
    if (!err) {
        *ret =
            json_pack("{s:o, s:o, s:o, s:s}", "model", control_json_span(model->name), "record",
                      control_json_hex(found.record.id, 16), "spdx", control_json_span(model->spdx),
                      "release", proto_release_name(model->release));
    }
    return err;
}
