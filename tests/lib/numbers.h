/* Reads the numeric CSV vectors of tests/vectors: '#' comments, one line of column names, then numbers.
 *
 *     struct numbers t;
 *     numbers_open(&t, "privacy", "02_zcdp_to_eps.csv");     // fails the test when it is missing
 *     while (numbers_next(&t)) { double rho = numbers_get(&t, "rho"); ... }
 *     numbers_enough(&t, 40);
 *
 * The folder is $VECTORS, else $top_srcdir/tests/vectors. For tests with cmocka only; include <cmocka.h> before. */
#ifndef CONCORDAT_TESTS_LIB_NUMBERS_H
#define CONCORDAT_TESTS_LIB_NUMBERS_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERS_COLUMNS 16

/* cmocka's own assert_float_equal compares floats. */
static inline void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%.17g is not within %g of %.17g", got, tolerance, want);
    }
}

struct numbers {
    FILE *file;
    char head[1024], line[1024];
    char *names[NUMBERS_COLUMNS], *values[NUMBERS_COLUMNS];
    size_t columns, rows;
};

static inline size_t numbers_split(char *line, char **to)
{
    size_t n = 0;
    line[strcspn(line, "\r\n")] = 0;
    for (char *at = line; at && n < NUMBERS_COLUMNS; n++) {
        to[n] = at;
        at = strchr(at, ',');
        if (at) {
            *at++ = 0;
        }
    }
    return n;
}

static inline bool numbers_line(struct numbers *t, char *to)
{
    do {
        if (!fgets(to, sizeof t->line, t->file)) {
            return false;
        }
    } while (to[0] == '#' || to[0] == '\n');
    return true;
}

static inline void numbers_open(struct numbers *t, const char *folder, const char *name)
{
    char path[1024];
    const char *vectors = getenv("VECTORS");
    const char *source = getenv("top_srcdir");
    memset(t, 0, sizeof *t);
    if (vectors) {
        (void)snprintf(path, sizeof path, "%s/%s/%s", vectors, folder, name);
    } else {
        (void)snprintf(path, sizeof path, "%s/tests/vectors/%s/%s", source ? source : ".", folder,
                       name);
    }
    t->file = fopen(path, "r");
    if (!t->file) {
        fail_msg("%s cannot be opened", path);
    }
    assert_true(numbers_line(t, t->head));
    t->columns = numbers_split(t->head, t->names);
}

static inline bool numbers_next(struct numbers *t)
{
    if (!numbers_line(t, t->line)) {
        return false;
    }
    assert_int_equal(numbers_split(t->line, t->values), t->columns);
    t->rows++;
    return true;
}

static inline double numbers_get(const struct numbers *t, const char *name)
{
    for (size_t i = 0; i < t->columns; i++) {
        if (strcmp(t->names[i], name) == 0) {
            return strtod(t->values[i], NULL);
        }
    }
    fail_msg("there is no column %s", name);
    return NAN;
}

static inline void numbers_close(struct numbers *t)
{
    (void)fclose(t->file);
}

/* Ends reading: our own file has at least ROWS rows; another folder's, of the same format, at least one. */
static inline void numbers_enough(struct numbers *t, size_t rows)
{
    size_t least = getenv("VECTORS") ? 1 : rows;
    if (t->rows < least) {
        fail_msg("only %zu rows, at least %zu wanted", t->rows, least);
    }
    numbers_close(t);
}

#endif
