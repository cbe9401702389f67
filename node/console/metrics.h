/* /metrics: OpenMetrics text for a monitoring system.
 *
 * Nothing in it depends on rows: it needs no token, so numbers of records, times of scans, processor time and memory are left out, as they
 * would tell what is stored. Rho that is left is public among members anyway. Threads: any. */
#ifndef CONCORDAT_NODE_CONSOLE_METRICS_H
#define CONCORDAT_NODE_CONSOLE_METRICS_H

#include "node/control/node.h"

#define CONSOLE_METRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Appends the whole document to OUT. Errors: E_LIMIT, E_NO_MEMORY; those of reading the ledger. */
MUST_CHECK enum err console_metrics(struct node *node, struct buf *out, struct err_info *reterr);

#endif
