/* Audits of what is promised: every mechanism and the way of a question from stored rows to what leaves, on neighbouring inputs that
 * were chosen to hurt, judged by their outputs (judge.h).
 *
 *     MINUTES=n      time for all of it (default: a tenth)
 *
 * The same cases are linked three times: as they are, with half of the noise, and with no bound on what a patient contributes
 * (halved.c, unbounded.c). In the latter two some promise must be seen broken.
 *
 * TAP. A promise that is kept is called broken with a probability below 1e-4 in all. */
#include "config.h"
#include "tests/audit/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The judge itself on a law that is known: a coin of 0.5 against one of 0.7 has epsilon ln(0.5/0.3). */
static bool judge_is_sound(void)
{
    struct judge judge;
    judge_init(&judge, 1);
    for (size_t i = 0; i < JUDGE_PILOT; i++) {
        for (int side = 0; side < 2; side++) {
            double x = (double)(i % 10 < (side ? 7u : 5u));
            judge_pilot(&judge, side, &x);
        }
    }
    judge_ready(&judge);
    for (size_t i = 0; i < 1000000; i++) {
        for (int side = 0; side < 2; side++) {
            double x = (double)(i % 10 < (side ? 7u : 5u));
            judge_add(&judge, side, &x);
        }
    }
    double bound = judge_bound(&judge, 0, 1e-6);
    judge_fini(&judge);
    bool sound = bound < log(0.5 / 0.3) && bound > log(0.5 / 0.3) - 0.02;
    sound = sound && fabs(judge_at_least(5, 10, 0.025) - 0.187086) < 1e-6;
    sound = sound && fabs(judge_at_most(5, 10, 0.025) - 0.812914) < 1e-6;
    printf("%s %zu - the judge bounds a known loss of %.4f by %.4f\n", sound ? "ok" : "not ok",
           audit_next(), log(0.5 / 0.3), bound);
    return sound;
}

int main(void)
{
    const char *minutes = getenv("MINUTES");
    double seconds = minutes && *minutes ? 60 * strtod(minutes, NULL) : 6;
    double runs = seconds >= 300 ? 1e7 : 4e5;
    bool sound = judge_is_sound();
    audit_time(seconds, AUDIT_MECHANISMS + AUDIT_PATHS + AUDIT_TRAININGS);
    size_t broken = audit_mechanisms(runs);
    broken += audit_paths(runs);
    broken += audit_trainings(runs);
    size_t number = audit_next();
    bool good = sound && (audit_planted ? broken > 0 : broken == 0);
    printf("%s %zu - %s%s\n1..%zu\n", good ? "ok" : "not ok", number,
           audit_planted ? "seen as broken: " : "no promise was broken",
           audit_planted ? audit_planted : "", number);
    return good ? 0 : 1;
}
