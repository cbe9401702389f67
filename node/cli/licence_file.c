#include "config.h"
#include "node/cli/licence_file.h"

#include "crypto/provider.h"
#include "node/cli/client.h"
#include "node/config/yaml.h"
#include "store/file.h"

#include <stdlib.h>
#include <unistd.h>

/* A manifest has columns; what has none may only be a licence. */
static bool is_manifest(struct span text)
{
    static const char key[] = "columns:";
    for (size_t i = 0; i + sizeof key - 1 <= text.len; i++) {
        bool starts = i == 0 || text.ptr[i - 1] == '\n';
        if (starts && memcmp(text.ptr + i, key, sizeof key - 1) == 0) {
            return true;
        }
    }
    return false;
}

static enum err load_file(const char *path, struct cli_licences *ret, struct err_info *reterr)
{
    static const uint8_t no_hash[32];
    struct buf bytes = {.max = CONFIG_YAML_BYTES_MAX};
    struct cli_licence *one = &ret->items[0];
    enum err err = store_file_read(path, &bytes, reterr);
    if (!err && is_manifest(buf_span(&bytes))) {
        err = config_yaml_manifest_bytes(buf_span(&bytes), path, &ret->manifest, reterr);
    } else if (!err) {
        err = config_yaml_licence_bytes(buf_span(&bytes), path, &ret->manifest, reterr);
    }
    if (!err) {
        /* At second 1: a file may be looked at after it has run out. */
        err = proto_manifest_licence_body(&ret->manifest, no_hash, 1, &ret->arena, &one->licence,
                                          reterr);
    }
    one->source = path;
    one->state = "file";
    ret->count = err ? 0 : 1;
    buf_fini(&bytes);
    return err;
}

static enum err add_record(const json_t *record, struct cli_licences *ret, struct err_info *reterr)
{
    const char *hex = json_string_value(json_object_get(record, "body"));
    const char *node = json_string_value(json_object_get(record, "node"));
    const char *state = json_string_value(json_object_get(record, "state"));
    struct cli_licence *one = &ret->items[ret->count];
    size_t len = hex ? strlen(hex) / 2 : 0;
    uint8_t *bytes = arena_alloc(&ret->arena, len + 1, 1);
    one->source = arena_strdup(&ret->arena, span_str(node ? node : "?"));
    one->state = arena_strdup(&ret->arena, span_str(state ? state : "?"));
    if (!bytes || !one->source || !one->state) {
        return E_NO_MEMORY;
    }
    if (!hex || !span_from_hex(hex, bytes, len)) {
        return proto_err_set(reterr, E_INVALID, "the daemon's answer is not a record");
    }
    enum err err = proto_licence_decode(span_of(bytes, len), &ret->arena, &one->licence, reterr);
    ret->count += err == E_OK;
    return err;
}

static enum err ask(struct cli_call *call, const char *name, struct cli_licences *ret,
                    struct err_info *reterr)
{
    const char *node = cli_text(call, "--node");
    struct proto_control_argument arguments[] = {{span_str("NAME"), span_str(name)},
                                                 {span_str("--as"), span_str("record")},
                                                 {span_str("--node"), span_str(node)}};
    struct cli_question question = {.operation = proto_operations[PROTO_OP_LICENCE_SHOW].path,
                                    .arguments = arguments,
                                    .argument_count = node ? 3 : 2,
                                    .timeout_ms = CLI_CLIENT_TIMEOUT_MS};
    json_t *answer = NULL;
    int exit_code = 0;
    enum err err = cli_client_ask(call->home, &question, &answer, &exit_code, reterr);
    const json_t *records = json_object_get(answer, "records");
    if (!err && exit_code != 0) {
        const char *detail =
            json_string_value(json_object_get(json_object_get(answer, "error"), "detail"));
        err = proto_err_set(reterr, E_NOT_FOUND, "%s", detail ? detail : "the daemon refused");
    }
    for (size_t i = 0; !err && i < json_array_size(records) && ret->count < CLI_LICENCES_MAX; i++) {
        err = add_record(json_array_get(records, i), ret, reterr);
    }
    json_decref(answer);
    return err;
}

enum err cli_licences_load(struct cli_call *call, const char *what, struct cli_licences *ret,
                           struct err_info *reterr)
{
    const char *path = cli_absolute(call, what);
    if (!path) {
        return E_NO_MEMORY;
    }
    if (access(path, F_OK) == 0) {
        return load_file(path, ret, reterr);
    }
    if (strchr(what, '/') || strchr(what, '.')) {
        return proto_err_set(reterr, E_NOT_FOUND, "there is no file %s", what);
    }
    return ask(call, what, ret, reterr);
}

void cli_licences_fini(struct cli_licences *licences)
{
    proto_manifest_fini(&licences->manifest);
    arena_fini(&licences->arena);
    licences->count = 0;
}

enum err cli_ontology_load(struct cli_call *call, struct proto_ontology *ret,
                           struct err_info *reterr)
{
    const char *path = cli_text(call, "--ontology");
    struct buf file = {.max = PROTO_ONTOLOGY_FILE_MAX};
    enum err err = E_OK;
    if (path && strcmp(path, "none") == 0) {
        return E_OK;
    }
    if (path) {
        err = store_file_read(path, &file, reterr);
    }
    err = err ? err
              : proto_ontology_parse(path ? buf_span(&file) : proto_ontology_shipped(),
                                     &crypto_proto_hash, ret, reterr);
    buf_fini(&file);
    return err;
}
