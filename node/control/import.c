#include "config.h"
#include "node/control/import.h"

#include "crypto/provider.h"
#include "node/config/yaml.h"
#include "node/query/clock.h"

#include <stdio.h>
#include <unistd.h>

enum err import_load_manifest(struct import *import, const char *path, struct err_info *reterr)
{
    /* What follows is signed with a time. */
    enum err err = query_clock_check(import->call->node->peer, reterr);
    if (!err) {
        err = control_read(import->call, path, CONFIG_YAML_BYTES_MAX, &import->yaml, reterr);
    }
    if (!err) {
        err = config_yaml_manifest_bytes(buf_span(&import->yaml), path, &import->manifest, reterr);
    }
    if (!err) {
        err = proto_schema_publish(&import->manifest.schema, &import->arena, &import->published);
    }
    if (!err) {
        proto_schema_hash(&import->published, &crypto_proto_hash, import->schema_hash);
    }
    return err;
}

/* --- beside the manifest ---------------------------------------------------------------------- */

/* A file that the manifest names: its path counts from the manifest's folder, and the person must be able to read it. */
static enum err load_file(struct import *import, const char *name, struct buf *to,
                          struct err_info *reterr)
{
    const char *manifest = control_text(import->call, "MANIFEST");
    const char *slash = strrchr(manifest, '/');
    struct buf path = {.max = 4096};
    int folder = name[0] == '/' || !slash ? 0 : (int)(slash - manifest) + 1;
    enum err err = buf_printf(&path, "%.*s%s", folder, manifest, name);
    err = err ? err : buf_put(&path, span_of("", 1));
    err = err ? proto_err_set(reterr, err, "the path of %.64s is too long", name)
              : control_read(import->call, (const char *)path.ptr, IMPORT_TABLE_BYTES_MAX, to,
                             reterr);
    buf_fini(&path);
    return err;
}

static enum err load_tables(struct import *import, struct err_info *reterr)
{
    size_t count = import->manifest.schema.count;
    bool any = false;
    import->tables = proto_alloc(count, sizeof *import->tables);
    import->table_spans = proto_alloc(count, sizeof *import->table_spans);
    enum err err = import->tables && import->table_spans
                       ? E_OK
                       : proto_err_set(reterr, E_NO_MEMORY, "reading tables");
    for (size_t i = 0; i < count && !err; i++) {
        if (import->manifest.schema.columns[i].by.table) {
            err = load_file(import, import->manifest.schema.columns[i].by.table, &import->tables[i],
                            reterr);
            import->table_spans[i] = buf_span(&import->tables[i]);
            any = true;
        }
    }
    if (!err && import->manifest.exclude) {
        err = load_file(import, import->manifest.exclude, &import->exclude, reterr);
    }
    if (!err && any) {
        uint8_t hash[32];
        crypto_sha256(import->table_spans, count, hash);
        span_to_hex(span_of(hash, sizeof hash), import->tables_hash);
    }
    return err;
}

/* A bare word names a mapping, anything else is a file. */
static enum err load_mapping_text(struct import *import, struct buf *to, struct err_info *reterr)
{
    const char *name = import->manifest.mapping;
    return strpbrk(name, "/.")
               ? load_file(import, name, to, reterr)
               : config_mapping_load(import->call->node->store.home, name, to, reterr);
}

static enum err load_mapping(struct import *import, struct err_info *reterr)
{
    struct buf yaml = {0};
    uint8_t hash[32];
    enum err err = load_mapping_text(import, &yaml, reterr);
    if (!err) {
        err = config_yaml_mapping_bytes(buf_span(&yaml), import->manifest.mapping, &import->mapping,
                                        reterr);
        import->has_mapping = true;
        crypto_sha256_one(buf_span(&yaml), hash);
        span_to_hex(span_of(hash, sizeof hash), import->mapping_hash);
    }
    buf_fini(&yaml);
    return err ? err : proto_mapping_fits(&import->mapping, &import->manifest.schema, reterr);
}

enum err import_load_beside(struct import *import, struct err_info *reterr)
{
    enum err err = load_tables(import, reterr);
    return err || !import->manifest.mapping ? err : load_mapping(import, reterr);
}

bool import_is_postgres(const struct import *import)
{
    return import->has_mapping && import->mapping.format == PROTO_MAPPING_POSTGRES;
}

/* --- the data ---------------------------------------------------------------------------------- */

static enum err open_one(struct import *import, const char *name, struct err_info *reterr)
{
    struct import_data *data = &import->data[import->data_count];
    int fd = control_open(import->call, name, reterr); /* may this person read it? */
    if (fd < 0) {
        return reterr->code == E_IO ? E_INVALID : reterr->code;
    }
    /* The importer opens what was checked, not what stands under the name by then. */
    snprintf(data->path, sizeof data->path, "/proc/self/fd/%d", fd);
    data->fd = fd;
    data->name = name;
    import->data_count++;
    return E_OK;
}

enum err import_open_data(struct import *import, struct err_info *reterr)
{
    const struct proto_list *list = &import->call->request->arguments;
    const struct proto_control_argument *arguments = list->items;
    enum err err = E_OK;
    for (size_t i = 0; i < list->count && !err; i++) {
        if (!span_is(arguments[i].name, "--data")) {
            continue;
        }
        const char *name = arena_strdup(&import->call->arena, arguments[i].value);
        err = !name ? E_NO_MEMORY
              : import->data_count == STORE_FHIR_FILES
                  ? proto_err_set(reterr, E_USAGE, "at most %d files", STORE_FHIR_FILES)
                  : open_one(import, name, reterr);
    }
    if (err) {
        return err;
    }
    bool needs = !import_is_postgres(import);
    if (needs != (import->data_count > 0)) {
        return proto_err_set(reterr, E_USAGE,
                             needs ? "--data FILE is missing: where are the rows?"
                                   : "the rows come from a database: leave --data out");
    }
    return E_OK;
}

void import_free(struct import *import)
{
    for (size_t i = 0; i < import->data_count; i++) {
        close(import->data[i].fd);
    }
    buf_fini(&import->exclude);
    for (size_t i = 0; import->tables && i < import->manifest.schema.count; i++) {
        buf_fini(&import->tables[i]);
    }
    proto_free(import->tables);
    proto_free(import->table_spans);
    buf_fini(&import->yaml);
    proto_mapping_fini(&import->mapping);
    proto_manifest_fini(&import->manifest);
    arena_fini(&import->arena);
}
