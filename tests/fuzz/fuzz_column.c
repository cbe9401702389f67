/* Chunks after decryption: byte 0 the form, bytes 1 and 2 the number of rows, then the chunk. What decodes is encoded again and
 * must show the same values. */
#include "config.h"
#include "store/column.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const struct store_chunk *a, const struct store_chunk *b)
{
    for (size_t i = 0; i < a->rows; i++) {
        bool missing = a->null && (a->null[i / 64] >> (i % 64) & 1);
        if (!missing && store_column_number(a, i) != store_column_number(b, i)) {
            abort();
        }
    }
}

/* Encodes what CHUNK shows, through plain arrays. */
static void round_trip(const struct store_chunk *chunk)
{
    double *numbers = calloc(chunk->rows, sizeof *numbers);
    struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
    struct store_chunk again = {0};
    struct store_zone zone;
    if (!numbers) {
        abort();
    }
    for (size_t i = 0; i < chunk->rows; i++) {
        numbers[i] = store_column_number(chunk, i);
    }
    struct store_column_input input = {
        .form = STORE_FORM_NUMBER, .rows = chunk->rows, .numbers = numbers, .null = chunk->null};
    if (store_column_encode(&input, &out, &zone) ||
        store_column_decode(buf_span(&out), STORE_FORM_NUMBER, chunk->rows, &again)) {
        abort();
    }
    compare(chunk, &again);
    store_chunk_fini(&again);
    buf_fini(&out);
    free(numbers);
}

/* A range that is found in packed codes is what a look at each code finds. */
static void check_range(struct span bytes, enum store_form form, struct store_chunk *chunk)
{
    static uint64_t bits[STORE_CHUNK_WORDS];
    size_t rows = chunk->rows;
    if (!chunk->code) {
        return;
    }
    uint32_t a = chunk->code[0];
    uint32_t b = chunk->code[rows / 2];
    uint32_t first = a < b ? a : b;
    uint32_t last = a < b ? b : a;
    if (store_column_open(bytes, form, rows, chunk)) {
        abort();
    }
    store_chunk_range(chunk, first, last, bits);
    if (store_chunk_unpack(chunk)) {
        abort();
    }
    for (size_t i = 0; i < rows; i++) {
        bool inside = chunk->code[i] >= first && chunk->code[i] <= last;
        if ((bits[i / 64] >> (i % 64) & 1) != inside) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct store_chunk chunk;
    if (size < 3) {
        return 0;
    }
    enum store_form form = data[0] % STORE_FORM_COUNT;
    size_t rows = get_be16(data + 1);
    if (form == STORE_FORM_TEXT) { /* a segment of a text column, too */
        static struct store_segment segment;
        struct buf out = {.max = STORE_CHUNK_BYTES_MAX};
        if (store_segment_decode(span_of(data + 3, size - 3), rows, &segment) == E_OK &&
            store_segment_encode(segment.text, segment.text_start, segment.rows, &out)) {
            abort();
        }
        buf_fini(&out);
    }
    if (store_column_decode(span_of(data + 3, size - 3), form, rows, &chunk) == E_OK &&
        form != STORE_FORM_TEXT) {
        check_range(span_of(data + 3, size - 3), form, &chunk);
        round_trip(&chunk);
    }
    return 0;
}
