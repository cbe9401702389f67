/* doctor: what can be seen without the daemon, then what the daemon says of itself. */
#include "config.h"
#include "node/cli/cli.h"

#include "crypto/certificate.h"
#include "crypto/keyring.h"
#include "crypto/provider.h"
#include "node/cli/ask.h"
#include "node/cli/process.h"
#include "node/config/home.h"
#include "node/config/unlock.h"
#include "node/config/yaml.h"
#include "store/store.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define DISK_LOW_BYTES   (UINT64_C(1) << 30)
#define CLOCK_EARLIEST_S INT64_C(1767225600) /* 2026-01-01: this program is younger */

struct doctor {
    const char *home;
    json_t *checks;
    bool failed;
    struct config_node config;
    bool configured;
    struct crypto_keyring *keyring;
};

enum result {
    OK,
    WARN,
    FAIL
};

static void say(struct doctor *d, const char *check, enum result result, const char *cure,
                const char *format, ...) PRINTF_LIKE(5, 6);
static void say(struct doctor *d, const char *check, enum result result, const char *cure,
                const char *format, ...)
{
    static const char *const names[] = {"ok", "warn", "fail"};
    char text[600];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    d->failed = d->failed || result == FAIL;
    json_array_append_new(d->checks, json_pack("{s:s, s:s, s:s, s:s}", "check", check, "result",
                                               names[result], "text", text, "cure", cure));
}

static void check_configuration(struct doctor *d)
{
    char path[HOME_PATH_MAX];
    struct err_info info = {0};
    struct stat st;
    if (stat(d->home, &st) < 0) {
        say(d, "home", FAIL, "name it with --home, or make one with `concordat init`", "%s: %s",
            d->home, strerror(errno));
        return;
    }
    bool wide = (st.st_mode & 077) != 0;
    say(d, "home", wide ? WARN : OK, wide ? "chmod 700 on it" : "", "%s%s", d->home,
        wide ? " can be entered by others" : " is there and closed to others");
    enum err err = config_home_path(d->home, HOME_CONFIG, path)
                       ? config_yaml_node(path, &d->config, &info)
                       : E_INVALID;
    d->configured = !err;
    say(d, "configuration", err ? FAIL : OK, err ? "correct that line of node.yaml" : "", "%s",
        err ? info.text : "node.yaml is valid");
}

static enum err unlock(struct doctor *d, struct err_info *info)
{
    char keyring[HOME_PATH_MAX];
    struct config_unlock how;
    char asked[CONFIG_UNLOCK_SECRET_MAX + 1];
    struct span secret = config_unlock_secret(d->config.unlock, false, asked);
    enum err err = config_unlock_read(d->home, d->config.unlock, secret, &how, NULL);
    bool no_pin = !err && how.how.how == CRYPTO_UNLOCK_PKCS11 && !how.how.pin_path && !secret.len;
    err = err || no_pin ? E_UNSUPPORTED /* only the daemon's surroundings hold the key */
          : config_home_path(d->home, HOME_KEYRING, keyring)
              ? crypto_keyring_open(keyring, &how.how, &d->keyring, info)
              : E_INVALID;
    crypto_wipe(asked, sizeof asked);
    return err;
}

static void check_keys(struct doctor *d)
{
    static const char *const keys[] = {HOME_IDENTITY_KEY, HOME_TLS_KEY};
    struct err_info info = {0};
    const struct crypto_key *dek = NULL;
    enum err err = unlock(d, &info);
    if (err == E_UNSUPPORTED) {
        say(d, "keys", WARN, "set CONCORDAT_PASSPHRASE to check them here",
            "the keyring's key is not within reach of this command");
        return;
    }
    if (!err) {
        err = crypto_keyring_get(d->keyring, HOME_KEYRING_NAME, &dek);
    }
    for (size_t i = 0; !err && i < 2; i++) {
        char path[HOME_PATH_MAX];
        struct crypto_identity *identity = NULL;
        err = config_home_path(d->home, keys[i], path)
                  ? crypto_identity_load(path, dek, &identity, &info)
                  : E_INVALID;
        crypto_identity_free(identity);
    }
    say(d, "keys", err ? FAIL : OK,
        err ? "the key file belongs to the daemon's user, mode 0600; else restore it" : "", "%s",
        err ? (info.text[0] ? info.text : proto_err_text(err)) : "the keyring and both keys open");
}

static bool read_small(const struct doctor *d, const char *name, struct buf *to)
{
    char path[HOME_PATH_MAX];
    FILE *from = config_home_path(d->home, name, path) ? fopen(path, "re") : NULL;
    bool ok = from && !buf_reserve(to, to->max);
    if (ok) {
        to->len = fread(to->ptr, 1, to->max, from);
    }
    if (from) {
        fclose(from);
    }
    return ok && to->len > 0;
}

static void check_certificate(struct doctor *d)
{
    struct buf certificate = {.max = CRYPTO_CERTIFICATE_MAX};
    struct buf root = {.max = CRYPTO_CERTIFICATE_MAX};
    struct crypto_certificate_info facts;
    struct err_info info = {0};
    int64_t now = (int64_t)time(NULL);
    if (!read_small(d, HOME_CERTIFICATE, &certificate) || !read_small(d, HOME_ROOT, &root)) {
        say(d, "certificate", FAIL, "run `concordat init` again with a new invitation",
            "certificate or root is missing in %s/identity", d->home);
    } else if (crypto_certificate_verify(buf_span(&certificate), buf_span(&root), now, &facts,
                                         &info)) {
        say(d, "certificate", FAIL, "ask the council for a new certificate", "%s", info.text);
    } else {
        long long days = (long long)((facts.not_after - now) / 86400);
        say(d, "certificate", days < 30 ? WARN : OK, days < 30 ? "ask the council to renew it" : "",
            "valid for %lld more days", days);
    }
    buf_fini(&certificate);
    buf_fini(&root);
}

