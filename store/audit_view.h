/* A report on an audit chain as JSON, the same from the command, which needs no daemon, and from the daemon. Threads: any. */
#ifndef CONCORDAT_STORE_AUDIT_VIEW_H
#define CONCORDAT_STORE_AUDIT_VIEW_H

#include <jansson.h>

#include "store/audit.h"

/* {"entries","ok","head","witnessed_by","first_bad","node_id","federation_id","fingerprint","reason"}; NULL: no memory. */
json_t *store_audit_view(const struct store_audit_report *report);

#endif
