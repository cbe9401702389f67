/* Private to node/cli: the printers behind table.h. `show.c` has what all of them use, the others the answers of one field
 * each. Texts in answers may come from other institutions: only cli_show_put and cells bring them to a terminal.
 * Threads: any; nothing is kept. */
#ifndef CONCORDAT_NODE_CLI_SHOW_H
#define CONCORDAT_NODE_CLI_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct cli_grid;

/* One column of a list: the head and the path of its value ("licence.state" walks into objects). A list ends with NULLs. */
struct cli_column {
    const char *head;
    const char *path;
};
extern const struct cli_column cli_peer_columns[], cli_dataset_columns[], cli_job_columns[];

/* "" and NAN where there is none. */
const char *cli_show_text(const json_t *object, const char *key);
double cli_show_number(const json_t *object, const char *key);
/* To a stream, with control characters replaced. */
void cli_show_put(FILE *to, const char *text);
/* Any JSON value in a cell; lists with commas, objects as compact JSON. */
const char *cli_show_cell(struct cli_grid *grid, const json_t *value);
/* NOTHING is what an empty list says. */
void cli_show_list(const json_t *list, const struct cli_column *columns, const char *nothing,
                   FILE *to);
/* "key: value" lines, keys aligned; nested lists of objects are left to the caller. */
void cli_show_object(const json_t *object, FILE *to);
/* An object's plain keys, then one of its lists as a table. */
void cli_show_with_list(const json_t *answer, const char *list, const struct cli_column *columns,
                        FILE *to);
void cli_show_clause(const json_t *clause, FILE *to);
/* What a person can do about a reason code; NULL: nothing that we know. */
const char *cli_show_cure(const char *reason);
/* A line for each site that did not answer (ALL: each), with the clause that failed and what would help. */
void cli_show_sites(const json_t *sites, bool all, FILE *to);
void cli_show_budgets(const json_t *budgets, bool datasets, FILE *to);

/* show_query.c */
/* What a question or a job costs, and what is left. */
void cli_show_cost(const json_t *answer, FILE *to);
void cli_show_query(const json_t *answer, FILE *to);

/* show_train.c */
/* Words with their tags, classes with their probability, or numbers. */
void cli_show_predictions(const json_t *rows, FILE *to);
void cli_show_train(const json_t *answer, FILE *to);
void cli_show_history(const json_t *answer, FILE *to);
void cli_show_compare(const json_t *answer, FILE *to);
void cli_show_train_start(const json_t *answer, FILE *to);

/* show_licence.c */
void cli_show_check(const json_t *answer, FILE *to);
void cli_show_decision(const json_t *answer, FILE *to);
void cli_show_licence(const json_t *answer, FILE *to);
void cli_show_explained(const json_t *answer, FILE *to);
void cli_show_diff(const json_t *answer, FILE *to);
void cli_show_compat(const json_t *answer, FILE *to);
/* What this node could do with each dataset. */
void cli_show_yours(const json_t *datasets, FILE *to);

/* show_node.c */
void cli_show_status(const json_t *answer, FILE *to);
void cli_show_doctor(const json_t *answer, FILE *to);
void cli_show_import(const json_t *answer, FILE *to);
void cli_show_mapping(const json_t *answer, FILE *to);
void cli_show_risk(const json_t *answer, FILE *to);
void cli_show_dataset(const json_t *answer, FILE *to);
void cli_show_verify(const json_t *answer, FILE *to);
void cli_show_accountant(const json_t *answer, FILE *to);
void cli_show_budget(const json_t *answer, FILE *to);

#endif
