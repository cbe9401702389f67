/* How long the accountants take on one core: best of several runs, in milliseconds, and what they find.
 *
 *     bench_accountant          -> lines "NAME MS EPSILON" */
#include "proto/pld.h"
#include "proto/privacy.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define RATE  0.01
#define SIGMA 1.1
#define STEPS 10000
#define DELTA 1e-5
#define RUNS  5

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

int main(void)
{
    double best[2] = {INFINITY, INFINITY};
    double epsilon[2] = {0, 0};
    for (int run = 0; run < RUNS; run++) {
        double start = now_ms();
        if (proto_pld_sgd_epsilon(RATE, SIGMA, STEPS, DELTA, &epsilon[0])) {
            return 1;
        }
        double middle = now_ms();
        epsilon[1] = proto_privacy_sgd_epsilon(RATE, SIGMA, STEPS, 0, DELTA);
        best[0] = fmin(best[0], middle - start);
        best[1] = fmin(best[1], now_ms() - middle);
    }
    printf("pld %.2f %.6f\nrdp %.2f %.6f\n", best[0], epsilon[0], best[1], epsilon[1]);
    return 0;
}
