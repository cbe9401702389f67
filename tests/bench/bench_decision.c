/* Decisions a second on one core: random licences and requests, decoded and with the hierarchy's closure made before;
 * every decision fills all its clauses.
 *
 *     bench_decision [HIERARCHY]    -> "decision PER_SECOND NS CLAUSES PERMITTED", HIERARCHY: an OBO or TSV file */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/lib/fake_hash.h"
#include "tests/lib/terms.h"

#define PAIRS 512
#define RUNS  7

static double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static enum err load(const char *path, struct proto_ontology *ret)
{
    FILE *file = path ? fopen(path, "rb") : NULL;
    struct buf bytes = {.max = PROTO_ONTOLOGY_FILE_MAX};
    enum err err = path && !file ? E_IO : E_OK;
    for (size_t n = 1; !err && file && n;) {
        err = buf_reserve(&bytes, 65536);
        n = err ? 0 : fread(bytes.ptr + bytes.len, 1, 65536, file);
        bytes.len += n;
    }
    err = err ? err
              : proto_ontology_parse(file ? buf_span(&bytes) : proto_ontology_shipped(), &fake_hash,
                                     ret, NULL);
    if (file) {
        fclose(file);
    }
    buf_fini(&bytes);
    return err;
}

int main(int argc, char **argv)
{
    struct proto_ontology ontology;
    struct terms *pairs[PAIRS];
    static struct proto_decision decision;
    struct seed seed = seed_of(1);
    double best = INFINITY;
    size_t clauses = 0, permitted = 0, rounds = 400;
    if (load(argc > 1 ? argv[1] : NULL, &ontology)) {
        return 1;
    }
    for (size_t i = 0; i < PAIRS; i++) {
        pairs[i] = terms_new();
        terms_random(pairs[i], &seed);
    }
    for (int run = 0; run < RUNS; run++) {
        double start = now_s();
        clauses = permitted = 0;
        for (size_t round = 0; round < rounds; round++) {
            for (size_t i = 0; i < PAIRS; i++) {
                const struct terms *t = pairs[i];
                proto_policy_decide(&t->request, &t->record, &t->licence, t->forked, &ontology,
                                    &decision);
                clauses += decision.clause_count;
                permitted += decision.verdict == PROTO_PERMIT;
            }
        }
        best = fmin(best, now_s() - start);
    }
    double count = (double)(rounds * PAIRS);
    printf("decision %.0f %.1f %.1f %.3f\n", count / best, best / count * 1e9,
           (double)clauses / count, (double)permitted / count);
    for (size_t i = 0; i < PAIRS; i++) {
        terms_free(pairs[i]);
    }
    proto_ontology_fini(&ontology);
    return 0;
}
