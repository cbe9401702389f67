#include "config.h"
#include "node/model/curve.h"

#include <math.h>

#define WIDTH  640.0
#define HEIGHT 360.0
#define LEFT   60.0
#define RIGHT  20.0
#define TOP    40.0
#define BOTTOM 44.0
#define TICKS  5

/* Okabe and Ito: told apart by all eyes. */
static const char *const colours[MODEL_CURVES_MAX] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#000000", "#f0e442"};

struct frame {
    double low, high;
    size_t count;
};

static double at_x(const struct frame *f, size_t i)
{
    double part = f->count > 1 ? (double)i / (double)(f->count - 1) : 0.5;
    return LEFT + part * (WIDTH - LEFT - RIGHT);
}

static double at_y(const struct frame *f, double v)
{
    return HEIGHT - BOTTOM - (v - f->low) / (f->high - f->low) * (HEIGHT - TOP - BOTTOM);
}

static enum err put_text(struct buf *to, const char *text)
{
    enum err err = E_OK;
    for (; !err && *text; text++) {
        unsigned char c = (unsigned char)*text;
        err = c == '<'   ? buf_put(to, span_str("&lt;"))
              : c == '&' ? buf_put(to, span_str("&amp;"))
              : c == '>' ? buf_put(to, span_str("&gt;"))
              : c == '"' ? buf_put(to, span_str("&quot;"))
              : c < 0x20 ? buf_put(to, span_str(" "))
                         : buf_put(to, span_of((const uint8_t *)text, 1));
    }
    return err;
}

static double margin(const struct model_curve *c, size_t i)
{
    return c->margins && isfinite(c->margins[i]) ? fabs(c->margins[i]) : 0;
}

static void find_range(const struct model_curve *curves, size_t curve_count, struct frame *f)
{
    f->low = INFINITY;
    f->high = -INFINITY;
    for (size_t c = 0; c < curve_count; c++) {
        for (size_t i = 0; i < f->count; i++) {
            if (isfinite(curves[c].values[i])) {
                f->low = fmin(f->low, curves[c].values[i] - margin(&curves[c], i));
                f->high = fmax(f->high, curves[c].values[i] + margin(&curves[c], i));
            }
        }
    }
    if (!(f->low <= f->high)) {
        f->low = 0;
        f->high = 1;
    }
    if (f->low >= 0 && f->high <= 1) {
        f->low = 0;
    }
    if (!(f->high - f->low > 1e-9 * fmax(1, fabs(f->high)))) {
        f->high = f->low + 1;
    }
}

static enum err put_axes(const struct frame *f, const char *axis, struct buf *to)
{
    enum err err = E_OK;
    for (int i = 0; !err && i < TICKS; i++) {
        double v = f->low + (f->high - f->low) * i / (TICKS - 1), y = at_y(f, v);
        err = buf_printf(to,
                         "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>"
                         "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n",
                         LEFT, y, WIDTH - RIGHT, y, LEFT - 6, y + 4, v);
    }
    size_t step = f->count > 10 ? (f->count + 9) / 10 : 1;
    for (size_t i = 0; !err && i < f->count; i += step) {
        err = buf_printf(to, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%zu</text>\n",
                         at_x(f, i), HEIGHT - BOTTOM + 16, i + 1);
    }
    err = err ? err
              : buf_printf(to, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                           (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
    err = err ? err : put_text(to, axis);
    return err ? err : buf_put(to, span_str("</text>\n"));
}

/* Points [from, to) that are all there. */
static enum err put_band(const struct frame *f, const struct model_curve *c, const char *colour,
                         size_t from, size_t end, struct buf *to)
{
    enum err err = buf_put(to, span_str("<polygon points=\""));
    for (size_t i = from; !err && i < end; i++) {
        err = buf_printf(to, "%.1f,%.1f ", at_x(f, i), at_y(f, c->values[i] + margin(c, i)));
    }
    for (size_t i = end; !err && i > from; i--) {
        err = buf_printf(to, "%.1f,%.1f ", at_x(f, i - 1),
                         at_y(f, c->values[i - 1] - margin(c, i - 1)));
    }
    return err ? err
               : buf_printf(to, "\" fill=\"%s\" fill-opacity=\"0.15\" stroke=\"none\"/>\n", colour);
}

static enum err put_line(const struct frame *f, const struct model_curve *c, const char *colour,
                         size_t from, size_t end, struct buf *to)
{
    enum err err = c->margins ? put_band(f, c, colour, from, end, to) : E_OK;
    err = err ? err : buf_put(to, span_str("<polyline points=\""));
    for (size_t i = from; !err && i < end; i++) {
        err = buf_printf(to, "%.1f,%.1f ", at_x(f, i), at_y(f, c->values[i]));
    }
    err =
        err ? err : buf_printf(to, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", colour);
    /* A point alone has no line. */
    return err || end - from > 1
               ? err
               : buf_printf(to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                            at_x(f, from), at_y(f, c->values[from]), colour);
}

static enum err put_curve(const struct frame *f, const struct model_curve *c, size_t number,
                          struct buf *to)
{
    const char *colour = colours[number];
    enum err err = E_OK;
    for (size_t i = 0; !err && i < f->count;) {
        size_t end = i;
        while (end < f->count && isfinite(c->values[end])) {
            end++;
        }
        err = end > i ? put_line(f, c, colour, i, end, to) : E_OK;
        i = end > i ? end : i + 1;
    }
    err = err ? err
              : buf_printf(to,
                           "<line x1=\"%.1f\" y1=\"30\" x2=\"%.1f\" y2=\"30\" stroke=\"%s\" "
                           "stroke-width=\"2\"/><text x=\"%.1f\" y=\"34\">",
                           LEFT + 110.0 * (double)number, LEFT + 110.0 * (double)number + 18,
                           colour, LEFT + 110.0 * (double)number + 22);
    err = err ? err : put_text(to, c->name);
    return err ? err : buf_put(to, span_str("</text>\n"));
}

enum err model_curves_svg(const char *title, const char *axis, const struct model_curve *curves,
                          size_t curve_count, size_t count, struct buf *to)
{
    struct frame f = {.count = count};
    if (curve_count == 0 || curve_count > MODEL_CURVES_MAX || count == 0 ||
        count > MODEL_CURVE_POINTS_MAX) {
        return E_USAGE;
    }
    find_range(curves, curve_count, &f);
    enum err err = buf_printf(
        to,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
        "height=\"%.0f\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" "
        "height=\"100%%\" fill=\"white\"/>\n<text x=\"%.1f\" y=\"18\" font-size=\"14\">",
        WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT);
    err = err ? err : put_text(to, title);
    err = err ? err : buf_put(to, span_str("</text>\n"));
    err = err ? err : put_axes(&f, axis, to);
    for (size_t i = 0; !err && i < curve_count; i++) {
        err = put_curve(&f, &curves[i], i, to);
    }
    return err ? err : buf_put(to, span_str("</svg>\n"));
}
