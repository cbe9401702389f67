/* Base64 (RFC 4648): the usual alphabet with padding, and the one for URLs without. One text for each value: padding must be
 * as it is, left-over bits zero, and nothing else may stand in it. Threads: pure. */
#ifndef CONCORDAT_PROTO_BASE64_H
#define CONCORDAT_PROTO_BASE64_H

#include "proto/alloc.h"

enum proto_base64 {
    PROTO_BASE64,
    PROTO_BASE64_URL,
};

/* Appends the text. Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err proto_base64_encode(enum proto_base64 alphabet, struct span bytes,
                                        struct buf *out);
/* Appends the bytes. Errors: E_INVALID; E_LIMIT, E_NO_MEMORY. On failure OUT is unchanged. */
MUST_CHECK enum err proto_base64_decode(enum proto_base64 alphabet, struct span text,
                                        struct buf *out);

#endif
