/* The NDJSON reader over arbitrary bytes, after unpacking where they are gzip or zstd. */
#include "config.h"
#include "store/reader_ndjson.h"
#include "store/stream.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLAIN_MAX ((size_t)4 << 20)

static void read_rows(struct span bytes)
{
    static const char *const names[] = {"patient", "age", "value.reference", "list.0"};
    struct store_source *source = NULL;
    if (store_reader_ndjson_bytes(bytes, names, 4, &source, NULL)) {
        return;
    }
    struct store_row row;
    uint64_t line = 0;
    while (source->next(source, &row, NULL) == E_OK && !row.end) {
        if (row.line <= line || row.count != 4) {
            abort();
        }
        line = row.line;
        for (size_t i = 0; !row.fault && i < row.count; i++) {
            if (strlen(row.fields[i].text) != row.fields[i].len ||
                (row.fields[i].null && row.fields[i].len)) {
                abort();
            }
        }
    }
    source->free(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store_stream *stream = NULL;
    if (store_stream_bytes(span_of(data, size), &stream, NULL)) {
        return 0;
    }
    static uint8_t plain[PLAIN_MAX];
    size_t len = 0, got = 1;
    while (got && len < PLAIN_MAX &&
           store_stream_read(stream, plain + len, PLAIN_MAX - len, &got, NULL) == E_OK) {
        len += got;
    }
    store_stream_close(stream);
    read_rows(span_of(plain, len));
    return 0;
}
