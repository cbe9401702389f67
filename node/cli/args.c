#include "config.h"
#include "node/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *cli_absolute(struct cli_call *call, const char *path)
{
    char cwd[4096];
    if (path[0] == '/' || !getcwd(cwd, sizeof cwd)) {
        return arena_strdup(&call->arena, span_str(path));
    }
    size_t size = strlen(cwd) + strlen(path) + 2;
    char *whole = arena_alloc(&call->arena, size, 1);
    if (whole) {
        snprintf(whole, size, "%s/%s", cwd, path);
    }
    return whole;
}

enum err cli_write_new(const char *path, struct span text, struct err_info *reterr)
{
    FILE *file = fopen(path, "wex");
    bool written = file && fwrite(text.ptr, 1, text.len, file) == text.len;
    bool closed = file && fclose(file) == 0;
    return written && closed ? E_OK
                             : proto_err_set(reterr, errno == EEXIST ? E_EXISTS : E_IO, "%s: %s",
                                             path, strerror(errno));
}

/* Something can be made beside PATH's last part. */
static bool folder_writable(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash && slash > path ? (size_t)(slash - path) : 1;
    char folder[4096];
    return span_to_cstr(span_of(slash ? path : ".", len), folder, sizeof folder) &&
           faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0;
}

/* What is there already is written into: a file, or a folder where FOLDER says that it is to be one. */
static bool writable(const char *path, bool folder)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return errno == ENOENT && folder_writable(path);
    }
    if (S_ISDIR(st.st_mode) != folder) {
        errno = folder ? ENOTDIR : EISDIR;
        return false;
    }
    return faccessat(AT_FDCWD, path, folder ? W_OK | X_OK : W_OK, AT_EACCESS) == 0;
}

enum err cli_check_outputs(const struct cli_call *call, struct err_info *reterr)
{
    for (size_t i = 0; i < call->value_count; i++) {
        const char *name = call->values[i].argument->name;
        const char *path = call->values[i].value;
        bool folder = strcmp(name, "--tensorboard") == 0;
        bool is_new = strcmp(name, "--out") == 0 && call->operation->where == PROTO_WHERE_LOCAL;
        if (!folder && !is_new && strcmp(name, "--svg") != 0) {
            continue;
        }
        if (is_new && access(path, F_OK) == 0) {
            return proto_err_set(reterr, E_EXISTS, "%s: %s is there already", name, path);
        }
        if (!writable(path, folder)) {
            return proto_err_set(reterr, E_INVALID, "%s: %s cannot be written: %s", name, path,
                                 strerror(errno));
        }
    }
    return E_OK;
}

const char *cli_text(const struct cli_call *call, const char *name)
{
    for (size_t i = 0; i < call->value_count; i++) {
        if (strcmp(call->values[i].argument->name, name) == 0) {
            return call->values[i].value;
        }
    }
    return NULL;
}

double cli_number(const struct cli_call *call, const char *name, double fallback)
{
    const char *text = cli_text(call, name);
    return text ? strtod(text, NULL) : fallback; /* its form was checked by the table */
}

static enum err add_value(struct cli_call *call, const struct proto_argument *argument,
                          const char *value, struct err_info *reterr)
{
    enum err err = proto_operation_check(argument, span_str(value), reterr);
    if (err) {
        return err;
    }
    if (!argument->repeated && cli_text(call, argument->name)) {
        return proto_err_set(reterr, E_USAGE, "%s is given twice", argument->name);
    }
    if (call->value_count == CLI_VALUES_MAX) {
        return proto_err_set(reterr, E_USAGE, "more than %d arguments", CLI_VALUES_MAX);
    }
    bool path = argument->type == PROTO_ARG_FILE_IN || argument->type == PROTO_ARG_FILE_OUT;
    if (path && strcmp(value, "-") != 0) {
        value = cli_absolute(call, value);
        if (!value) {
            return E_NO_MEMORY;
        }
    }
    call->values[call->value_count++] = (struct cli_value){argument, value};
    return E_OK;
}

/* The positional that comes next: the first one without a value, or the last one when repeated. */
static const struct proto_argument *next_positional(const struct cli_call *call)
{
    for (const struct proto_argument *a = call->operation->arguments; a->name; a++) {
        if (a->name[0] != '-' && (a->repeated || !cli_text(call, a->name))) {
            return a;
        }
    }
    return NULL;
}

/* "--name", "--name=value" or "--name value"; *at moves past what was taken. */
static enum err take_option(struct cli_call *call, int argc, char **argv, int *at,
                            struct err_info *reterr)
{
    const char *word = argv[(*at)++];
    size_t len = strcspn(word, "=");
    const struct proto_argument *a = NULL;
    if (call->operation && word[0] == '-' && word[1] == '-') {
        a = proto_operation_argument(call->operation, span_of(word, len));
    }
    if (!a) {
        return proto_err_set(reterr, E_USAGE, "`concordat%s%s` has no option %.*s",
                             call->operation ? " " : "",
                             call->operation ? call->operation->path : "", (int)len, word);
    }
    if (word[len] == '=') {
        return a->type == PROTO_ARG_FLAG
                   ? proto_err_set(reterr, E_USAGE, "%s takes no value", a->name)
                   : add_value(call, a, word + len + 1, reterr);
    }
    if (a->type == PROTO_ARG_FLAG) {
        return add_value(call, a, "", reterr);
    }
    if (*at == argc) {
        return proto_err_set(reterr, E_USAGE, "%s needs a value: %s", a->name, a->value_name);
    }
    return add_value(call, a, argv[(*at)++], reterr);
}

