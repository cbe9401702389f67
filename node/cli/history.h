/* A job's rounds for people and other programs: CSV, learning curves, TensorBoard. ANSWER is that of `train history`. */
#ifndef CONCORDAT_NODE_CLI_HISTORY_H
#define CONCORDAT_NODE_CLI_HISTORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "proto/err.h"

void cli_history_csv(const json_t *answer, FILE *to);
/* False: no figure was released. */
bool cli_history_plot(const json_t *answer, FILE *to);
/* Errors: E_NOT_FOUND no figure was released; E_IO; E_NO_MEMORY. */
MUST_CHECK enum err cli_history_svg(const json_t *answer, const char *path,
                                    struct err_info *reterr);
MUST_CHECK enum err cli_history_tensorboard(const json_t *answer, const char *folder,
                                            struct err_info *reterr);

#endif
