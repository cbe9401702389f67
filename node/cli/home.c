/* What is done to a home while its daemon does not run: key recover, restore, fsck. */
#include "config.h"
#include "node/cli/cli.h"

#include "crypto/keyring.h"
#include "crypto/provider.h"
#include "node/cli/ask.h"
#include "node/cli/process.h"
#include "node/config/node.h"
#include "node/config/unlock.h"
#include "node/config/yaml.h"
#include "proto/time.h"
#include "store/backup.h"
#include "store/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 512

static enum err refuse_running(const char *home, struct err_info *reterr)
{
    return cli_process_find(home) > 0
               ? proto_err_set(reterr, E_BUSY, "the daemon of %s runs: stop it first", home)
               : E_OK;
}

/* A passphrase or PIN that was asked for; one command runs, which wipes it at its end. */
static char asked[CONFIG_UNLOCK_SECRET_MAX + 1];

/* HOW, or what FOLDER/node.yaml says; relative key files lie in HOME. FRESH: it is a new way in. */
static enum err find_unlock(const char *folder, const char *home, const char *how, bool fresh,
                            char text[sizeof((struct config_node *)0)->unlock],
                            struct config_unlock *ret, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    struct config_node config = {0};
    enum err err = E_OK;
    size_t size = sizeof config.unlock;
    if (how) {
        snprintf(text, size, "%s", how);
    } else if (!config_home_path(folder, HOME_CONFIG, path)) {
        err = proto_err_set(reterr, E_INVALID, "the path is too long");
    } else {
        err = config_yaml_node(path, &config, reterr);
        snprintf(text, size, "%s", err ? "" : config.unlock);
        config_node_fini(&config);
    }
    return err ? err
               : config_unlock_read(home, text, config_unlock_secret(text, fresh, asked), ret,
                                    reterr);
}

/* One share a line; empty lines are passed over. Returns how many. */
static size_t read_shares(FILE *from, char (*lines)[LINE_MAX_BYTES],
                          const char *texts[CRYPTO_SHARES_MAX])
{
    size_t count = 0;
    while (count < CRYPTO_SHARES_MAX && fgets(lines[count], LINE_MAX_BYTES, from)) {
        lines[count][strcspn(lines[count], "\r\n")] = '\0';
        if (lines[count][strspn(lines[count], " \t")]) {
            texts[count] = lines[count];
            count++;
        }
    }
    return count;
}

static enum err recover(const char *home, const char *file, const struct config_unlock *unlock,
                        uint8_t *ret_id, struct err_info *reterr)
{
    static char lines[CRYPTO_SHARES_MAX][LINE_MAX_BYTES];
    const char *texts[CRYPTO_SHARES_MAX];
    char path[HOME_PATH_MAX];
    struct crypto_keyring *keyring = NULL;
    FILE *from = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
    if (!from) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", file,
                             strerror(errno));
    }
    struct crypto_unlock shares = {.how = CRYPTO_UNLOCK_RECOVERY, .shares = texts};
    shares.share_count = read_shares(from, lines, texts);
    if (from != stdin) {
        fclose(from);
    }
    enum err err = config_home_path(home, HOME_KEYRING, path)
                       ? crypto_keyring_open(path, &shares, &keyring, reterr)
                       : proto_err_set(reterr, E_INVALID, "the path is too long");
    err = err ? err : crypto_keyring_slot_add(keyring, &unlock->how, ret_id, reterr);
    crypto_keyring_close(keyring);
    crypto_wipe(lines, sizeof lines);
    return err;
}

enum err cli_key_recover(struct cli_call *call, json_t **ret, int *ret_exit,
                         struct err_info *reterr)
{
    char text[sizeof((struct config_node *)0)->unlock];
    struct config_unlock unlock;
    uint8_t id = 0;
    (void)ret_exit;
    enum err err = crypto_init(reterr);
    err = err ? err : refuse_running(call->home, reterr);
    err = err ? err
              : find_unlock(call->home, call->home, cli_text(call, "--unlock"), true, text, &unlock,
                            reterr);
    err = err ? err : recover(call->home, cli_text(call, "--shares"), &unlock, &id, reterr);
    crypto_wipe(asked, sizeof asked);
    if (!err) {
        *ret = json_pack("{s:i, s:s}", "slot", (int)id, "unlock", text);
    }
    return err;
}

