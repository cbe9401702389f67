/* One case of the audit: a mechanism or a question on two neighbouring inputs, and the loss that it promises. */
#ifndef CONCORDAT_TESTS_AUDIT_AUDIT_H
#define CONCORDAT_TESTS_AUDIT_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/audit/judge.h"

/* A run's promise: rho-zCDP but for delta0; in place of it pure epsilon, or steps of DP-SGD. */
struct audit_promise {
    double rho;
    double delta0;
    double pure;        /* not 0: epsilon at delta 0 */
    double rate, sigma; /* with steps: of each of them */
    uint64_t steps;
};

/* Fills RUNS x dims outputs of input SIDE. */
typedef void audit_run(void *user, int side, double *to, size_t runs);

struct audit_case {
    const char *name;
    struct audit_promise promise;
    size_t dims;
    size_t batch; /* runs that one call makes */
    audit_run *run;
    void *user;
    size_t pilots; /* runs of each side that only find what to look at; at most JUDGE_PILOT */
    double least;  /* runs of each side, whatever time they take */
    double most;   /* that are worth it */
};

/* What is wrong with this program on purpose; NULL: nothing. */
extern const char *const audit_planted;

/* Each wrong verdict has at most this probability; a case is judged at several deltas. */
#define AUDIT_ERROR 1e-7

/* SECONDS from now on are for CASES cases; each takes at most an equal part of what is left. */
void audit_time(double seconds, size_t cases);
/* Runs the case and prints a line. True: no lower bound lies above the promise. */
bool audit_judge(const struct audit_case *audited);

/* Run all cases of the kind; return how many broke their promise. */
#define AUDIT_MECHANISMS 10
#define AUDIT_PATHS      8
#define AUDIT_TRAININGS  2
size_t audit_mechanisms(double runs);
size_t audit_paths(double runs);
size_t audit_trainings(double runs);
/* The number of the next line of TAP. */
size_t audit_next(void);

#endif
