/* A planted bug, linked into an audit in place of the filter of rows (ld --wrap): every row of a patient counts. */
#include "node/query/bound.h"
#include "tests/audit/audit.h"

const char *const audit_planted = "no bound on contributions";

void __wrap_query_bound_filter(const struct query_bound *bound, const struct store_batch *batch,
                               uint64_t *keep);

void __wrap_query_bound_filter(const struct query_bound *bound, const struct store_batch *batch,
                               uint64_t *keep)
{
    (void)bound;
    (void)batch;
    (void)keep;
}
