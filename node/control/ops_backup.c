/* backup, fsck, restore accept. */
#include "config.h"
#include "node/control/dispatch.h"

#include "node/config/home.h"
#include "node/query/damage.h"
#include "node/query/site.h"
#include "store/backup.h"
#include "store/check.h"
#include "store/ledger.h"

#include <stdio.h>
#include <unistd.h>

static void show_files(void *user, uint64_t done, uint64_t total)
{
    control_progress(user, "copying, files", done, total);
}

enum err control_backup(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    static const char *const files[] = {HOME_CONFIG, HOME_IDENTITY_DIR, HOME_MAPPINGS_DIR, NULL};
    const char *dir = control_text(call, "DIR");
    struct store_backup_report report;
    struct store_backup_options options = {
        .now = query_now(), .cancelled = control_cancelled, .progress = show_files, .user = call};
    if (call->uid != 0 && call->uid != geteuid()) {
        return proto_err_set(reterr, E_ROLE,
                             "only the daemon's own user and root may let it write files");
    }
    enum err err = control_audit(call, "backup", reterr, "folder", dir, (const char *)NULL);
    err = err ? err : store_backup_make(&call->node->store, dir, files, &options, &report, reterr);
    if (!err) {
        *ret = json_pack("{s:s, s:I, s:I, s:I, s:o, s:b}", "folder", dir, "files",
                         (json_int_t)report.files, "bytes", (json_int_t)report.bytes, "audit_seq",
                         (json_int_t)report.seq, "time", control_json_time(report.time), "verified",
                         1);
    }
    return err;
}

struct findings {
    struct control_call *call;
    json_t *array;
    uint64_t done;
};

static void found(void *user, const char *what, enum err err, const char *text)
{
    struct findings *findings = user;
    json_array_append_new(findings->array,
                          json_pack("{s:s, s:b, s:s, s:s}", "what", what, "ok", err == E_OK, "code",
                                    proto_err_name(err), "text", text));
    control_progress(findings->call, what, ++findings->done, 0);
}

static bool cancelled(void *user)
{
    return control_cancelled(((struct findings *)user)->call);
}

enum err control_fsck(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct findings findings = {.call = call, .array = json_array()};
    struct store_check_options options = {
        .found = found, .cancelled = cancelled, .user = &findings};
    size_t bad = 0;
    enum err err = store_check_run(&call->node->store, &options, &bad, reterr);
    for (size_t i = 0; bad && !err && i < json_array_size(findings.array); i++) {
        const json_t *row = json_array_get(findings.array, i);
        if (!json_is_true(json_object_get(row, "ok"))) {
            err = proto_err_set(
                reterr, E_CORRUPT, "%zu of %zu things are damaged, the first: %s: %s", bad,
                json_array_size(findings.array), json_string_value(json_object_get(row, "what")),
                json_string_value(json_object_get(row, "text")));
        }
    }
    if (!err) {
        query_damage_forget_all(call->node->query.damage);
        *ret = json_pack("{s:b, s:O}", "ok", 1, "checked", findings.array);
    }
    json_decref(findings.array);
    return err;
}

enum err control_restore_accept(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    struct node *node = call->node;
    struct store_audit_head shown;
    struct store_lost lost;
    char marker[HOME_PATH_MAX];
    pthread_mutex_lock(&node->config_lock);
    bool witnessed = node->has_witnessed;
    shown = node->witnessed;
    pthread_mutex_unlock(&node->config_lock);
    if (node->ready || (!node->restored && !node->rolled_back)) {
        return proto_err_set(
            reterr, E_REFUSED,
            "this home is the newest that its witnesses know: there is nothing to decide");
    }
    if (!witnessed && !control_flag(call, "--unwitnessed")) {
        return proto_err_set(reterr, E_UNREACHABLE,
                             "no other institution has told what it saw of this node, so what was "
                             "spent since the backup is not known; "
                             "wait for them, or say --unwitnessed");
    }
    enum err err = control_audit(call, "restore.decide", reterr, "witnessed",
                                 witnessed ? "yes" : "no", (const char *)NULL);
    err = err ? err
              : store_ledger_accept(&node->store, witnessed ? &shown : NULL, query_now(), &lost,
                                    reterr);
    if (!err) {
        if (config_home_path(node->home, STORE_RESTORED, marker)) {
            (void)unlink(marker);
        }
        node->restored = false;
        node->rolled_back = false; /* the next comparison, a second from now, decides */
        *ret = json_pack("{s:b, s:I, s:o}", "accepted", 1, "missing_entries",
                         (json_int_t)lost.entries, "charged_rho", control_json_nano(lost.nano));
    }
    return err;
}