static enum err take_positional(struct cli_call *call, const char *word, struct err_info *reterr)
{
    const struct proto_argument *a = next_positional(call);
    if (!a) {
        return proto_err_set(reterr, E_USAGE, "`concordat %s` does not take '%s'",
                             call->operation->path, word);
    }
    return add_value(call, a, word, reterr);
}

/* Global options, wherever they stand before "--"; they are taken out of argv. */
static enum err take_globals(int *argc, char **argv, struct cli_call *call, struct err_info *reterr)
{
    int kept = 0;
    bool ended = false;
    const char *home = NULL;
    enum err err = E_OK;
    for (int i = 0; i < *argc; i++) {
        ended = ended || strcmp(argv[i], "--") == 0;
        if (ended) {
            argv[kept++] = argv[i];
        } else if (strcmp(argv[i], "--json") == 0) {
            call->json = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            call->help = true;
        } else if (strcmp(argv[i], "--version") == 0) {
            call->version = true;
        } else if (strncmp(argv[i], "--home=", 7) == 0) {
            home = argv[i] + 7;
        } else if (strcmp(argv[i], "--home") == 0) {
            home = i + 1 < *argc ? argv[++i] : "";
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    if (home && !*home) {
        err = proto_err_set(reterr, E_USAGE, "--home needs a value: DIR");
    }
    call->home_given = home != NULL;
    const char *fallback = getenv("CONCORDAT_HOME");
    if (!home || !*home) {
        home = fallback && *fallback ? fallback : CLI_HOME_DEFAULT;
    }
    call->home = cli_absolute(call, home);
    return err ? err : (call->home ? E_OK : E_NO_MEMORY);
}

/* The words are no command: perhaps the first of several, perhaps misspelt. */
static enum err no_such_command(int argc, char **argv, struct cli_call *call,
                                struct err_info *reterr)
{
    size_t len = strlen(argv[0]);
    char list[256] = "";
    for (size_t i = 0; i < proto_operation_count; i++) {
        const char *path = proto_operations[i].path;
        if (strncmp(path, argv[0], len) == 0 && path[len] == ' ') {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", path + len + 1);
        }
    }
    if (*list && argc == 1) {
        call->group = argv[0];
        return proto_err_set(reterr, E_USAGE, "`concordat %s` goes on with one of: %s", argv[0],
                             list);
    }
    char typed[128];
    snprintf(typed, sizeof typed, "%s%s%s", argv[0], argc > 1 && argv[1][0] != '-' ? " " : "",
             argc > 1 && argv[1][0] != '-' ? argv[1] : "");
    const char *near = proto_operation_suggest(typed);
    if (!near && !*list) {
        near = proto_operation_suggest(argv[0]);
    }
    if (near) {
        return proto_err_set(reterr, E_USAGE, "there is no command '%s'; did you mean '%s'?", typed,
                             near);
    }
    return *list ? proto_err_set(reterr, E_USAGE, "`concordat %s` goes on with one of: %s", argv[0],
                                 list)
                 : proto_err_set(reterr, E_USAGE,
                                 "there is no command '%s'; `concordat help` lists them", typed);
}

static enum err check_required(const struct cli_call *call, struct err_info *reterr)
{
    for (const struct proto_argument *a = call->operation->arguments; a->name; a++) {
        if (a->required && !cli_text(call, a->name)) {
            return proto_err_set(reterr, E_USAGE, "%s is missing: %s", a->name, a->help);
        }
    }
    return E_OK;
}

enum err cli_parse(int argc, char **argv, struct cli_call *ret, struct err_info *reterr)
{
    *ret = (struct cli_call){.self = argc > 0 ? argv[0] : "concordat"};
    argc = argc > 0 ? argc - 1 : 0;
    argv = argv + 1;
    enum err err = take_globals(&argc, argv, ret, reterr);
    if (err || ret->version) {
        return err;
    }
    if (argc == 0) {
        return ret->help ? E_OK
                         : proto_err_set(reterr, E_USAGE,
                                         "say what to do; `concordat help` lists the commands");
    }
    int at = 0;
    ret->operation = proto_operation_find(argc, argv, &at);
    if (!ret->operation) {
        err = argv[0][0] == '-' ? take_option(ret, argc, argv, &at, reterr)
                                : no_such_command(argc, argv, ret, reterr);
        return ret->help && ret->group ? E_OK : err;
    }
    if (ret->help) {
        return E_OK;
    }
    for (bool ended = false; !err && at < argc;) {
        if (!ended && strcmp(argv[at], "--") == 0) {
            ended = true;
            at++;
        } else if (!ended && argv[at][0] == '-' && argv[at][1]) {
            err = take_option(ret, argc, argv, &at, reterr);
        } else {
            err = take_positional(ret, argv[at++], reterr);
        }
    }
    return err ? err : check_required(ret, reterr);
}

void cli_call_fini(struct cli_call *call)
{
    arena_fini(&call->arena);
}
