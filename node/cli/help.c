/* help, man and completion: the table of operations, printed in four ways. */
#include "config.h"
#include "node/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

static const char globals[] =
    "  --home DIR   the node's home (else $CONCORDAT_HOME, else " CLI_HOME_DEFAULT ")\n"
    "  --json       one JSON document on standard output\n"
    "  --help       explain the command\n";

static const char *const exits[] = {"done",
                                    "internal fault",
                                    "usage",
                                    "not found",
                                    "refused by licence, role or approval",
                                    "privacy budget exhausted",
                                    "too few peers or peers unreachable",
                                    "bad input data or file",
                                    "integrity or authentication failure",
                                    "temporarily busy, or no daemon"};
#define EXITS  (sizeof exits / sizeof *exits)
#define WIDTH  96u
#define COLUMN 25 /* of what explains an argument */

/* Where text goes: standard output, or with --json the one document there. */
struct text {
    FILE *to;
    char *bytes;
    size_t len;
};

static enum err text_open(const struct cli_call *call, struct text *ret)
{
    *ret = (struct text){.to = stdout};
    if (call->json) {
        ret->to = open_memstream(&ret->bytes, &ret->len);
    }
    return ret->to ? E_OK : E_NO_MEMORY;
}

static enum err text_close(struct text *text, json_t **ret)
{
    if (text->to == stdout) {
        return E_OK;
    }
    bool whole = fclose(text->to) == 0;
    *ret = whole ? json_pack("{s:s%}", "text", text->bytes, text->len) : NULL;
    free(text->bytes);
    return *ret ? E_OK : E_NO_MEMORY;
}

static bool is_option(const struct proto_argument *argument)
{
    return argument->name[0] == '-';
}

/* "--epsilon E", "SQL" */
static void left_of(const struct proto_argument *a, char to[80])
{
    bool value = is_option(a) && a->value_name;
    snprintf(to, 80, "%s%s%s", a->name, value ? " " : "", value ? a->value_name : "");
}

/* "usage: concordat query SQL [--project NAME] ...", broken between arguments. */
static void print_usage(const struct proto_operation *op, FILE *to)
{
    size_t column = (size_t)fprintf(to, "usage: concordat %s", op->path);
    for (const struct proto_argument *a = op->arguments; a->name; a++) {
        char left[80];
        char whole[100];
        left_of(a, left);
        snprintf(whole, sizeof whole, "%s%s%s%s", a->required ? "" : "[", left,
                 a->required ? "" : "]", a->repeated ? "..." : "");
        if (column + 1 + strlen(whole) > WIDTH) {
            fprintf(to, "\n        ");
            column = 8;
        }
        column += (size_t)fprintf(to, " %s", whole);
    }
    fputc('\n', to);
}

/* The texts stand in a column of their own, below what is too long to stand beside them. */
static void print_argument(const struct proto_argument *a, FILE *to)
{
    char left[80];
    left_of(a, left);
    fprintf(to, "  %-*s%s", COLUMN - 3, left, strlen(left) > COLUMN - 3 ? "\n" : "");
    fprintf(to, "%*s", strlen(left) > COLUMN - 3 ? COLUMN : 1, "");
    for (const char *text = a->help; *text; text++) {
        fputc(*text, to);
        if (*text == '\n') {
            fprintf(to, "%*s", COLUMN, "");
        }
    }
    fputs(is_option(a) && a->required ? " (required)\n" : "\n", to);
}

/* "For operators and auditors ..."; nothing for what the command does by itself. */
static void print_who(const struct proto_operation *op, FILE *to)
{
    static const struct {
        unsigned role;
        const char *name;
    } roles[] = {{PROTO_ROLE_OPERATOR, "operators"},
                 {PROTO_ROLE_COORDINATOR, "coordinators"},
                 {PROTO_ROLE_ANALYST, "analysts"},
                 {PROTO_ROLE_AUDITOR, "auditors"}};
    unsigned left = op->roles;
    if (op->where == PROTO_WHERE_LOCAL) {
        return;
    }
    fputs(op->where == PROTO_WHERE_BOTH ? "\nWorks without the daemon, too. "
                                        : "\nAsks the daemon. ",
          to);
    fputs(left ? "For " : "For everybody", to);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (left & roles[i].role) {
            left &= ~roles[i].role;
            bool first = (op->roles & (roles[i].role - 1)) == 0;
            fprintf(to, "%s%s", first ? "" : left ? ", " : " and ", roles[i].name);
        }
    }
    fputs(" whom people: in node.yaml names.\n", to);
}

