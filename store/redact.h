/* Replaces what identifies people in free text: patterns, and the names that stand in the same row's own fields. It finds
 * what it knows and claims no more: free text stays free text, and an import says so ("no" to Safe Harbor). Pure.
 *
 *     struct span names[] = {span_str("Erika Mustermann")};
 *     err = store_redact(span_str("Mrs Mustermann, tel. +49 30 1234567"), names, 1, &out, &count);
 *     // out: "Mrs [NAME], tel. [PHONE]", count: 2
 *
 * Known: URL, EMAIL, IP (4 and 6), SSN, DATE (2024-03-01, 2024/03/01, 3/1/2024, 1.3.2024, 1 March 2024, March 1, 2024; English
 * month names), CARD (Luhn's sum), PHONE and FAX, MRN behind such a label, ZIP (ZIP+4, or behind ZIP or a two-letter state),
 * VIN, AGE of 90 and more, NUMBER of eight digits and more, NAME: each word of three letters and more of NAMES. The list is
 * that of 45 CFR 164.514(b)(2)(i) as far as patterns can follow it.
 * Threads: any. Limits: the text's; it grows at most fourfold. */
#ifndef CONCORDAT_STORE_REDACT_H
#define CONCORDAT_STORE_REDACT_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

/* Appends to OUT; adds the number of replacements to *INOUT_COUNT. Errors: E_LIMIT, E_NO_MEMORY of OUT. */
MUST_CHECK enum err store_redact(struct span text, const struct span *names, size_t name_count,
                                 struct buf *out, uint64_t *inout_count);

#endif
