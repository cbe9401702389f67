#include "config.h"
#include "node/query/wanted.h"

#include "node/query/price.h"

#include <math.h>

#define EPSILON_U_MAX UINT64_C(1000000000000) /* what a request can say */

struct search {
    const struct proto_query *query;
    struct query_layout *layout;
    const struct query_wanted *wanted;
    double rows;
    size_t sites;
    uint64_t delta_e12;
};

/* The worst number's expected error at this price, in the terms that were asked for; INFINITY where one has no margin. */
static enum err error_at(const struct search *search, uint64_t epsilon_u, double *ret,
                         const char **ret_column)
{
    struct arena arena = {0};
    struct query_expected *list = NULL;
    size_t count = 0;
    uint64_t nano = query_price(epsilon_u, search->delta_e12, search->layout->thresholds).nano;
    enum err err = query_layout_noise(search->layout, nano, NULL);
    *ret = err ? INFINITY : 0;
    if (!err) {
        err = query_table_expected(search->query, search->layout, search->rows, search->sites,
                                   &arena, &list, &count);
    }
    for (size_t i = 0; i < count && !err; i++) {
        double error = list[i].margin / (search->wanted->relative ? list[i].scale : 1);
        error = isfinite(error) ? error : INFINITY;
        if (error > *ret) {
            *ret = error;
            *ret_column = list[i].column;
        }
    }
    arena_fini(&arena);
    return err == E_LIMIT ? E_OK : err; /* too little for any noise that can be drawn */
}

static enum err too_dear(const struct search *search, uint64_t needed_u, uint64_t most_u,
                         const char *column, struct err_info *reterr)
{
    double at_most;
    const char *same = column;
    bool relative = search->wanted->relative;
    enum err err = error_at(search, most_u, &at_most, &same);
    if (err) {
        return err;
    }
    double shown = relative ? 100 * at_most : at_most;
    double step = pow(10, floor(log10(shown)) - 2); /* three digits, upwards */
    return proto_err_set(reterr, E_REFUSED,
                         "an error of %.4g%s needs epsilon %.4g at each site, more than the %.4g "
                         "that a question may "
                         "cost there; that buys --error %.4g%s (%s decides)",
                         relative ? 100 * search->wanted->error : search->wanted->error,
                         relative ? "%" : "", (double)needed_u / 1e6, (double)most_u / 1e6,
                         ceil(shown / step) * step, relative ? "%" : "",
                         column ? column : "the answer");
}

enum err query_wanted_epsilon(const struct proto_query *query, struct query_layout *layout,
                              const struct query_wanted *wanted, double size, size_t sites,
                              uint64_t delta_e12, uint64_t most_u, uint64_t *ret_epsilon_u,
                              struct err_info *reterr)
{
    const struct search search = {
        .query = query,
        .layout = layout,
        .wanted = wanted,
        .rows = wanted->rows > 0 ? wanted->rows * (double)query->cells : size,
        .sites = sites,
        .delta_e12 = delta_e12,
    };
    const char *column = NULL;
    double error;
    uint64_t low = 0; /* not enough, and HIGH is */
    uint64_t high = EPSILON_U_MAX;
    enum err err = error_at(&search, high, &error, &column);
    if (err || error > wanted->error) {
        return err ? err
                   : proto_err_set(reterr, E_LIMIT,
                                   "no epsilon brings the margin of %s down to that; it stays at "
                                   "%.4g",
                                   column ? column : "the answer", error);
    }
    while (high - low > 1) {
        /* By the digits first, then by ones. */
        uint64_t middle = high / 2 > low ? (uint64_t)sqrt((double)high * (double)(low ? low : 1))
                                         : low + (high - low) / 2;
        middle = middle > low && middle < high ? middle : low + (high - low) / 2;
        const char *worst = column;
        err = error_at(&search, middle, &error, &worst);
        if (err) {
            return err;
        }
        if (error <= wanted->error) {
            high = middle;
        } else {
            low = middle;
            column = worst;
        }
    }
    *ret_epsilon_u = high;
    return high > most_u ? too_dear(&search, high, most_u, column, reterr) : E_OK;
}
