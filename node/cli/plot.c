#include "config.h"
#include "node/cli/table.h"

#include "node/cli/plot.h"

#include <math.h>
#include <stdlib.h>

#define PLOT_BARS_MAX 200
#define PLOT_WIDTH    40
#define SVG_WIDTH     640
#define SVG_BAR       22
#define SVG_LABEL     160
#define SVG_VALUE     130
#define SVG_HEAD      34

/* One numeric column of a grouped answer. */
struct series {
    const char *title;
    size_t count;
    struct {
        const char *label;
        double value; /* NAN: withheld */
        double margin;
    } bars[PLOT_BARS_MAX];
    double most; /* of value + margin, at least 0 */
};

static double number_at(const json_t *rows, size_t row, size_t column)
{
    const json_t *value = json_array_get(json_array_get(rows, row), column);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* A group column: named so, or, as all are in older answers, a column of texts. */
static bool is_group(const json_t *answer, size_t column, const json_t *value)
{
    const json_t *groups = json_object_get(answer, "groups");
    const json_t *name = json_array_get(json_object_get(answer, "columns"), column);
    bool found = !groups && json_is_string(value);
    for (size_t i = 0; i < json_array_size(groups) && !found; i++) {
        found = json_equal(json_array_get(groups, i), name);
    }
    return found;
}

const char *cli_plot_label(struct cli_grid *scratch, const json_t *answer, const json_t *row)
{
    char text[128] = "";
    for (size_t c = 0; c < json_array_size(row); c++) {
        const json_t *value = json_array_get(row, c);
        size_t used = strlen(text);
        if (!is_group(answer, c, value)) {
            continue;
        }
        if (json_is_string(value)) {
            snprintf(text + used, sizeof text - used, "%s%s", used ? " / " : "",
                     json_string_value(value));
        } else if (json_is_number(value)) {
            snprintf(text + used, sizeof text - used, "%s%.15g", used ? " / " : "",
                     json_number_value(value));
        }
    }
    return cli_grid_text(scratch, text);
}

static bool is_shape(const json_t *answer, const char *shape)
{
    const char *text = json_string_value(json_object_get(answer, "shape"));
    return text && strcmp(text, shape) == 0;
}

/* Of a histogram the class as well: its columns low and high are neighbours. */
static const char *label_of(struct cli_grid *scratch, const json_t *answer, size_t r)
{
    const json_t *rows = json_object_get(answer, "rows");
    const json_t *row = json_array_get(rows, r);
    const char *group = cli_plot_label(scratch, answer, row);
    if (!is_shape(answer, "histogram")) {
        return group;
    }
    for (size_t c = 0; c + 1 < json_array_size(row); c++) {
        double low = number_at(rows, r, c);
        double high = number_at(rows, r, c + 1);
        if (!is_group(answer, c, json_array_get(row, c)) && !isnan(low) && !isnan(high)) {
            char text[192];
            snprintf(text, sizeof text, "%s%s%.6g to %.6g", group, *group ? " / " : "", low, high);
            return cli_grid_text(scratch, text);
        }
    }
    return group;
}

/* A column to draw: it has numbers, and is not what the bars are labelled with. */
static bool is_drawn(const json_t *answer, size_t column)
{
    const json_t *rows = json_object_get(answer, "rows");
    const char *name =
        json_string_value(json_array_get(json_object_get(answer, "columns"), column));
    if ((is_shape(answer, "histogram") && name && strcmp(name, "count") != 0) ||
        is_group(answer, column, NULL)) {
        return false;
    }
    for (size_t r = 0; r < json_array_size(rows); r++) {
        if (!isnan(number_at(rows, r, column))) {
            return true;
        }
    }
    return false;
}

static void fill(const json_t *answer, size_t column, struct cli_grid *scratch, struct series *ret)
{
    const json_t *rows = json_object_get(answer, "rows");
    const char *title =
        json_string_value(json_array_get(json_object_get(answer, "columns"), column));
    ret->title = cli_grid_text(scratch, title ? title : "");
    ret->count = json_array_size(rows) < PLOT_BARS_MAX ? json_array_size(rows) : PLOT_BARS_MAX;
    ret->most = 0;
    for (size_t r = 0; r < ret->count; r++) {
        ret->bars[r].label = label_of(scratch, answer, r);
        ret->bars[r].value = number_at(rows, r, column);
        ret->bars[r].margin = number_at(json_object_get(answer, "margin95"), r, column);
        double end = ret->bars[r].value + (isnan(ret->bars[r].margin) ? 0 : ret->bars[r].margin);
        ret->most = end > ret->most ? end : ret->most;
    }
}

/* Something to group by, or a histogram, and at least one row. Coefficients have different units: bars would mislead. */
static bool can_draw(const json_t *answer)
{
    const json_t *rows = json_object_get(answer, "rows");
    const json_t *first = json_array_get(rows, 0);
    if (is_shape(answer, "histogram") || is_shape(answer, "linreg")) {
        return first && is_shape(answer, "histogram");
    }
    for (size_t c = 0; c < json_array_size(first); c++) {
        if (is_group(answer, c, json_array_get(first, c))) {
            return true;
        }
    }
    return false;
}

/* '#' for the value, '-' for the reach of its margin. */
static void draw_bars(const struct series *s, FILE *to)
{
    size_t width = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t w = cli_grid_width(s->bars[i].label);
        width = w > width ? w : width;
    }
    fprintf(to, "\n%s\n", s->title);
    for (size_t i = 0; i < s->count; i++) {
        double value = s->bars[i].value;
        double margin = isnan(s->bars[i].margin) ? 0 : s->bars[i].margin;
        char text[96] = "withheld";
        char bar[PLOT_WIDTH + 1];
        for (size_t c = 0; c < PLOT_WIDTH; c++) {
            double at = s->most * ((double)c + 0.5) / PLOT_WIDTH;
            bar[c] = !(s->most > 0) || isnan(value) ? ' '
                     : at <= value                  ? '#'
                     : at <= value + margin         ? '-'
                                                    : ' ';
        }
        bar[PLOT_WIDTH] = 0;
        if (!isnan(value)) {
            cli_table_number(value, s->bars[i].margin, text, sizeof text);
        }
        fprintf(to, "%s%*s |%s %s\n", s->bars[i].label,
                (int)(width - cli_grid_width(s->bars[i].label)), "", bar, text);
    }
}

