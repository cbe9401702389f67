/* key list, add, remove, rotate. */
#include "config.h"
#include "node/control/dispatch.h"

#include "node/config/unlock.h"
#include "store/catalogue.h"
#include "store/rotate.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASSPHRASE_MAX 1024

/* --- secrets --------------------------------------------------------------------------------------------------------- */

/* The first line of a file that the person behind the call may read: secrets stand neither in arguments nor in environments.
 * PHRASE is wiped by the caller. */
static enum err read_passphrase(struct control_call *call, char phrase[PASSPHRASE_MAX + 2],
                                struct err_info *reterr)
{
    const char *file = control_text(call, "--passphrase-file");
    size_t len = 0;
    memset(phrase, 0, PASSPHRASE_MAX + 2);
    if (!file) {
        return E_OK;
    }
    int fd = control_open(call, file, reterr);
    if (fd < 0) {
        return reterr->code;
    }
    ssize_t got;
    while (len < PASSPHRASE_MAX + 1 &&
           (got = read(fd, phrase + len, PASSPHRASE_MAX + 1 - len)) > 0) {
        len += (size_t)got;
    }
    close(fd);
    phrase[strcspn(phrase, "\r\n")] = '\0';
    len = strlen(phrase);
    return len > 0 && len <= PASSPHRASE_MAX
               ? E_OK
               : proto_err_set(reterr, E_INVALID, "%s: a passphrase is one line of 1 to %d bytes",
                               file, PASSPHRASE_MAX);
}

static struct span phrase_span(const char *phrase)
{
    return phrase[0] ? span_str(phrase) : SPAN_NONE;
}

/* --- views ----------------------------------------------------------------------------------------------------------- */

static json_t *slot_view(const struct crypto_slot *slot)
{
    static const char *const hows[] = {"keyfile", "passphrase", "credential", "recovery", "pkcs11"};
    json_t *view = json_pack("{s:i, s:s, s:b}", "slot", (int)slot->id, "kind", hows[slot->how],
                             "opened", slot->opened);
    if (slot->how == CRYPTO_UNLOCK_RECOVERY) {
        json_object_set_new(view, "shares",
                            json_pack("{s:i, s:i}", "needed", (int)slot->k, "of", (int)slot->n));
    }
    if (slot->how == CRYPTO_UNLOCK_PKCS11) {
        json_object_set_new(view, "token", json_string(slot->token));
        json_object_set_new(view, "key", json_string(slot->key));
    }
    return view;
}

static json_t *slots_view(struct node *node)
{
    struct crypto_slot slots[CRYPTO_KEYRING_SLOTS];
    size_t count = crypto_keyring_slots(node->keyring, slots);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, slot_view(&slots[i]));
    }
    return array;
}

static json_t *pending_view(struct node *node)
{
    json_t *array = json_array();
    char name[65];
    for (size_t i = 0; store_rotate_pending(&node->store, i, name); i++) {
        json_array_append_new(array, json_string(name));
    }
    return array;
}

static json_t *view(struct control_call *call)
{
    return json_pack("{s:o, s:o}", "slots", slots_view(call->node), "rotating",
                     pending_view(call->node));
}

enum err control_key_list(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    (void)reterr;
    *ret = view(call);
    return E_OK;
}

/* --- slots ----------------------------------------------------------------------------------------------------------- */

static enum err note_change(struct control_call *call, const char *kind, const char *what,
                            struct err_info *reterr)
{
    enum err err = control_audit(call, kind, reterr, "what", what, (const char *)NULL);
    return err ? err : store_keyring_anchor(&call->node->store, reterr);
}

static enum err add_recovery(struct control_call *call, const char *text, uint8_t *ret_id,
                             json_t **ret_shares, struct err_info *reterr)
{
    char shares[CRYPTO_SHARES_MAX][CRYPTO_SHARE_TEXT];
    unsigned k = 0;
    unsigned n = 0;
    int used = 0;
    bool plain = text[strspn(text, "0123456789/")] == '\0'; /* sscanf also takes blanks and signs */
    if (!plain || sscanf(text, "%3u/%3u%n", &k, &n, &used) != 2 || text[used]) {
        return proto_err_set(reterr, E_USAGE, "--recovery takes K/N, such as 3/5");
    }
    enum err err = crypto_keyring_slot_recovery(call->node->keyring, k, n, shares, ret_id, reterr);
    if (!err) {
        *ret_shares = json_array();
        for (unsigned i = 0; i < n; i++) {
            json_array_append_new(*ret_shares, json_string(shares[i]));
        }
    }
    crypto_wipe(shares, sizeof shares);
    return err;
}

