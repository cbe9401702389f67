#include "config.h"
#include "node/cli/history.h"

#include "node/model/curve.h"
#include "node/model/events.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The figures that a round may have, and where they stand. */
static const struct figure {
    const char *name, *outer, *inner;
} figures[] = {
    {"loss", "eval_loss", NULL},
    {"accuracy", "metrics", "accuracy"},
    {"auc", "metrics", "auc"},
    {"rmse", "metrics", "rmse"},
    {"r2", "metrics", "r2"},
    {"concordance", "metrics", "concordance"},
    {"precision", "metrics", "precision"},
    {"recall", "metrics", "recall"},
    {"f1", "metrics", "f1"},
    {"epsilon", "epsilon", NULL},
};
#define FIGURES (sizeof figures / sizeof *figures)
#define EPSILON (FIGURES - 1)

static double figure_at(const json_t *round, size_t figure)
{
    const json_t *value = json_object_get(round, figures[figure].outer);
    if (figures[figure].inner) {
        value = json_object_get(value, figures[figure].inner);
    }
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* --- CSV --------------------------------------------------------------------------------------------------------------- */

static void put_names(FILE *to, const json_t *list, bool reasons)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *node = json_string_value(reasons ? json_object_get(item, "node") : item);
        const char *why = json_string_value(json_object_get(item, "reason"));
        fprintf(to, "%s%s%s%s", i ? ";" : "", node ? node : "", reasons ? ":" : "",
                reasons && why ? why : "");
    }
}

/* Names of nodes and reasons are words, so nothing needs quotes. */
void cli_history_csv(const json_t *answer, FILE *to)
{
    const json_t *history = json_object_get(answer, "history");
    fputs("round", to);
    for (size_t f = 0; f < FIGURES; f++) {
        fprintf(to, ",%s", figures[f].name);
    }
    fputs(",participants,absent,bytes_up,bytes_down,seconds,term,weights\n", to);
    for (size_t i = 0; i < json_array_size(history); i++) {
        const json_t *round = json_array_get(history, i);
        const char *weights = json_string_value(json_object_get(round, "weights"));
        fprintf(to, "%.0f", json_number_value(json_object_get(round, "round")));
        for (size_t f = 0; f < FIGURES; f++) {
            double value = figure_at(round, f);
            fputc(',', to);
            if (isfinite(value)) {
                fprintf(to, "%.9g", value);
            }
        }
        fputc(',', to);
        put_names(to, json_object_get(round, "participants"), false);
        fputc(',', to);
        put_names(to, json_object_get(round, "absent"), true);
        fprintf(to, ",%.0f,%.0f,%.9g,%.0f,%s\n",
                json_number_value(json_object_get(round, "bytes_up")),
                json_number_value(json_object_get(round, "bytes_down")),
                json_number_value(json_object_get(round, "seconds")),
                json_number_value(json_object_get(round, "term")), weights ? weights : "");
    }
}

/* --- curves ------------------------------------------------------------------------------------------------------------ */

struct curves {
    double *values; /* FIGURES rows of COUNT */
    size_t count;
    size_t points[FIGURES];
};

static enum err read_curves(const json_t *answer, struct curves *ret)
{
    const json_t *history = json_object_get(answer, "history");
    memset(ret, 0, sizeof *ret);
    ret->count = json_array_size(history);
    ret->values = proto_alloc(FIGURES * (ret->count + 1), sizeof *ret->values);
    if (!ret->values) {
        return E_NO_MEMORY;
    }
    for (size_t f = 0; f < FIGURES; f++) {
        for (size_t i = 0; i < ret->count; i++) {
            double value = figure_at(json_array_get(history, i), f);
            ret->values[f * ret->count + i] = value;
            ret->points[f] += isfinite(value) ? 1 : 0;
        }
    }
    return E_OK;
}

#define PLOT_WIDTH  60
#define PLOT_HEIGHT 8

