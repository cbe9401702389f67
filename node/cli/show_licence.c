/* Licences, verdicts and what they permit. */
#include "config.h"
#include "node/cli/show.h"

#include "node/cli/grid.h"

void cli_show_check(const json_t *answer, FILE *to)
{
    const json_t *sites = json_object_get(answer, "sites");
    for (size_t i = 0; i < json_array_size(sites); i++) {
        const json_t *site = json_array_get(sites, i);
        cli_show_put(to, cli_show_text(site, "node"));
        fputs(": ", to);
        cli_show_put(to, cli_show_text(site, "verdict"));
        const char *reason = cli_show_text(site, "reason");
        if (*reason && strcmp(reason, "NONE") != 0) {
            fputs(", ", to);
            cli_show_put(to, reason);
            fputs(": ", to);
            cli_show_put(to, cli_show_text(site, "text"));
            if (cli_show_cure(reason)) {
                fprintf(to, " (%s)", cli_show_cure(reason));
            }
        }
        fputc('\n', to);
        const json_t *clauses = json_object_get(site, "clauses");
        for (size_t c = 0; c < json_array_size(clauses); c++) {
            cli_show_clause(json_array_get(clauses, c), to);
        }
    }
}

void cli_show_decision(const json_t *answer, FILE *to)
{
    cli_show_put(to, cli_show_text(answer, "verdict"));
    if (strcmp(cli_show_text(answer, "reason"), "NONE") != 0) {
        fputs(", ", to);
        cli_show_put(to, cli_show_text(answer, "reason"));
        fputs(": ", to);
        cli_show_put(to, cli_show_text(answer, "text"));
    }
    fputc('\n', to);
    const json_t *clauses = json_object_get(answer, "clauses");
    for (size_t c = 0; c < json_array_size(clauses); c++) {
        cli_show_clause(json_array_get(clauses, c), to);
    }
}

static void print_grant(const json_t *grant, FILE *to)
{
    struct cli_grid scratch = {0};
    fputs("  grant ", to);
    cli_show_put(to, cli_show_text(grant, "permission"));
    fputs(" ", to);
    cli_show_put(to, cli_show_text(grant, "name"));
    fprintf(to, ": %s", cli_show_cell(&scratch, json_object_get(grant, "actions")));
    const json_t *modifiers = json_object_get(grant, "modifiers");
    for (size_t i = 0; i < json_array_size(modifiers); i++) {
        fputs(i ? ", " : "; only if ", to);
        cli_show_put(to, cli_show_text(json_array_get(modifiers, i), "name"));
    }
    const json_t *visas = json_object_get(grant, "visas");
    for (size_t i = 0; i < json_array_size(visas); i++) {
        fputs(i || json_array_size(modifiers) ? ", " : "; only if ", to);
        fputs("visa ", to);
        cli_show_put(to, cli_show_text(json_array_get(visas, i), "type"));
        fputs(" ", to);
        cli_show_put(to, cli_show_text(json_array_get(visas, i), "value"));
    }
    const json_t *privacy = json_object_get(grant, "privacy");
    fprintf(to, "\n    min_cohort %s, min_sites %s, epsilon %s in all, %s a query, %s a job\n",
            cli_show_cell(&scratch, json_object_get(grant, "min_cohort")),
            cli_show_cell(&scratch, json_object_get(grant, "min_sites")),
            cli_show_cell(&scratch, json_object_get(privacy, "epsilon_total")),
            cli_show_cell(&scratch, json_object_get(privacy, "epsilon_per_query")),
            cli_show_cell(&scratch, json_object_get(privacy, "epsilon_per_job")));
    cli_grid_fini(&scratch);
}

