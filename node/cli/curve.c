/* SURVIVAL as curves: steps with their bands, one curve for each group, in the terminal and as SVG. */
#include "config.h"
#include "node/cli/plot.h"

#include "node/cli/grid.h"

#include <math.h>
#include <string.h>

#define CURVES_MAX  8
#define POINTS_MAX  512
#define TERM_WIDTH  64
#define TERM_HEIGHT 17 /* odd, so that a half has a line of its own */
#define SVG_WIDTH   640
#define SVG_HEIGHT  360
#define SVG_LEFT    48
#define SVG_RIGHT   16
#define SVG_TOP     16
#define SVG_BOTTOM  40
#define SVG_LEGEND  18

struct point {
    double time;
    double survival; /* NAN: not known */
    double lower;
    double upper;
};

struct curve {
    const char *label;
    size_t count;
    struct point points[POINTS_MAX];
};

struct curves {
    struct cli_grid scratch; /* owns the labels */
    size_t count;
    double from; /* where time begins */
    double to;
    struct curve curves[CURVES_MAX];
};

static size_t column_of(const json_t *answer, const char *name)
{
    const json_t *columns = json_object_get(answer, "columns");
    for (size_t i = 0; i < json_array_size(columns); i++) {
        const char *text = json_string_value(json_array_get(columns, i));
        if (text && strcmp(text, name) == 0) {
            return i;
        }
    }
    return SIZE_MAX;
}

static double number_in(const json_t *row, size_t column)
{
    const json_t *value = json_array_get(row, column);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Rows of one group follow each other; time falls back where the next one begins. */
static void fill(const json_t *answer, struct curves *ret)
{
    const json_t *rows = json_object_get(answer, "rows");
    const size_t time = column_of(answer, "time");
    const size_t at[3] = {column_of(answer, "survival"), column_of(answer, "lower"),
                          column_of(answer, "upper")};
    double last = INFINITY;
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        struct point point = {number_in(row, time), number_in(row, at[0]), number_in(row, at[1]),
                              number_in(row, at[2])};
        if (ret->count == 0 || point.time <= last) {
            if (ret->count == CURVES_MAX) {
                return;
            }
            ret->curves[ret->count++].label = cli_plot_label(&ret->scratch, answer, row);
        }
        struct curve *curve = &ret->curves[ret->count - 1];
        if (curve->count < POINTS_MAX) {
            curve->points[curve->count++] = point;
        }
        last = point.time;
    }
}

static bool load(const json_t *answer, struct curves *ret)
{
    fill(answer, ret);
    if (ret->count == 0) {
        return false;
    }
    const struct curve *first = &ret->curves[0];
    double step =
        first->count > 1 ? first->points[1].time - first->points[0].time : first->points[0].time;
    ret->from = first->points[0].time - step;
    ret->to = first->points[first->count - 1].time;
    return ret->to > ret->from;
}

/* The point whose step holds at TIME: survival changes at the end of each bin. NULL: still before the first. */
static const struct point *step_at(const struct curve *curve, double time)
{
    const struct point *found = NULL;
    for (size_t i = 0; i < curve->count && curve->points[i].time <= time; i++) {
        found = &curve->points[i];
    }
    return found;
}

/* ---- terminal ------------------------------------------------------------------------------ */

static const char marks[CURVES_MAX + 1] = "*o+x#@%&";

static size_t line_of(double share)
{
    double line = (1 - fmin(fmax(share, 0), 1)) * (TERM_HEIGHT - 1);
    return (size_t)(line + 0.5);
}

static void draw_column(const struct curves *curves, size_t column,
                        char cells[TERM_HEIGHT][TERM_WIDTH + 1])
{
    double time = curves->from + (curves->to - curves->from) * ((double)column + 1) / TERM_WIDTH;
    for (size_t c = 0; c < curves->count; c++) {
        const struct point *point = step_at(&curves->curves[c], time);
        if (point && !isnan(point->lower)) {
            for (size_t line = line_of(point->upper); line <= line_of(point->lower); line++) {
                cells[line][column] = cells[line][column] == ' ' ? '.' : cells[line][column];
            }
        }
        if (!point || !isnan(point->survival)) {
            cells[line_of(point ? point->survival : 1)][column] = marks[c];
        }
    }
}

static void draw_axes(const struct curves *curves, char cells[TERM_HEIGHT][TERM_WIDTH + 1],
                      FILE *to)
{
    char text[48];
    fputs("\nsurvival\n", to);
    for (size_t line = 0; line < TERM_HEIGHT; line++) {
        double share = 1 - (double)line / (TERM_HEIGHT - 1);
        snprintf(text, sizeof text, "%.2f", share);
        text[line % 4 ? 0 : strlen(text)] = 0; /* every fourth line has its number */
        fprintf(to, "%5s |%s\n", text, cells[line]);
    }
    fprintf(to, "%5s +", "");
    for (size_t i = 0; i < TERM_WIDTH; i++) {
        fputc('-', to);
    }
    snprintf(text, sizeof text, "%.6g", curves->to);
    fprintf(to, "\n%6s %-.6g%*s\n", "", curves->from,
            (int)(TERM_WIDTH - (size_t)snprintf(NULL, 0, "%.6g", curves->from)), text);
}