static void print_operation(const struct proto_operation *op, FILE *to)
{
    print_usage(op, to);
    fprintf(to, "\n%s: %s\n\n%s\n", op->path, op->summary, op->help);
    print_who(op, to);
    if (op->arguments->name) {
        fputc('\n', to);
    }
    for (const struct proto_argument *a = op->arguments; a->name; a++) {
        print_argument(a, to);
    }
    fprintf(to, "\nalso:\n%s", globals);
    if (op->answer) {
        fprintf(to, "\nanswer with --json:\n%s\n", op->answer);
    }
}

static bool in_group(const char *path, const char *group)
{
    size_t len = strlen(group);
    return strncmp(path, group, len) == 0 && path[len] == ' ';
}

/* GROUP NULL: all. Returns how many. */
static size_t print_list(const char *group, FILE *to)
{
    size_t count = 0;
    for (size_t i = 0; i < proto_operation_count; i++) {
        if (!group || in_group(proto_operations[i].path, group)) {
            fprintf(to, "  %-26s %s\n", proto_operations[i].path, proto_operations[i].summary);
            count++;
        }
    }
    return count;
}

static void print_all(FILE *to)
{
    fputs("usage: concordat COMMAND [ARGUMENTS]\n\n"
          "Ask and train over data that stays where it is, under signed licences.\n\n",
          to);
    print_list(NULL, to);
    fprintf(to, "\nevery command takes:\n%s", globals);
    fputs("\nA first hour, with three nodes on this machine:\n"
          "  concordat sandbox create box\n"
          "  concordat sandbox start box\n"
          "  concordat --home box/alpha dataset import MANIFEST.yaml --data ROWS.csv\n"
          "  concordat --home box/beta query \"SELECT COUNT(*) FROM NAME\" --purpose DUO:0000042\n"
          "  concordat --home box/alpha audit egress\n"
          "`concordat help COMMAND` explains one, `concordat help train` lists what begins so.\n"
          "\nexit codes:\n",
          to);
    for (size_t i = 0; i < EXITS; i++) {
        fprintf(to, "  %zu  %s\n", i, exits[i]);
    }
}

enum err cli_help_print(const struct cli_call *call, json_t **ret)
{
    struct text text;
    enum err err = text_open(call, &text);
    if (err) {
        return err;
    }
    if (call->operation && call->help) {
        print_operation(call->operation, text.to);
    } else if (call->group) {
        print_list(call->group, text.to);
    } else {
        print_all(text.to);
    }
    return text_close(&text, ret);
}

/* False: no command is called PATH, and no group. */
static bool print_path(const char *path, FILE *to)
{
    const struct proto_operation *op = proto_operation_by_path(span_str(path));
    if (op) {
        print_operation(op, to);
    } else if (!*path) {
        print_all(to);
    } else {
        return print_list(path, to) > 0;
    }
    return true;
}

enum err cli_help(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    (void)ret_exit;
    char path[128] = "";
    struct text text;
    for (size_t i = 0; i < call->value_count; i++) {
        size_t used = strlen(path);
        snprintf(path + used, sizeof path - used, "%s%s", used ? " " : "", call->values[i].value);
    }
    enum err err = text_open(call, &text);
    if (err) {
        return err;
    }
    bool found = print_path(path, text.to);
    err = text_close(&text, ret);
    if (err || found) {
        return err;
    }
    json_decref(*ret);
    *ret = NULL;
    const char *near = proto_operation_suggest(path);
    return near ? proto_err_set(reterr, E_USAGE, "there is no command '%s'; did you mean '%s'?",
                                path, near)
                : proto_err_set(reterr, E_USAGE,
                                "there is no command '%s'; `concordat help` lists them", path);
}

/* --- manual pages ---------------------------------------------------------------------------------- */

/* roff takes '.', ''' at the start of a line, '\' and '-' for its own. */
static void put_roff(const char *text, FILE *to)
{
    bool start = true;
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\'')) {
            fputs("\\&", to);
        }
        if (*text == '\\') {
            fputs("\\e", to);
        } else if (*text == '-') {
            fputs("\\-", to);
        } else {
            fputc(*text, to);
        }
        start = *text == '\n';
    }
}

static void man_arguments(const struct proto_operation *op, FILE *to)
{
    for (const struct proto_argument *a = op->arguments; a->name; a++) {
        fputs(".RS\n.TP\n.B ", to);
        put_roff(a->name, to);
        if (is_option(a) && a->value_name) {
            fputs(" \\fI", to);
            put_roff(a->value_name, to);
            fputs("\\fR", to);
        }
        fputc('\n', to);
        put_roff(a->help, to);
        fputs("\n.RE\n", to);
    }
}

