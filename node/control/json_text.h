/* JSON documents as text, as json_dumps writes them with CONTROL_JSON_FORMAT, but for its search for loops: with a formatted
 * address and a table's entry for each object it costs more than the rest, and what handlers return are trees.
 * Threads: any. */
#ifndef CONCORDAT_NODE_CONTROL_JSON_TEXT_H
#define CONCORDAT_NODE_CONTROL_JSON_TEXT_H

#include <jansson.h>

/* Reals as people wrote them: 15 digits are exact for every sum of nano-units that we print. */
#define CONTROL_JSON_FORMAT (JSON_COMPACT | JSON_REAL_PRECISION(15) | JSON_ENCODE_ANY)

/* For free(). NULL: no memory, or DOCUMENT is NULL. DOCUMENT must not hold itself. */
char *control_json_text(const json_t *document);

#endif
