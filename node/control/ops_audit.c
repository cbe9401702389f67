/* audit list, egress, verify (of the running node), export. */
#include "config.h"
#include "node/control/dispatch.h"

#include "node/query/site.h"
#include "store/audit_view.h"
#include "store/egress.h"

#include <sys/stat.h>
#include <unistd.h>

static enum err add_entry(void *user, const struct store_audit_entry *entry)
{
    json_t *array = user;
    json_t *body = json_loadb((const char *)entry->body.ptr, entry->body.len, 0, NULL);
    return json_array_append_new(
               array,
               json_pack("{s:I, s:o, s:s, s:o, s:o}", "seq", (json_int_t)entry->seq, "time",
                         control_json_time(entry->time), "kind", entry->kind, "hash",
                         control_json_hex(entry->hash, 32), "body", body ? body : json_null()))
               ? E_NO_MEMORY
               : E_OK;
}

enum err control_audit_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    json_t *array = json_array();
    enum err err = store_audit_each(&call->node->store, control_since(call),
                                    control_text(call, "--kind"), add_entry, array, reterr);
    *ret = array;
    return err;
}

static enum err add_egress(void *user, const struct store_egress *row)
{
    json_t *array = user;
    return json_array_append_new(array, json_pack("{s:o, s:s, s:s, s:s, s:I}", "time",
                                                  control_json_time(row->time), "peer", row->peer,
                                                  "kind", row->kind, "id", row->id, "bytes",
                                                  (json_int_t)row->bytes))
               ? E_NO_MEMORY
               : E_OK;
}

enum err control_audit_egress(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    json_t *array = json_array();
    enum err err = store_egress_flush(&call->node->store, query_now(), reterr);
    if (!err) {
        err = store_egress_each(&call->node->store, control_since(call), add_egress, array, reterr);
    }
    *ret = array;
    return err;
}

/* Of this node's own chain: the daemon reads no file that a caller names. A broken one is an error, whatever the report says. */
enum err control_audit_verify(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    if (control_flag(call, "--file")) {
        return proto_err_set(reterr, E_USAGE,
                             "a daemon verifies its own audit chain; `concordat audit verify "
                             "--file` an export");
    }
    struct store_audit_report *report = arena_alloc(&call->arena, 1, sizeof *report);
    enum err err = report ? store_audit_check(&call->node->store, report, reterr) : E_NO_MEMORY;
    if (!err) {
        *ret = store_audit_view(report);
    }
    return err;
}

enum err control_audit_export(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *file = control_text(call, "FILE");
    struct store_audit_head head;
    struct stat st;
    if (call->uid != 0 && call->uid != geteuid()) {
        return proto_err_set(reterr, E_ROLE,
                             "only the daemon's own user and root may let it write files");
    }
    enum err err = control_audit(call, "audit.export", reterr, "file", file, (const char *)NULL);
    if (!err) {
        err = store_audit_export(&call->node->store, file, reterr);
    }
    if (!err) {
        err = store_audit_head(&call->node->store, &head);
    }
    if (!err) {
        *ret = json_pack("{s:s, s:I, s:I}", "file", file, "entries", (json_int_t)head.seq, "bytes",
                         (json_int_t)(stat(file, &st) ? 0 : st.st_size));
    }
    return err;
}
