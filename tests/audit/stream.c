/* Judges outputs that another program collected: lines "SIDE NUMBER ..." on standard input, as many numbers each as DIMS.
 *
 *     audit_stream NAME DIMS RHO DELTA0 < lines
 *
 * One line of TAP; exit 1 when the promise is broken. */
#include "config.h"
#include "tests/audit/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PILOTS 100

const char *const audit_planted = NULL;

struct lines {
    size_t dims;
    double *items[2];
    size_t count[2], cap[2], at[2];
};

static void next_line(void *user, int side, double *to, size_t runs)
{
    struct lines *lines = user;
    (void)runs;
    memcpy(to, lines->items[side] + lines->at[side]++ * lines->dims, lines->dims * sizeof *to);
}

static void keep(struct lines *lines, int side, const double *outputs)
{
    if (lines->count[side] == lines->cap[side]) {
        lines->cap[side] = lines->cap[side] ? 2 * lines->cap[side] : 1024;
        lines->items[side] = realloc(lines->items[side],
                                     lines->cap[side] * lines->dims * sizeof *lines->items[side]);
        if (!lines->items[side]) {
            abort();
        }
    }
    memcpy(lines->items[side] + lines->count[side]++ * lines->dims, outputs,
           lines->dims * sizeof *outputs);
}

/* False: something else than lines of numbers, which must not pass for the end. */
static bool read_lines(struct lines *lines)
{
    int side;
    int got;
    while ((got = scanf("%d", &side)) == 1 && (side == 0 || side == 1)) {
        double outputs[JUDGE_DIMS];
        for (size_t i = 0; i < lines->dims; i++) {
            if (scanf("%lf", &outputs[i]) != 1) {
                return false;
            }
        }
        keep(lines, side, outputs);
    }
    return got == EOF;
}

int main(int argc, char **argv)
{
    struct lines lines = {.dims = argc == 5 ? strtoul(argv[2], NULL, 10) : 0};
    if (lines.dims == 0 || lines.dims > JUDGE_DIMS) {
        fprintf(stderr, "usage: audit_stream NAME DIMS RHO DELTA0 < lines\n");
        return 2;
    }
    if (!read_lines(&lines)) {
        printf("not ok 1 - %s: a line that is not of %zu numbers\n", argv[1], lines.dims + 1);
        return 1;
    }
    size_t least = lines.count[0] < lines.count[1] ? lines.count[0] : lines.count[1];
    if (least <= 2 * PILOTS) {
        printf("not ok 1 - %s: only %zu runs\n", argv[1], least);
        return 1;
    }
    const struct audit_case audited = {
        .name = argv[1],
        .promise = {.rho = strtod(argv[3], NULL), .delta0 = strtod(argv[4], NULL)},
        .dims = lines.dims,
        .batch = 1,
        .run = next_line,
        .user = &lines,
        .pilots = PILOTS,
        .least = (double)(least - PILOTS),
        .most = (double)(least - PILOTS),
    };
    bool kept = audit_judge(&audited);
    free(lines.items[0]);
    free(lines.items[1]);
    return !kept;
}