static void check_clock(struct doctor *d)
{
    struct timex state = {0};
    bool early = (int64_t)time(NULL) < CLOCK_EARLIEST_S;
    int status = adjtimex(&state);
    bool loose = status == TIME_ERROR || (state.status & STA_UNSYNC);
    say(d, "clock",
        early   ? FAIL
        : loose ? WARN
                : OK,
        early ? "set the clock: certificates and licences depend on it"
              : (loose ? "run chrony or systemd-timesyncd" : ""),
        "%s",
        early ? "the clock stands in the past"
              : (loose ? "the kernel does not report a synchronised clock"
                       : "the clock is synchronised"));
}

/* Whether PORT of the listen address can be bound, or our own daemon has it. */
static void check_port(struct doctor *d)
{
    char host[254];
    char text[8];
    uint16_t port = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (strcmp(d->config.listen, "none") == 0) {
        say(d, "port", OK, "", "listens nowhere: this site only dials out");
        return;
    }
    if (cli_process_find(d->home) > 0) {
        say(d, "port", OK, "", "the daemon has %s", d->config.listen);
        return;
    }
    bool split = config_url_split(d->config.listen, host, &port);
    snprintf(text, sizeof text, "%u", port);
    int error = split ? getaddrinfo(host, text, &hints, &found) : EAI_NONAME;
    if (error) {
        say(d, "port", FAIL, "correct `listen:` in node.yaml", "%s: %s", d->config.listen,
            gai_strerror(error));
        return;
    }
    int one = 1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
                 bind(fd, found->ai_addr, found->ai_addrlen) == 0;
    int why = errno;
    say(d, "port", bound ? OK : FAIL,
        bound ? ""
              : "another program has it, or the address is not "
                "this machine's",
        "%s %s%s", d->config.listen,
        bound ? "is free" : "cannot be bound: ", bound ? "" : strerror(why));
    if (fd >= 0) {
        close(fd);
    }
    freeaddrinfo(found);
}

static void check_disk(struct doctor *d)
{
    struct statvfs fs;
    if (statvfs(d->home, &fs) < 0) {
        say(d, "disk", WARN, "", "%s: %s", d->home, strerror(errno));
        return;
    }
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    bool low = left < DISK_LOW_BYTES;
    say(d, "disk", low ? WARN : OK,
        low ? "make room: a full disk stops imports and answers, and loses nothing" : "",
        "%llu MiB are free", (unsigned long long)(left >> 20));
}

/* A home that no daemon has opened yet has no format. */
static void check_format(struct doctor *d)
{
    struct buf text = {.max = 16};
    char digits[16] = "";
    if (read_small(d, "format", &text) && text.len < sizeof digits) {
        memcpy(digits, text.ptr, text.len);
        unsigned long format = strtoul(digits, NULL, 10);
        bool newer = format > STORE_FORMAT;
        bool older = format < STORE_FORMAT;
        say(d, "format", newer ? FAIL : OK, newer ? "use the newer program" : "",
            "the home has format %lu, this program reads up to %d%s", format, STORE_FORMAT,
            older ? " and brings it up when the daemon starts" : "");
    }
    buf_fini(&text);
}

/* The daemon's own checks, if it runs. */
static void ask_daemon(struct doctor *d)
{
    json_t *answer = NULL;
    int exit_code = 0;
    struct err_info info = {0};
    enum err err = cli_ask_simple(d->home, PROTO_OP_DOCTOR, NULL, NULL, &answer, &exit_code, &info);
    const json_t *checks = json_object_get(answer, "checks");
    if (err) {
        say(d, "daemon", err == E_NO_DAEMON ? WARN : FAIL,
            err == E_NO_DAEMON ? "start it with concordatd" : "look at its log", "%s", info.text);
    }
    for (size_t i = 0; i < json_array_size(checks); i++) {
        json_t *check = json_array_get(checks, i);
        const char *result = json_string_value(json_object_get(check, "result"));
        d->failed = d->failed || (result && strcmp(result, "fail") == 0);
        json_array_append(d->checks, check);
    }
    json_decref(answer);
}

enum err cli_doctor(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    struct doctor d = {.home = call->home, .checks = json_array()};
    enum err err = crypto_init(reterr);
    if (err) {
        json_decref(d.checks);
        return err;
    }
    check_configuration(&d);
    check_clock(&d);
    if (d.configured) {
        check_keys(&d);
        check_certificate(&d);
        check_port(&d);
        check_disk(&d);
        check_format(&d);
        ask_daemon(&d);
    }
    say(&d, "version", OK, "", "concordat %s, cryptography by %s", PACKAGE_VERSION,
        crypto_provider()->name);
    crypto_keyring_close(d.keyring);
    config_node_fini(&d.config);
    *ret = json_pack("{s:o}", "checks", d.checks);
    *ret_exit = d.failed ? proto_err_exit(E_INTERNAL) : 0;
    return E_OK;
}
