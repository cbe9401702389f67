/* SPDX expressions: any bytes. What parses prints as something that means the same; what does not says where. */
#include "config.h"

#include <stdlib.h>

#include "proto/spdx_terms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_terms(struct span text, enum proto_reading reading)
{
    struct proto_spdx_terms terms;
    const struct proto_spdx_leaf *why;
    char clash[PROTO_SPDX_CLASH_SIZE];
    if (proto_spdx_terms_of(text, reading, &terms, NULL)) {
        return;
    }
    bool closed = terms.outbound == 0 || terms.share != PROTO_SPDX_YES || terms.overflow;
    if (terms.leaf_count == 0 || closed != (terms.release == PROTO_RELEASE_FEDERATION) ||
        (terms.outbound == 0) != (proto_spdx_clash(&terms, clash)[0] != 0)) {
        abort();
    }
    (void)proto_spdx_release_under(&terms, span_str("CC-BY-SA-4.0"), reading, &why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proto_spdx_expression e, again;
    struct err_info info = {0};
    struct buf out = {.max = 4096}, second = {.max = 4096};
    struct span text = span_of(data, size);
    if (proto_spdx_parse(text, &e, &info)) {
        if (!info.text[0]) {
            abort();
        }
        return 0;
    }
    /* Printed, it may need a byte or two more than it was given with, never so many that it does not parse again. */
    if (proto_spdx_print(&e, &out) ||
        (out.len <= PROTO_SPDX_MAX &&
         (proto_spdx_parse(buf_span(&out), &again, NULL) || again.count != e.count ||
          proto_spdx_print(&again, &second) || !span_equal(buf_span(&out), buf_span(&second))))) {
        abort();
    }
    check_terms(text, PROTO_READING_CONSERVATIVE);
    check_terms(text, PROTO_READING_TEXT);
    buf_fini(&out);
    buf_fini(&second);
    return 0;
}