bool cli_curve_terminal(const json_t *answer, FILE *to)
{
    struct curves *curves = proto_alloc(1, sizeof *curves);
    char cells[TERM_HEIGHT][TERM_WIDTH + 1];
    bool drawn = curves && load(answer, curves);
    for (size_t line = 0; line < TERM_HEIGHT; line++) {
        memset(cells[line], ' ', TERM_WIDTH);
        cells[line][TERM_WIDTH] = 0;
    }
    for (size_t column = 0; drawn && column < TERM_WIDTH; column++) {
        draw_column(curves, column, cells);
    }
    if (drawn) {
        draw_axes(curves, cells, to);
        for (size_t c = 0; c < curves->count && curves->count > 1; c++) {
            fprintf(to, "%6s %c %s\n", "", marks[c], curves->curves[c].label);
        }
        fprintf(to, "%6s . 95 %% band\n", "");
    }
    if (curves) {
        cli_grid_fini(&curves->scratch);
    }
    proto_free(curves);
    return drawn;
}

/* ---- SVG ----------------------------------------------------------------------------------- */

/* Paul Tol's bright scheme: told apart by people who do not see red and green alike. */
static const char *const colours[CURVES_MAX] = {"#4477aa", "#ee6677", "#228833", "#ccbb44",
                                                "#66ccee", "#aa3377", "#777777", "#000000"};

static double x_of(const struct curves *curves, double time)
{
    double share = (time - curves->from) / (curves->to - curves->from);
    return SVG_LEFT + share * (SVG_WIDTH - SVG_LEFT - SVG_RIGHT);
}

static double y_of(double share)
{
    return SVG_TOP + (1 - share) * (SVG_HEIGHT - SVG_TOP - SVG_BOTTOM);
}

static void put_axes(const struct curves *curves, FILE *to)
{
    for (int i = 0; i <= 4; i++) {
        double y = y_of(i / 4.0);
        double time = curves->from + (curves->to - curves->from) * i / 4;
        fprintf(to, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n",
                SVG_LEFT, y, SVG_WIDTH - SVG_RIGHT, y);
        fprintf(to, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n", SVG_LEFT - 6,
                y + 4, i / 4.0);
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n",
                x_of(curves, time), SVG_HEIGHT - SVG_BOTTOM + 18, time);
    }
}

/* One edge of the band, forth or back. */
static void put_edge(const struct curves *curves, const struct curve *curve, bool upper, bool back,
                     FILE *to)
{
    for (size_t n = 0; n < curve->count; n++) {
        size_t i = back ? curve->count - 1 - n : n;
        const struct point *point = &curve->points[i];
        double next = i + 1 < curve->count ? curve->points[i + 1].time : point->time;
        double y = y_of(upper ? point->upper : point->lower);
        if (!isnan(point->lower)) {
            fprintf(to, "%.1f,%.1f %.1f,%.1f ", x_of(curves, back ? next : point->time), y,
                    x_of(curves, back ? point->time : next), y);
        }
    }
}

static void put_steps(const struct curves *curves, const struct curve *curve, FILE *to)
{
    double before = 1;
    fprintf(to, "%.1f,%.1f ", x_of(curves, curves->from), y_of(1));
    for (size_t i = 0; i < curve->count && !isnan(curve->points[i].survival); i++) {
        double x = x_of(curves, curve->points[i].time);
        fprintf(to, "%.1f,%.1f %.1f,%.1f ", x, y_of(before), x, y_of(curve->points[i].survival));
        before = curve->points[i].survival;
    }
}

bool cli_curve_svg(const json_t *answer, FILE *to)
{
    struct curves *curves = proto_alloc(1, sizeof *curves);
    bool drawn = curves && load(answer, curves);
    if (drawn) {
        fprintf(to,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
                "font-family=\"sans-serif\" font-size=\"13\">\n",
                SVG_WIDTH, SVG_HEIGHT + curves->count * SVG_LEGEND);
        put_axes(curves, to);
    }
    for (size_t c = 0; drawn && c < curves->count; c++) {
        const struct curve *curve = &curves->curves[c];
        size_t y = SVG_HEIGHT + c * SVG_LEGEND;
        fputs("<polygon points=\"", to);
        put_edge(curves, curve, true, false, to);
        put_edge(curves, curve, false, true, to);
        fprintf(to, "\" fill=\"%s\" fill-opacity=\"0.2\"/>\n<polyline points=\"", colours[c]);
        put_steps(curves, curve, to);
        fprintf(to, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/>\n", colours[c]);
        fprintf(to,
                "<rect x=\"%d\" y=\"%zu\" width=\"12\" height=\"12\" fill=\"%s\"/>\n<text x=\"%d\" "
                "y=\"%zu\">",
                SVG_LEFT, y, colours[c], SVG_LEFT + 18, y + 11);
        cli_plot_xml(to, *curve->label ? curve->label : "survival, 95 % band");
        fputs("</text>\n", to);
    }
    if (drawn) {
        fputs("</svg>\n", to);
    }
    if (curves) {
        cli_grid_fini(&curves->scratch);
    }
    proto_free(curves);
    return drawn;
}