bool cli_plot_terminal(const json_t *answer, FILE *to)
{
    if (is_shape(answer, "survival")) {
        return cli_curve_terminal(answer, to);
    }
    struct cli_grid scratch = {0};
    struct series *s = proto_alloc(1, sizeof *s);
    const json_t *columns = json_object_get(answer, "columns");
    bool drawn = false;
    for (size_t c = 0; s && can_draw(answer) && c < json_array_size(columns); c++) {
        if (is_drawn(answer, c)) {
            fill(answer, c, &scratch, s);
            draw_bars(s, to);
            drawn = true;
        }
    }
    proto_free(s);
    cli_grid_fini(&scratch);
    return drawn;
}

void cli_plot_xml(FILE *to, const char *text)
{
    for (; *text; text++) {
        const char *escape = *text == '<'   ? "&lt;"
                             : *text == '>' ? "&gt;"
                             : *text == '&' ? "&amp;"
                             : *text == '"' ? "&quot;"
                                            : NULL;
        if (escape) {
            fputs(escape, to);
        } else {
            fputc(*text, to);
        }
    }
}

static size_t draw_svg(const struct series *s, size_t y, FILE *to)
{
    const double span = SVG_WIDTH - SVG_LABEL - SVG_VALUE;
    double scale = s->most > 0 ? span / s->most : 0;
    fprintf(to, "<text x=\"8\" y=\"%zu\" font-weight=\"bold\">", y + 22);
    cli_plot_xml(to, s->title);
    fputs("</text>\n", to);
    y += SVG_HEAD;
    for (size_t i = 0; i < s->count; i++, y += SVG_BAR) {
        double value = s->bars[i].value;
        double margin = isnan(s->bars[i].margin) ? 0 : s->bars[i].margin;
        double width = isnan(value) || value < 0 ? 0 : value * scale;
        char text[96] = "withheld";
        if (!isnan(value)) {
            cli_table_number(value, s->bars[i].margin, text, sizeof text);
        }
        fprintf(to, "<text x=\"%d\" y=\"%zu\" text-anchor=\"end\">", SVG_LABEL - 8, y + 15);
        cli_plot_xml(to, s->bars[i].label);
        fprintf(
            to,
            "</text>\n<rect x=\"%d\" y=\"%zu\" width=\"%.1f\" height=\"%d\" fill=\"#4477aa\"/>\n",
            SVG_LABEL, y + 3, width, SVG_BAR - 6);
        double from = fmax(0, (value - margin) * scale);
        if (margin > 0 && !isnan(value)) {
            fprintf(to, "<line x1=\"%.1f\" y1=\"%zu\" x2=\"%.1f\" y2=\"%zu\" stroke=\"#222\"/>\n",
                    SVG_LABEL + from, y + SVG_BAR / 2,
                    SVG_LABEL + fmax(0, (value + margin) * scale), y + SVG_BAR / 2);
        }
        fprintf(to, "<text x=\"%d\" y=\"%zu\">", SVG_WIDTH - SVG_VALUE + 8, y + 15);
        cli_plot_xml(to, text);
        fputs("</text>\n", to);
    }
    return y;
}

bool cli_plot_svg(const json_t *answer, FILE *to)
{
    if (is_shape(answer, "survival")) {
        return cli_curve_svg(answer, to);
    }
    struct cli_grid scratch = {0};
    struct series *s = proto_alloc(1, sizeof *s);
    const json_t *columns = json_object_get(answer, "columns");
    const json_t *rows = json_object_get(answer, "rows");
    size_t numeric = 0;
    for (size_t c = 0; can_draw(answer) && c < json_array_size(columns); c++) {
        numeric += is_drawn(answer, c);
    }
    if (s && numeric > 0) {
        size_t bars = json_array_size(rows) < PLOT_BARS_MAX ? json_array_size(rows) : PLOT_BARS_MAX;
        fprintf(to,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
                "font-family=\"sans-serif\" font-size=\"13\">\n",
                SVG_WIDTH, numeric * (SVG_HEAD + bars * SVG_BAR) + 8);
        size_t y = 0;
        for (size_t c = 0; c < json_array_size(columns); c++) {
            if (is_drawn(answer, c)) {
                fill(answer, c, &scratch, s);
                y = draw_svg(s, y, to);
            }
        }
        fputs("</svg>\n", to);
    }
    proto_free(s);
    cli_grid_fini(&scratch);
    return numeric > 0;
}