void cli_show_licence(const json_t *answer, FILE *to)
{
    const json_t *licences = json_object_get(answer, "licences");
    if (!licences) {
        cli_show_object(answer, to); /* another vocabulary: as it is */
        return;
    }
    for (size_t i = 0; i < json_array_size(licences); i++) {
        const json_t *licence = json_array_get(licences, i);
        struct cli_grid scratch = {0};
        cli_show_put(to, cli_show_text(licence, "node"));
        fputs(": ", to);
        cli_show_put(to, cli_show_text(licence, "spdx"));
        fputs(", ", to);
        cli_show_put(to, cli_show_text(licence, "state"));
        fputs(", until ", to);
        cli_show_put(to, cli_show_text(licence, "expires"));
        fprintf(to, "\n  countries: %s\n  recipients: %s\n",
                json_is_array(json_object_get(licence, "geography"))
                    ? cli_show_cell(&scratch, json_object_get(licence, "geography"))
                    : "any",
                json_is_array(json_object_get(licence, "recipients"))
                    ? cli_show_cell(&scratch, json_object_get(licence, "recipients"))
                    : "any member that satisfies the rest");
        const json_t *duties = json_object_get(licence, "obligations");
        for (size_t d = 0; d < json_array_size(duties); d++) {
            const json_t *duty = json_array_get(duties, d);
            fprintf(to, "  duty %s", cli_show_cell(&scratch, json_object_get(duty, "id")));
            fprintf(to, *cli_show_text(duty, "text") ? ": %s\n" : "%s\n",
                    cli_show_cell(&scratch, json_object_get(duty, "text")));
        }
        const json_t *grants = json_object_get(licence, "grants");
        for (size_t g = 0; g < json_array_size(grants); g++) {
            print_grant(json_array_get(grants, g), to);
        }
        cli_grid_fini(&scratch);
    }
}

static void print_sentences(const json_t *sentences, const char *head, FILE *to)
{
    for (size_t i = 0; i < json_array_size(sentences); i++) {
        fprintf(to, "    %s ", head);
        cli_show_put(to, json_string_value(json_array_get(sentences, i)));
        fputc('\n', to);
    }
}

void cli_show_explained(const json_t *answer, FILE *to)
{
    const json_t *licences = json_object_get(answer, "licences");
    for (size_t i = 0; i < json_array_size(licences); i++) {
        const json_t *licence = json_array_get(licences, i);
        const json_t *about = json_object_get(licence, "about");
        const json_t *grants = json_object_get(licence, "grants");
        fputs(i ? "\n" : "", to);
        cli_show_put(to, cli_show_text(licence, "source"));
        if (strcmp(cli_show_text(licence, "state"), "file") != 0) {
            fputs(" (", to);
            cli_show_put(to, cli_show_text(licence, "state"));
            fputc(')', to);
        }
        fputc('\n', to);
        for (size_t j = 0; j < json_array_size(about); j++) {
            fputs("  ", to);
            cli_show_put(to, json_string_value(json_array_get(about, j)));
            fputc('\n', to);
        }
        for (size_t j = 0; j < json_array_size(grants); j++) {
            const json_t *grant = json_array_get(grants, j);
            fprintf(to, json_array_size(grants) > 1 ? "  Alternative %zu: " : "  ", j + 1);
            cli_show_put(to, cli_show_text(grant, "title"));
            fputc('\n', to);
            print_sentences(json_object_get(grant, "permits"), "may     ", to);
            print_sentences(json_object_get(grant, "forbids"), "may not ", to);
            print_sentences(json_object_get(grant, "needs"), "needs   ", to);
        }
    }
}

void cli_show_diff(const json_t *answer, FILE *to)
{
    static const struct cli_column columns[] = {
        {"CHANGE", "change"}, {"CLAUSE", "clause"}, {"OLD", "from"}, {"NEW", "to"}, {NULL, NULL}};
    const char *summary = cli_show_text(answer, "summary");
    cli_show_list(json_object_get(answer, "changes"), columns, "", to);
    fputs(strcmp(summary, "same") == 0       ? "the two say the same\n"
          : strcmp(summary, "wider") == 0    ? "the new one permits more\n"
          : strcmp(summary, "narrower") == 0 ? "the new one permits less\n"
                                             : "wider in some clauses, narrower in others\n",
          to);
}

static void print_decider(const json_t *decider, FILE *to)
{
    if (json_is_object(decider)) {
        fputs(" (", to);
        cli_show_put(to, cli_show_text(decider, "licence"));
        fputs(", ", to);
        cli_show_put(to, cli_show_text(decider, "clause"));
        fputc(')', to);
    }
    fputc('\n', to);
}