static enum err add_unlock(struct control_call *call, const char *text, uint8_t *ret_id,
                           struct err_info *reterr)
{
    char phrase[PASSPHRASE_MAX + 2];
    struct config_unlock unlock;
    enum err err = read_passphrase(call, phrase, reterr);
    err = err ? err
              : config_unlock_read(call->node->home, text, phrase_span(phrase), &unlock, reterr);
    err = err ? err : crypto_keyring_slot_add(call->node->keyring, &unlock.how, ret_id, reterr);
    crypto_wipe(phrase, sizeof phrase);
    return err;
}

enum err control_key_add(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    const char *unlock = control_text(call, "--unlock");
    const char *recovery = control_text(call, "--recovery");
    json_t *shares = NULL;
    uint8_t id = 0;
    if (!unlock == !recovery) {
        return proto_err_set(reterr, E_USAGE, "give --unlock or --recovery");
    }
    enum err err = recovery ? add_recovery(call, recovery, &id, &shares, reterr)
                            : add_unlock(call, unlock, &id, reterr);
    err = err ? err : note_change(call, "key.add", recovery ? "recovery" : unlock, reterr);
    if (!err) {
        *ret = json_pack("{s:i, s:o}", "slot", (int)id, "slots", slots_view(call->node));
        if (shares) {
            json_object_set(*ret, "shares", shares);
        }
    }
    json_decref(shares);
    return err;
}

enum err control_key_remove(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    double number = control_number(call, "SLOT", -1);
    struct crypto_slot slots[CRYPTO_KEYRING_SLOTS];
    size_t count = crypto_keyring_slots(call->node->keyring, slots);
    char what[16];
    if (!(number >= 0 && number <= 255)) {
        return proto_err_set(reterr, E_NOT_FOUND,
                             "there is no such slot; `concordat key list` shows them");
    }
    for (size_t i = 0; i < count; i++) {
        if (slots[i].opened && slots[i].id == (uint8_t)number) {
            return proto_err_set(reterr, E_REFUSED,
                                 "slot %u opened this daemon: without it, it would not start again",
                                 slots[i].id);
        }
    }
    snprintf(what, sizeof what, "%u", (unsigned)number);
    enum err err = crypto_keyring_slot_remove(call->node->keyring, (uint8_t)number, reterr);
    err = err ? err : note_change(call, "key.remove", what, reterr);
    if (!err) {
        *ret = view(call);
    }
    return err;
}

/* --- rotation -------------------------------------------------------------------------------------------------------- */

static bool stopping(void *user)
{
    return ((struct node *)user)->stopping;
}

static void *rotate_main(void *arg)
{
    struct node *node = arg;
    struct store_rotate_options options = {.cancelled = stopping, .user = node};
    char name[65];
    size_t index = 0;
    while (!node->stopping && store_rotate_pending(&node->store, index, name)) {
        struct err_info info = {0};
        enum err err = store_rotate_run(&node->store, name, &options, &info);
        if (err) {
            index++; /* it stays begun: the next start, or the next `key rotate --dek`, tries again */
            node->query.log(node->query.user, err == E_CANCELLED ? 1 : 2, "key.rotate", info.text);
        } else {
            node->query.log(node->query.user, 1, "key.rotate", "a dataset has its new key");
        }
    }
    node->rotating = false;
    return NULL;
}

void control_rotate_pending(struct node *node)
{
    char name[65];
    pthread_t thread;
    pthread_attr_t attributes;
    bool idle = false;
    if (!store_rotate_pending(&node->store, 0, name) ||
        !atomic_compare_exchange_strong(&node->rotating, &idle, true)) {
        return;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, rotate_main, node) != 0) {
        node->rotating = false;
    }
    pthread_attr_destroy(&attributes);
}

struct begin {
    struct buf names; /* each with its zero */
};

static enum err note_name(void *user, const struct store_dataset *row)
{
    return buf_put(&((struct begin *)user)->names, span_of(row->name, strlen(row->name) + 1));
}

