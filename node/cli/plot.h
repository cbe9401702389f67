/* Between node/cli/plot.c, which draws bars and decides what an answer is drawn as, and node/cli/curve.c. */
#ifndef CONCORDAT_NODE_CLI_PLOT_H
#define CONCORDAT_NODE_CLI_PLOT_H

#include "node/cli/grid.h"

/* A row's values of group columns, joined; "" without any. Belongs to SCRATCH. */
const char *cli_plot_label(struct cli_grid *scratch, const json_t *answer, const json_t *row);
void cli_plot_xml(FILE *to, const char *text);

/* false: the answer has no curve. */
bool cli_curve_terminal(const json_t *answer, FILE *to);
bool cli_curve_svg(const json_t *answer, FILE *to);

#endif