static void plot_one(const char *name, const double *values, size_t count, FILE *to)
{
    double low = INFINITY;
    double high = -INFINITY;
    char cells[PLOT_HEIGHT][PLOT_WIDTH + 1];
    for (size_t i = 0; i < count; i++) {
        low = isfinite(values[i]) ? fmin(low, values[i]) : low;
        high = isfinite(values[i]) ? fmax(high, values[i]) : high;
    }
    size_t width = count < PLOT_WIDTH ? count : PLOT_WIDTH;
    for (size_t y = 0; y < PLOT_HEIGHT; y++) {
        memset(cells[y], ' ', width);
        cells[y][width] = '\0';
    }
    for (size_t i = 0; i < count; i++) {
        if (isfinite(values[i])) {
            size_t x = count <= PLOT_WIDTH ? i : i * (PLOT_WIDTH - 1) / (count - 1);
            double part = high > low ? (values[i] - low) / (high - low) : 0.5;
            size_t y = (size_t)(part * (PLOT_HEIGHT - 1) + 0.5);
            cells[PLOT_HEIGHT - 1 - y][x] = '*';
        }
    }
    fprintf(to, "\n%s over %zu rounds\n", name, count);
    for (size_t y = 0; y < PLOT_HEIGHT; y++) {
        double at = high - (high - low) * (double)y / (PLOT_HEIGHT - 1);
        bool labelled = y == 0 || y == PLOT_HEIGHT - 1;
        if (labelled) {
            fprintf(to, "%10.4g |%s\n", at, cells[y]);
        } else {
            fprintf(to, "%10s |%s\n", "", cells[y]);
        }
    }
}

bool cli_history_plot(const json_t *answer, FILE *to)
{
    struct curves curves;
    bool drawn = false;
    if (read_curves(answer, &curves)) {
        return false;
    }
    for (size_t f = 0; f < EPSILON; f++) {
        if (curves.points[f] > 1) {
            plot_one(figures[f].name, curves.values + f * curves.count, curves.count, to);
            drawn = true;
        }
    }
    proto_free(curves.values);
    return drawn;
}

static enum err write_whole(const char *path, struct span bytes, struct err_info *reterr)
{
    FILE *to = fopen(path, "we");
    bool good = to && fwrite(bytes.ptr, 1, bytes.len, to) == bytes.len;
    bool closed = to && fclose(to) == 0;
    return good && closed
               ? E_OK
               : proto_err_set(reterr, E_IO, "%s cannot be written: %s", path, strerror(errno));
}

enum err cli_history_svg(const json_t *answer, const char *path, struct err_info *reterr)
{
    struct model_curve drawn[FIGURES];
    struct curves curves;
    size_t count = 0;
    struct buf svg = {.max = (size_t)64 << 20};
    const char *title = json_string_value(json_object_get(answer, "name"));
    enum err err = read_curves(answer, &curves);
    for (size_t f = 0; !err && f < EPSILON; f++) {
        if (curves.points[f]) {
            drawn[count++] = (struct model_curve){.name = figures[f].name,
                                                  .values = curves.values + f * curves.count};
        }
    }
    if (!err && count == 0) {
        err = proto_err_set(reterr, E_NOT_FOUND, "no figures of this job were released");
    }
    err = err ? err
              : model_curves_svg(title ? title : "job", "round", drawn, count, curves.count, &svg);
    err = err ? err : write_whole(path, buf_span(&svg), reterr);
    proto_free(curves.values);
    buf_fini(&svg);
    return err;
}

/* --- TensorBoard ------------------------------------------------------------------------------------------------------- */

enum err cli_history_tensorboard(const json_t *answer, const char *folder, struct err_info *reterr)
{
    char path[4096];
    char tag[64];
    struct curves curves;
    struct buf events = {.max = (size_t)64 << 20};
    double now = (double)time(NULL);
    enum err err = read_curves(answer, &curves);
    err = err ? err : model_events_begin(&events, now);
    for (size_t f = 0; !err && f < FIGURES; f++) {
        snprintf(tag, sizeof tag, "%s/%s", f == EPSILON ? "privacy" : "eval", figures[f].name);
        for (size_t i = 0; !err && i < curves.count; i++) {
            double value = curves.values[f * curves.count + i];
            if (isfinite(value)) {
                err = model_events_scalar(&events, now, i + 1, tag, value);
            }
        }
    }
    proto_free(curves.values);
    if (!err && mkdir(folder, 0755) != 0 && errno != EEXIST) {
        err = proto_err_set(reterr, E_IO, "%s: %s", folder, strerror(errno));
    }
    int used = snprintf(path, sizeof path, "%s/events.out.tfevents.%.0f.concordat", folder, now);
    if (!err) {
        err = used < (int)sizeof path ? write_whole(path, buf_span(&events), reterr)
                                      : proto_err_set(reterr, E_INVALID, "the path is too long");
    }
    buf_fini(&events);
    return err;
}