static void man_command(FILE *to)
{
    fprintf(to, ".TH CONCORDAT 1 \"\" \"concordat %s\" \"User Commands\"\n", PACKAGE_VERSION);
    fputs(".SH NAME\nconcordat \\- ask and train over data that stays where it is\n"
          ".SH SYNOPSIS\n.B concordat\n.I COMMAND\n[\\fIARGUMENTS\\fR]\n"
          ".SH DESCRIPTION\n"
          "The command of a Concordat node: it speaks to the daemon\n.BR concordatd (8)\n"
          "over the control socket in the node's home and shows the answers.\n"
          ".SH OPTIONS\nEvery command takes these.\n"
          ".TP\n.BI \\-\\-home \" DIR\"\nthe node's home; else CONCORDAT_HOME, else "
          "" CLI_HOME_DEFAULT ".\n"
          ".TP\n.B \\-\\-json\none JSON document on standard output, nothing else there.\n"
          ".TP\n.B \\-\\-help\nexplain the command.\n.TP\n.B \\-\\-version\nprint the version.\n"
          ".SH COMMANDS\n",
          to);
    for (size_t i = 0; i < proto_operation_count; i++) {
        const struct proto_operation *op = &proto_operations[i];
        fprintf(to, ".SS ");
        put_roff(op->path, to);
        fputs("\n.nf\n", to);
        fputs("\\fBconcordat ", to);
        put_roff(op->path, to);
        fputs("\\fR", to);
        for (const struct proto_argument *a = op->arguments; a->name; a++) {
            fputs(a->required ? " " : " [", to);
            put_roff(a->name, to);
            if (is_option(a) && a->value_name) {
                fputs(" \\fI", to);
                put_roff(a->value_name, to);
                fputs("\\fR", to);
            }
            fputs(a->required ? "" : "]", to);
        }
        fputs("\n.fi\n.PP\n", to);
        put_roff(op->summary, to);
        fputs(".\n.PP\n", to);
        put_roff(op->help, to);
        fputc('\n', to);
        print_who(op, to);
        man_arguments(op, to);
        if (op->answer) {
            fputs(".PP\nThe answer with \\-\\-json:\n.PP\n.nf\n", to);
            put_roff(op->answer, to);
            fputs("\n.fi\n", to);
        }
    }
    fputs(".SH EXIT STATUS\n", to);
    for (size_t i = 0; i < EXITS; i++) {
        fprintf(to, ".TP\n.B %zu\n%s\n", i, exits[i]);
    }
    fputs(".SH ENVIRONMENT\n.TP\n.B CONCORDAT_HOME\nthe home when \\-\\-home is not given.\n"
          ".TP\n.B CONCORDAT_PASSPHRASE\nthe passphrase of homes that are unlocked by one, or the "
          "PIN of their token.\n"
          ".SH SEE ALSO\n.BR concordatd (8)\n",
          to);
}

static void man_daemon(FILE *to)
{
    fprintf(to, ".TH CONCORDATD 8 \"\" \"concordat %s\" \"System Administration\"\n",
            PACKAGE_VERSION);
    fputs(
        ".SH NAME\nconcordatd \\- the daemon of a Concordat node\n"
        ".SH SYNOPSIS\n.B concordatd\n\\-\\-home \\fIDIR\\fR [\\-\\-foreground]\n"
        ".SH DESCRIPTION\n"
        "Keeps a node's sealed data, links to the other members of its federation over mutual\n"
        "TLS, decides about every question and round by the signed licences, and answers the\n"
        "command\n.BR concordat (1)\non the control socket. It stays in the foreground, writes\n"
        "its log as JSON lines to standard error, and tells systemd when it is ready.\n"
        ".SH OPTIONS\n.TP\n.BI \\-\\-home \" DIR\"\nthe node's home, made by\n.B concordat init.\n"
        ".TP\n.B \\-\\-foreground\naccepted for clarity; there is no other way to run.\n"
        ".SH SIGNALS\n.TP\n.B SIGTERM\ntakes no new work, finishes what is under way, ends.\n"
        ".TP\n.B SIGHUP\nreads node.yaml again.\n"
        ".SH FILES\n.TP\n.I node.yaml\nthe configuration.\n"
        ".TP\n.I identity/\nkeys, sealed; certificate, root and charter.\n"
        ".TP\n.I keyring\nthe wrapped keys of everything that is sealed.\n"
        ".TP\n.I node.mdb\ncatalogue, records, ledger and audit chain.\n"
        ".TP\n.I partitions/, models/\nthe sealed rows, and the models by their hash.\n"
        ".TP\n.I mappings/\nmappings of your own, by name before the ready ones.\n"
        ".TP\n.I control.sock\nthe control socket.\n"
        ".SH ENVIRONMENT\n.TP\n.B CONCORDAT_PASSPHRASE\nthe passphrase, where node.yaml says\n"
        ".BR \"unlock: passphrase\" ,\nor the PIN of a token without pin-source.\n"
        ".SH SEE ALSO\n.BR concordat (1)\n",
        to);
}

