/* Rows of PostgreSQL's COPY over arbitrary bytes. */
#include "config.h"
#include "node/source/copy_row.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t count = 1; count <= 4; count++) {
        struct store_field fields[4];
        size_t at = 0;
        char *row = malloc(size + 1); /* exactly: a byte more is a fault of the decoder */
        if (!row) {
            return 0;
        }
        memcpy(row, data, size);
        row[size] = '\0';
        const char *fault = source_copy_row(row, size, fields, count, &at);
        if (at >= count) {
            abort();
        }
        for (size_t i = 0; !fault && i < count; i++) {
            if (strlen(fields[i].text) != fields[i].len || (fields[i].null && fields[i].len) ||
                fields[i].text < row || fields[i].text + fields[i].len > row + size) {
                abort();
            }
        }
        free(row);
    }
    return 0;
}
