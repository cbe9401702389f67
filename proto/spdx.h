/* SPDX licence expressions: the grammar of SPDX 2.3, annex D, against the list of ids that is shipped.
 *
 *     struct proto_spdx_expression e;
 *     err = proto_spdx_parse(span_str("CC-BY-4.0 AND (ODbL-1.0 OR MIT)"), &e, reterr);
 *     // e.nodes in postfix order: CC-BY-4.0, ODbL-1.0, MIT, OR, AND
 *
 * Precedence, tightest first: '+', WITH, AND, OR; AND and OR group to the left. Ids are compared with their case, which
 * is stricter than the annex asks, so that one licence has one spelling in signed records; an error names the right
 * one. Operators in lower case are taken, and noted. NONE and NOASSERTION stand alone.
 * Threads: pure. Limits: PROTO_SPDX_*. Source of the list: spdx_ids.h. */
#ifndef CONCORDAT_PROTO_SPDX_H
#define CONCORDAT_PROTO_SPDX_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

#define PROTO_SPDX_MAX   256 /* bytes */
#define PROTO_SPDX_DEPTH 16  /* open parentheses */
#define PROTO_SPDX_NODES 128 /* ids and operators */

enum proto_spdx_kind {
    PROTO_SPDX_ID,        /* on the list */
    PROTO_SPDX_REFERENCE, /* [DocumentRef-…:]LicenseRef-… */
    PROTO_SPDX_AND,
    PROTO_SPDX_OR,
    PROTO_SPDX_NONE, /* NONE or NOASSERTION */
};

struct proto_spdx_node {
    enum proto_spdx_kind kind;
    struct span id;        /* of operands; borrowed from the text */
    bool or_later;         /* '+' */
    bool deprecated;       /* the list says so */
    struct span exception; /* after WITH; none when absent */
};

struct proto_spdx_expression {
    struct proto_spdx_node nodes[PROTO_SPDX_NODES]; /* postfix */
    size_t count;
    bool lower_case; /* an operator was not in capitals */
};

/* Errors: E_INVALID, the text says the column, what stands there and the nearest id; E_LIMIT. */
MUST_CHECK enum err proto_spdx_parse(struct span text, struct proto_spdx_expression *ret,
                                     struct err_info *reterr);
/* The expression with no parentheses but those that it needs, operators in capitals. Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err proto_spdx_print(const struct proto_spdx_expression *expression,
                                     struct buf *out);

/* On the list of ids, or of exceptions. */
bool proto_spdx_id_known(struct span id, bool *ret_deprecated);
bool proto_spdx_exception_known(struct span id, bool *ret_deprecated);
/* The id that a mistyped one most probably meant; none when there is none. */
struct span proto_spdx_id_nearest(struct span id);
struct span proto_spdx_exception_nearest(struct span id);
/* "spdx-license-ids 3.0.24, spdx-exceptions 2.5.0" */
const char *proto_spdx_source(void);
/* The list itself, for tests and help; NULL past its end. */
const char *proto_spdx_id_at(size_t index);
const char *proto_spdx_exception_at(size_t index);

#endif
