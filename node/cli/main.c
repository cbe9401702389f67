/* The command `concordat`. What it can do is the table proto/operation; most of it is asked of the
 * daemon, and what stands in CLI_HANDLERS is done here. */
#include "config.h"
#include "node/cli/history.h"
#include "node/cli/cli.h"

#include "node/cli/ask.h"
#include "node/cli/table.h"
#include "crypto/provider.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv);

static cli_handler *const handlers[PROTO_OP_TOTAL] = {
#define X(id, name) [PROTO_OP_##id] = name,
    CLI_HANDLERS(X)
#undef X
};

json_t *cli_error_json(enum err err, const struct err_info *info)
{
    return json_pack("{s:{s:s, s:s, s:i, s:s, s:s}}", "error", "code", proto_err_name(err), "kind",
                     proto_err_kind_name(proto_err_kind(err)), "exit", proto_err_exit(err),
                     "message", proto_err_text(err), "detail", info ? info->text : "");
}

/* One document and a newline. false: standard output took not all of it. */
static bool print_json(const json_t *json)
{
    bool ok =
        json_dumpf(json, stdout, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)) == 0;
    return fputc('\n', stdout) != EOF && ok;
}

static void print_error(const struct cli_call *call, const json_t *document)
{
    if (call->json) {
        print_json(document);
    } else {
        cli_table_error(document, stderr);
    }
}

static enum err draw_history(const struct cli_call *call, const json_t *answer,
                             struct err_info *reterr)
{
    const char *svg = cli_text(call, "--svg");
    const char *folder = cli_text(call, "--tensorboard");
    enum err err = svg ? cli_history_svg(answer, svg, reterr) : E_OK;
    if (cli_text(call, "--plot") && !call->json && !cli_history_plot(answer, stdout)) {
        fputs("there is nothing to draw: no figures of this job were released\n", stderr);
    }
    return err || !folder ? err : cli_history_tensorboard(answer, folder, reterr);
}

/* --plot, --svg and --csv belong to the command; the daemon never hears of them. */
static enum err draw(const struct cli_call *call, const json_t *answer, struct err_info *reterr)
{
    const char *svg = cli_text(call, "--svg");
    if (call->help || call->version) {
        return E_OK;
    }
    if (call->operation->id == PROTO_OP_TRAIN_HISTORY) {
        return draw_history(call, answer, reterr);
    }
    if (call->operation->id != PROTO_OP_QUERY) {
        return E_OK;
    }
    if (cli_text(call, "--plot") && !call->json && !cli_plot_terminal(answer, stdout)) {
        fputs("there is nothing to draw: --plot needs GROUP BY, HISTOGRAM or SURVIVAL\n", stderr);
    }
    if (!svg) {
        return E_OK;
    }
    FILE *to = fopen(svg, "we");
    bool drawn = to && cli_plot_svg(answer, to);
    bool kept = to && fclose(to) == 0;
    if (!to || !kept) {
        return proto_err_set(reterr, E_IO, "%s cannot be written", svg);
    }
    if (!drawn) {
        unlink(svg);
        fputs("there is nothing to draw: --svg needs GROUP BY, HISTOGRAM or SURVIVAL\n", stderr);
    }
    return E_OK;
}

static enum err run(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    if (call->version && call->json) {
        *ret = json_pack("{s:s}", "version", PACKAGE_VERSION);
        return *ret ? E_OK : E_NO_MEMORY;
    }
    if (call->version) {
        printf("concordat %s\n", PACKAGE_VERSION);
        return E_OK;
    }
    if (call->help) {
        return cli_help_print(call, ret);
    }
    enum err err = cli_check_outputs(call, reterr);
    err = err ? err : cli_question_text(call, reterr);
    if (err) {
        return err;
    }
    cli_handler *handler = handlers[call->operation->id];
    return handler ? handler(call, ret, ret_exit, reterr)
                   : cli_ask(call, call->operation, ret, ret_exit, reterr);
}

static void print_text(const struct cli_call *call, const json_t *answer)
{
    enum proto_op_id id = call->operation->id;
    if (id == PROTO_OP_QUERY && cli_text(call, "--csv")) {
        cli_csv_print(answer, stdout);
        cli_table_sites(answer, stderr);
    } else if (id == PROTO_OP_TRAIN_HISTORY && cli_text(call, "--csv")) {
        cli_history_csv(answer, stdout);
    } else {
        cli_table_answer(id, answer, stdout);
    }
}

static int finish(struct cli_call *call, enum err err, json_t *answer, int exit_code,
                  struct err_info *info)
{
    bool refused = json_is_object(answer) && json_object_get(answer, "error");
    if (!err && answer && !refused && call->json) {
        err = draw(call, answer, info);
        if (!err) { /* else the error is the one document */
            print_json(answer);
        }
    } else if (!err && answer && !refused) {
        print_text(call, answer);
        err = draw(call, answer, info);
    }
    if (!err && refused) {
        print_error(call, answer);
    } else if (err) {
        json_t *document = cli_error_json(err, info);
        print_error(call, document);
        json_decref(document);
        exit_code = proto_err_exit(err);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("concordat: standard output cannot be written\n", stderr);
        exit_code = exit_code ? exit_code : proto_err_exit(E_IO);
    }
    return exit_code;
}

int main(int argc, char **argv)
{
    struct cli_call call;
    struct err_info info = {0};
    json_t *answer = NULL;
    int exit_code = 0;
    setlocale(LC_CTYPE, ""); /* numbers keep the C locale: they are read by programs too */
    enum err err = cli_parse(argc, argv, &call, &info);
    if (!err) {
        err = run(&call, &answer, &exit_code, &info);
    }
    exit_code = finish(&call, err, answer, exit_code, &info);
    json_decref(answer);
    cli_call_fini(&call);
    return exit_code;
}