static enum err rotate_data(struct control_call *call, struct err_info *reterr)
{
    struct begin begin = {.names = {.max = (size_t)16 << 20}};
    enum err err = store_catalogue_each(&call->node->store, note_name, &begin, reterr);
    for (size_t at = 0; at < begin.names.len && !err;) {
        const char *name = (const char *)begin.names.ptr + at;
        err = store_rotate_begin(&call->node->store, name, reterr);
        at += strlen(name) + 1;
    }
    buf_fini(&begin.names);
    err = err ? err : control_audit(call, "key.rotate", reterr, "what", "data", (const char *)NULL);
    if (!err) {
        control_rotate_pending(call->node);
    }
    return err;
}

/* The passphrase that this daemon is unlocked with becomes another one. */
static enum err rotate_passphrase(struct control_call *call, struct err_info *reterr)
{
    char phrase[PASSPHRASE_MAX + 2];
    struct crypto_slot slots[CRYPTO_KEYRING_SLOTS];
    size_t count = crypto_keyring_slots(call->node->keyring, slots);
    const struct crypto_slot *opened = NULL;
    for (size_t i = 0; i < count; i++) {
        opened = slots[i].opened ? &slots[i] : opened;
    }
    if (!opened || opened->how != CRYPTO_UNLOCK_PASSPHRASE) {
        return proto_err_set(reterr, E_REFUSED,
                             "this node is not unlocked with a passphrase; `concordat key add "
                             "--unlock passphrase` adds one");
    }
    enum err err = read_passphrase(call, phrase, reterr);
    if (!err && !phrase[0]) {
        err = proto_err_set(reterr, E_USAGE,
                            "--passphrase-file is missing: it holds the new passphrase");
    }
    struct crypto_unlock unlock = {.how = CRYPTO_UNLOCK_PASSPHRASE, .passphrase = span_str(phrase)};
    err = err ? err : crypto_keyring_slot_replace(call->node->keyring, opened->id, &unlock, reterr);
    crypto_wipe(phrase, sizeof phrase);
    return err ? err : note_change(call, "key.rotate", "passphrase", reterr);
}

static enum err rotate_kek(struct control_call *call, struct err_info *reterr)
{
    char phrase[PASSPHRASE_MAX + 2];
    char text[sizeof call->node->config.unlock];
    struct config_unlock unlock;
    struct crypto_slot slots[CRYPTO_KEYRING_SLOTS];
    if (crypto_keyring_slots(call->node->keyring, slots) > 1 &&
        !control_flag(call, "--drop-slots")) {
        return proto_err_set(reterr, E_REFUSED,
                             "the other slots cannot be wrapped without their secrets: give "
                             "--drop-slots and add them again with `concordat key add`");
    }
    pthread_mutex_lock(&call->node->config_lock);
    snprintf(text, sizeof text, "%s", call->node->config.unlock);
    pthread_mutex_unlock(&call->node->config_lock);
    enum err err = read_passphrase(call, phrase, reterr);
    if (!err && strcmp(text, "passphrase") == 0 && !phrase[0]) {
        err = proto_err_set(reterr, E_USAGE,
                            "--passphrase-file is missing: it holds the present passphrase");
    }
    err = err ? err
              : config_unlock_read(call->node->home, text, phrase_span(phrase), &unlock, reterr);
    err = err ? err : crypto_keyring_rotate(call->node->keyring, &unlock.how, reterr);
    crypto_wipe(phrase, sizeof phrase);
    return err ? err : note_change(call, "key.rotate", "kek", reterr);
}

enum err control_key_rotate(struct control_call *call, json_t **ret, struct err_info *reterr)
{
    bool dek = control_flag(call, "--dek");
    bool passphrase = control_flag(call, "--passphrase");
    if (control_flag(call, "--identity")) {
        return proto_err_set(
            reterr, E_UNSUPPORTED,
            "this version cannot rotate a node's identity: revoke the node and invite it again");
    }
    if (dek && passphrase) {
        return proto_err_set(reterr, E_USAGE, "give --dek or --passphrase");
    }
    enum err err = dek          ? rotate_data(call, reterr)
                   : passphrase ? rotate_passphrase(call, reterr)
                                : rotate_kek(call, reterr);
    if (!err) {
        *ret = view(call);
    }
    return err;
}
