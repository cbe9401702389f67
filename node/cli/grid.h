/* Cells of text, printed as an aligned table. Zero-initialise; cli_grid_fini frees. Out of memory
 * leaves cells out. Threads: one. */
#ifndef CONCORDAT_NODE_CLI_GRID_H
#define CONCORDAT_NODE_CLI_GRID_H

#include <jansson.h>
#include <stdio.h>

#include "proto/alloc.h"

#define CLI_GRID_COLUMNS 32

struct cli_grid {
    struct arena arena;
    const char **cells; /* rows x columns */
    size_t columns;
    size_t rows;
    size_t room;
    bool right[CLI_GRID_COLUMNS]; /* numbers stand to the right */
};

/* The head line; FORMAT-less texts. */
void cli_grid_start(struct cli_grid *grid, size_t columns, const char *const *heads);
void cli_grid_row(struct cli_grid *grid, const char *const *cells);
/* Columns that are empty in every row are left out. */
void cli_grid_print(const struct cli_grid *grid, FILE *to);
void cli_grid_fini(struct cli_grid *grid);
/* A copy in the grid's arena, control characters replaced. */
const char *cli_grid_text(struct cli_grid *grid, const char *text);
/* Columns on a terminal: code points that are not combining marks. */
size_t cli_grid_width(const char *text);

#endif