enum err cli_restore(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    const char *dir = cli_text(call, "DIR");
    char text[sizeof((struct config_node *)0)->unlock];
    char when[PROTO_TIME_SIZE];
    struct config_unlock unlock;
    struct store_backup_report report;
    (void)ret_exit;
    enum err err = crypto_init(reterr);
    err = err ? err : refuse_running(call->home, reterr);
    err = err ? err
              : find_unlock(dir, call->home, cli_text(call, "--unlock"), false, text, &unlock,
                            reterr);
    err = err ? err : store_backup_restore(dir, call->home, &unlock.how, &report, reterr);
    crypto_wipe(asked, sizeof asked);
    if (!err) {
        *ret = json_pack("{s:s, s:I, s:I, s:I, s:s}", "home", call->home, "files",
                         (json_int_t)report.files, "bytes", (json_int_t)report.bytes, "audit_seq",
                         (json_int_t)report.seq, "time", proto_time_format(report.time, when));
    }
    return err;
}

/* --- fsck ---------------------------------------------------------------------------------- */

static void found(void *user, const char *what, enum err err, const char *text)
{
    json_array_append_new(user, json_pack("{s:s, s:b, s:s, s:s}", "what", what, "ok", err == E_OK,
                                          "code", proto_err_name(err), "text", text));
}

/* The first bad one speaks for all, as at the daemon. */
static enum err judge(const json_t *checked, size_t bad, struct err_info *reterr)
{
    size_t i;
    json_t *row;
    json_array_foreach(checked, i, row)
    {
        if (bad && !json_is_true(json_object_get(row, "ok"))) {
            return proto_err_set(
                reterr, E_CORRUPT, "%zu of %zu things are damaged, the first: %s: %s", bad,
                json_array_size(checked), json_string_value(json_object_get(row, "what")),
                json_string_value(json_object_get(row, "text")));
        }
    }
    return E_OK;
}

static enum err check_alone(const char *home, const struct config_unlock *unlock, json_t *checked,
                            size_t *ret_bad, struct err_info *reterr)
{
    char path[HOME_PATH_MAX];
    struct crypto_keyring *keyring = NULL;
    struct store store = {0};
    struct store_check_options options = {.found = found, .user = checked};
    enum err err = config_home_path(home, HOME_KEYRING, path)
                       ? crypto_keyring_open(path, &unlock->how, &keyring, reterr)
                       : proto_err_set(reterr, E_INVALID, "the path is too long");
    err = err ? err
              : store_open_to_check(home, keyring, crypto_keyring_node_id(keyring), &store, reterr);
    if (!err) {
        err = store_check_run(&store, &options, ret_bad, reterr);
        store_close(&store);
    }
    crypto_keyring_close(keyring);
    return err;
}

/* A daemon that runs is asked; else the home is opened for reading alone, with the key that node.yaml or --unlock names. */
enum err cli_fsck(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    char text[sizeof((struct config_node *)0)->unlock];
    struct config_unlock unlock;
    size_t bad = 0;
    const char *how = cli_text(call, "--unlock");
    if (!how && cli_process_find(call->home) > 0) {
        return cli_ask(call, call->operation, ret, ret_exit, reterr);
    }
    json_t *checked = json_array();
    enum err err = crypto_init(reterr);
    err = err ? err : refuse_running(call->home, reterr);
    err = err ? err : find_unlock(call->home, call->home, how, false, text, &unlock, reterr);
    err = err ? err : check_alone(call->home, &unlock, checked, &bad, reterr);
    crypto_wipe(asked, sizeof asked);
    err = err ? err : judge(checked, bad, reterr);
    if (!err) {
        *ret = json_pack("{s:b, s:O}", "ok", 1, "checked", checked);
    }
    json_decref(checked);
    return err;
}