void cli_show_compat(const json_t *answer, FILE *to)
{
    const json_t *readings = json_object_get(answer, "readings");
    for (size_t i = 0; i < json_array_size(readings); i++) {
        const json_t *reading = json_array_get(readings, i);
        const json_t *duties = json_object_get(reading, "duties");
        cli_show_put(to, cli_show_text(reading, "reading"));
        fputs(" reading\n  train: ", to);
        cli_show_put(to, cli_show_text(reading, "train"));
        print_decider(json_object_get(reading, "train_decides"), to);
        if (json_is_string(json_object_get(answer, "release"))) {
            fputs("  release under ", to);
            cli_show_put(to, cli_show_text(answer, "release"));
            fputs(": ", to);
            cli_show_put(to, cli_show_text(reading, "release"));
            print_decider(json_object_get(reading, "release_decides"), to);
        }
        fputs("  it may be released under: ", to);
        cli_show_put(to, cli_show_text(reading, "outbound"));
        if (*cli_show_text(reading, "clash")) {
            fputs("; these clash: ", to);
            cli_show_put(to, cli_show_text(reading, "clash"));
        }
        fputc('\n', to);
        for (size_t d = 0; d < json_array_size(duties); d++) {
            const json_t *duty = json_array_get(duties, d);
            struct cli_grid scratch = {0};
            fputs("  duty ", to);
            cli_show_put(to, cli_show_text(duty, "id"));
            fputs(": ", to);
            cli_show_put(to, cli_show_text(duty, "meaning"));
            fprintf(to, " (%s)\n", cli_show_cell(&scratch, json_object_get(duty, "from")));
            cli_grid_fini(&scratch);
        }
    }
    if (json_is_string(json_object_get(answer, "model_refused"))) {
        fputs("no model may come of it: ", to);
        cli_show_put(to, cli_show_text(answer, "model_refused"));
        fputc('\n', to);
    }
    if (json_object_get(answer, "licences")) {
        fputs("release: ", to);
        cli_show_put(to, cli_show_text(answer, "model_release"));
        if (*cli_show_text(answer, "model_capped")) {
            fputs(", because ", to);
            cli_show_put(to, cli_show_text(answer, "model_capped"));
        }
        fputs("\nuse of ", to);
        cli_show_explained(answer, to);
    }
}

/* "  for DUO:0000006 you may count, mean; not finetune (ACTION: ...)" */
static void print_yours(const json_t *yours, FILE *to)
{
    struct cli_grid scratch = {0};
    for (size_t i = 0; i < json_array_size(yours); i++) {
        const json_t *one = json_array_get(yours, i);
        const json_t *permit = json_object_get(one, "permit");
        const json_t *hold = json_object_get(one, "hold");
        const json_t *deny = json_object_get(one, "deny");
        const json_t *first = json_array_get(deny, 0);
        const char *purpose = cli_show_text(one, "purpose");
        fprintf(to, "  for %s: ",
                *purpose ? cli_show_cell(&scratch, json_object_get(one, "purpose"))
                         : "no stated purpose");
        if (json_array_size(permit)) {
            fprintf(to, "%s", cli_show_cell(&scratch, permit));
        }
        if (json_array_size(hold)) {
            fprintf(to, "%safter approval %s", json_array_size(permit) ? "; " : "",
                    cli_show_cell(&scratch, hold));
        }
        if (first) {
            bool some = json_array_size(permit) || json_array_size(hold);
            fprintf(to, "%s", some ? "; not " : "nothing: ");
            for (size_t d = 0; some && d < json_array_size(deny); d++) {
                fputs(d ? ", " : "", to);
                cli_show_put(to, cli_show_text(json_array_get(deny, d), "action"));
            }
            fputs(some ? " (" : "", to);
            cli_show_put(to, cli_show_text(first, "text"));
            fputs(some ? ")" : "", to);
        }
        fputc('\n', to);
    }
    cli_grid_fini(&scratch);
}

void cli_show_yours(const json_t *datasets, FILE *to)
{
    for (size_t i = 0; i < json_array_size(datasets); i++) {
        const json_t *dataset = json_array_get(datasets, i);
        if (json_object_get(dataset, "you")) {
            fputc('\n', to);
            cli_show_put(to, cli_show_text(dataset, "dataset"));
            fputs(" at ", to);
            cli_show_put(to, cli_show_text(dataset, "node"));
            fputs(", what you could do with it:\n", to);
            print_yours(json_object_get(dataset, "you"), to);
        }
    }
}
