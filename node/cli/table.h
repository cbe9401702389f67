/* Answers as text for people: the same JSON that --json prints, as aligned tables, margins, refusals
 * with the clause that failed, and what to do next. It asks nothing and decides nothing.
 *
 *     cli_table_answer(PROTO_OP_QUERY, answer, stdout);
 *     cli_table_error(error_document, stderr);
 *
 * Texts in answers may come from other institutions: control characters are shown as '?', so that
 * none can steer a terminal. Threads: any; nothing is kept. */
#ifndef CONCORDAT_NODE_CLI_TABLE_H
#define CONCORDAT_NODE_CLI_TABLE_H

#include <jansson.h>
#include <stdio.h>

#include "proto/operation.h"

void cli_table_answer(enum proto_op_id id, const json_t *answer, FILE *to);
/* A line for each site that did not answer a query. */
void cli_table_sites(const json_t *answer, FILE *to);
/* One or two lines that say what happened and what to do, then a line per site. */
void cli_table_error(const json_t *document, FILE *to);

/* Bars of a grouped answer or a histogram: each row's group or class against each numeric column; curves of SURVIVAL. false:
 * the answer has nothing to draw. */
bool cli_plot_terminal(const json_t *answer, FILE *to);
bool cli_plot_svg(const json_t *answer, FILE *to);

/* The rows of a query's answer as RFC 4180 says, with a head line; a column NAME_margin95 behind each that has margins. */
void cli_csv_print(const json_t *answer, FILE *to);

/* A value and its margin with as many digits as the margin deserves: "4321 ± 12", "1.070 ± 0.020". */
void cli_table_number(double value, double margin, char *to, size_t size);

#endif
