#include "config.h"
#include "node/cli/grid.h"

size_t cli_grid_width(const char *text)
{
    size_t width = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool continuation = (*c & 0xC0) == 0x80;
        bool combining = *c == 0xCC || (*c == 0xCD && c[1] < 0xB0);
        width += !continuation && !combining;
    }
    return width;
}

const char *cli_grid_text(struct cli_grid *grid, const char *text)
{
    char *copy = arena_strdup(&grid->arena, span_str(text));
    for (char *c = copy; c && *c; c++) {
        unsigned char next = (unsigned char)c[1];
        if ((unsigned char)*c < 0x20 || *c == 0x7F) {
            *c = '?';
        } else if ((unsigned char)*c == 0xC2 && next >= 0x80 && next < 0xA0) {
            *c = '?'; /* C1 control characters in UTF-8 */
            c[1] = '?';
        }
    }
    return copy ? copy : "";
}

void cli_grid_row(struct cli_grid *grid, const char *const *cells)
{
    if (grid->rows == grid->room) {
        size_t room = grid->room ? grid->room * 2 : 16;
        const char **more = proto_realloc(grid->cells, room * grid->columns, sizeof *more);
        if (!more) {
            return;
        }
        grid->cells = more;
        grid->room = room;
    }
    for (size_t i = 0; i < grid->columns; i++) {
        grid->cells[grid->rows * grid->columns + i] = cells[i] ? cells[i] : "";
    }
    grid->rows++;
}

void cli_grid_start(struct cli_grid *grid, size_t columns, const char *const *heads)
{
    grid->columns = columns < CLI_GRID_COLUMNS ? columns : CLI_GRID_COLUMNS;
    cli_grid_row(grid, heads);
}

static void print_cell(const char *text, size_t width, bool right, bool last, FILE *to)
{
    size_t pad = width - cli_grid_width(text);
    if (right) {
        fprintf(to, "%*s%s", (int)pad, "", text);
    } else if (last) {
        fputs(text, to); /* no blanks at the end of a line */
    } else {
        fprintf(to, "%s%*s", text, (int)pad, "");
    }
}

void cli_grid_print(const struct cli_grid *grid, FILE *to)
{
    size_t width[CLI_GRID_COLUMNS] = {0};
    bool shown[CLI_GRID_COLUMNS] = {false};
    size_t last = 0;
    for (size_t c = 0; c < grid->columns; c++) {
        for (size_t r = 0; r < grid->rows; r++) {
            const char *text = grid->cells[r * grid->columns + c];
            size_t w = cli_grid_width(text);
            width[c] = w > width[c] ? w : width[c];
            shown[c] = shown[c] || (r > 0 && *text);
        }
        last = shown[c] ? c : last;
    }
    for (size_t r = 0; r < grid->rows; r++) {
        bool first = true;
        for (size_t c = 0; c < grid->columns; c++) {
            if (shown[c]) {
                fputs(first ? "" : "  ", to);
                print_cell(grid->cells[r * grid->columns + c], width[c], grid->right[c], c == last,
                           to);
                first = false;
            }
        }
        fputc('\n', to);
    }
}

void cli_grid_fini(struct cli_grid *grid)
{
    arena_fini(&grid->arena);
    proto_free(grid->cells);
    *grid = (struct cli_grid){0};
}