enum err cli_man(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    (void)ret_exit;
    const char *page = cli_text(call, "PAGE");
    bool daemon = page && strcmp(page, "concordatd") == 0;
    struct text text;
    if (page && !daemon && strcmp(page, "concordat") != 0) {
        return proto_err_set(reterr, E_NOT_FOUND, "the pages are concordat and concordatd");
    }
    enum err err = text_open(call, &text);
    if (err) {
        return err;
    }
    if (daemon) {
        man_daemon(text.to);
    } else {
        man_command(text.to);
    }
    return text_close(&text, ret);
}

/* --- completion ------------------------------------------------------------------------------------ */

static void put_words(const struct proto_operation *op, FILE *to)
{
    for (const struct proto_argument *a = op->arguments; a->name; a++) {
        if (is_option(a)) {
            fprintf(to, "%s ", a->name);
        }
    }
    fputs("--home --json --help", to);
}

/* The next words after PREFIX ("" or "dataset"), each once. */
static void put_next_words(const char *prefix, FILE *to)
{
    size_t len = strlen(prefix);
    char last[32] = "";
    for (size_t i = 0; i < proto_operation_count; i++) {
        const char *path = proto_operations[i].path;
        if (len > 0 && !in_group(path, prefix)) {
            continue;
        }
        const char *word = path + len + (len > 0);
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(word, " "), word);
        if (strcmp(text, last) != 0) { /* equal first words stand together in the table */
            fprintf(to, "%s ", text);
        }
        memcpy(last, text, sizeof last);
    }
}

static void put_groups(FILE *to)
{
    char last[32] = "";
    for (size_t i = 0; i < proto_operation_count; i++) {
        const char *path = proto_operations[i].path;
        size_t len = strcspn(path, " ");
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)len, path);
        if (path[len] && strcmp(text, last) != 0) {
            fprintf(to, "        '%s') words=\"", text);
            put_next_words(text, to);
            fputs("\" ;;\n", to);
            memcpy(last, text, sizeof last);
        }
    }
}

static void put_completion(FILE *to)
{
    fputs("_concordat() {\n"
          "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" path=\"\" word i words=\"\" skip=\"\"\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        word=\"${COMP_WORDS[i]}\"\n"
          "        if [ -n \"$skip\" ]; then skip=\"\"; continue; fi\n"
          "        case \"$word\" in\n"
          "        --home) skip=1 ;;\n"
          "        -*) ;;\n"
          "        *) path=\"${path:+$path }$word\" ;;\n"
          "        esac\n"
          "    done\n"
          "    COMPREPLY=()\n"
          "    if [ \"${cur#-}\" != \"$cur\" ]; then\n"
          "        while [ -n \"$path\" ]; do\n"
          "            case \"$path\" in\n",
          to);
    for (size_t i = 0; i < proto_operation_count; i++) {
        fprintf(to, "            '%s') words=\"", proto_operations[i].path);
        put_words(&proto_operations[i], to);
        fputs("\"; break ;;\n", to);
    }
    fputs("            esac\n"
          "            [ \"${path% *}\" = \"$path\" ] && break\n"
          "            path=\"${path% *}\"\n"
          "        done\n"
          "        words=\"${words:---home --json --help --version}\"\n"
          "    else\n"
          "        case \"$path\" in\n"
          "        '') words=\"",
          to);
    put_next_words("", to);
    fputs("\" ;;\n", to);
    put_groups(to);
    fputs("        esac\n"
          "    fi\n"
          "    if [ -n \"$words\" ]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "    fi\n"
          "    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n"
          "}\n",
          to);
}

enum err cli_completion(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    (void)ret_exit;
    const char *shell = cli_text(call, "SHELL");
    bool zsh = strcmp(shell, "zsh") == 0;
    struct text text;
    if (!zsh && strcmp(shell, "bash") != 0) {
        return proto_err_set(reterr, E_USAGE, "SHELL is bash or zsh");
    }
    enum err err = text_open(call, &text);
    if (err) {
        return err;
    }
    if (zsh) {
        fputs("#compdef concordat\nautoload -U +X bashcompinit && bashcompinit\n", text.to);
    }
    put_completion(text.to);
    fputs("complete -o filenames -F _concordat concordat\n", text.to);
    if (zsh) {
        /* As an autoloaded file, this runs when completion is asked for the first time. */
        fputs("_bash_complete -o filenames -F _concordat\n", text.to);
    }
    return text_close(&text, ret);
}
