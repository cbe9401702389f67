/* The encodings of one column's chunk: up to STORE_CHUNK_ROWS values as bytes and back. Pure: no file, no key.
 *
 *     struct store_column_input input = {.form = STORE_FORM_NUMBER, .rows = n, .numbers = values, .null = bitmap};
 *     err = store_column_encode(&input, &bytes, &zone);
 *     err = store_column_decode(span, STORE_FORM_NUMBER, n, &chunk);     // the next call reuses chunk's memory
 *     x = store_column_number(&chunk, row);
 *
 * Encodings:
 *     constant  base alone
 *     packed    value = (base + code) / 10^scale, codes of 0 to 32 bits (store/pack.h)
 *     raw       IEEE 754 doubles
 *     text      how many rows each segment holds; a segment is zstd of lengths and bytes, and sealed by itself
 *     runs      packed codes, each with the last row that it stands in
 *     indexes   packed places in a sorted list of packed codes
 *     raw list  packed places in a sorted list of doubles
 * Of those that fit, the smallest is taken; runs and lists must save an eighth, as they cost a little more to read.
 * Integers, dates and decimals share packed: a real becomes a scaled integer when every value of the chunk survives the
 * way there and back exactly (the idea of ALP, Afroozeh and Boncz 2023). A missing value is a set bit in the null
 * bitmap and a 0 code.
 * Threads: any; a store_chunk belongs to one. Bytes: doc/format.md. */
#ifndef CONCORDAT_STORE_COLUMN_H
#define CONCORDAT_STORE_COLUMN_H

#include "proto/alloc.h"
#include "proto/err.h"
#include "proto/span.h"

#define STORE_CHUNK_ROWS   65536
#define STORE_CHUNK_WORDS  (STORE_CHUNK_ROWS / 64)
#define STORE_SEGMENT_TEXT ((size_t)256 << 10) /* text after which a segment ends */
#define STORE_SEGMENT_TEXT_MAX                                                                     \
    ((size_t)16 << 20) /* unpacked text of one: a single row may be long */
#define STORE_CHUNK_BYTES_MAX                                                                      \
    (((size_t)4 << 20) - 8192) /* encoded: room for padding below the sealer's limit */
#define STORE_SCALE_MAX 6
#define STORE_LIST_MAX  4096 /* values in the list of one chunk */

enum store_form {
    STORE_FORM_NUMBER, /* integer, real, date */
    STORE_FORM_CODE,   /* category, boolean, privacy unit, pseudonym */
    STORE_FORM_TEXT,
    STORE_FORM_COUNT
};

enum store_encoding {
    STORE_ENCODING_CONSTANT,
    STORE_ENCODING_PACKED,
    STORE_ENCODING_RAW,
    STORE_ENCODING_TEXT,
    STORE_ENCODING_RUNS,
    STORE_ENCODING_INDEXES,
    STORE_ENCODING_RAW_LIST,
    STORE_ENCODING_COUNT
};

struct store_column_input {
    enum store_form form;
    size_t rows;
    const double *numbers;    /* NUMBER; finite */
    const uint32_t *codes;    /* CODE */
    const uint32_t *segments; /* TEXT: rows of each */
    size_t segment_count;
    const uint64_t *null; /* bitmap, NULL: no missing value */
};

/* What is known of a chunk without reading it. Of codes: min and max are codes; of text and
 * all-missing chunks 0. */
struct store_zone {
    uint32_t rows;
    uint32_t nulls;
    double min;
    double max;
    double sum;
    uint8_t encoding;
    uint8_t bits; /* cost of a row: 0 constant, 64 raw */
};

struct store_chunk_rooms;

struct store_chunk {
    enum store_form form;
    enum store_encoding encoding;
    size_t rows;
    size_t nulls;
    unsigned bits;
    const uint64_t *null;     /* NULL: none */
    const uint32_t *code;     /* NULL of raw and text, and of what is still packed */
    int64_t base;             /* 0 of FORM_CODE: its codes are whole */
    double divisor;           /* 10^scale */
    const double *number;     /* raw and raw list only */
    const uint32_t *segments; /* text only: rows of each */
    size_t segment_count;
    /* Codes before they are unpacked: places in LIST, or, without one, to be raised by packed_add. */
    const uint8_t *packed; /* in the bytes that were opened */
    unsigned packed_bits;
    uint32_t packed_add;
    const uint32_t *list; /* ascending */
    uint32_t list_count;
    struct store_chunk_rooms *rooms; /* owned; wiped and freed by store_chunk_fini */
};

/* Some of a chunk's texts. */
struct store_segment {
    size_t rows;
    const char *text;                  /* all of them */
    const uint32_t *text_start;        /* rows + 1 offsets */
    struct store_segment_rooms *rooms; /* owned; wiped and freed by store_segment_fini */
};

/* Appends ROWS texts to OUT. Errors: E_LIMIT too much text; E_NO_MEMORY. */
MUST_CHECK enum err store_segment_encode(const char *text, const uint32_t *text_start, size_t rows,
                                         struct buf *out);
/* SEGMENT is zero at first and reused then. Errors: E_CORRUPT the bytes are not a segment of ROWS texts; E_NO_MEMORY. */
MUST_CHECK enum err store_segment_decode(struct span bytes, size_t rows,
                                         struct store_segment *segment);
void store_segment_fini(struct store_segment *segment);

/* Appends to OUT. Errors: E_LIMIT rows; E_NO_MEMORY. */
MUST_CHECK enum err store_column_encode(const struct store_column_input *input, struct buf *out,
                                        struct store_zone *ret);
/* BYTES may end with padding, and are borrowed until the next call: codes stay packed in them. CHUNK is zero at first and
 * reused then; what it shows is valid until the next call.
 * Codes and numbers have rows rounded up to 64 elements, aligned to 64 bytes, zeros behind the last row.
 * Errors: E_CORRUPT the bytes are not a chunk of that form and number of rows; E_UNSUPPORTED a chunk of another version;
 * E_NO_MEMORY. */
MUST_CHECK enum err store_column_open(struct span bytes, enum store_form form, size_t rows,
                                      struct store_chunk *chunk);
/* Fills chunk->code, if it is a chunk of codes. Errors: E_NO_MEMORY. */
MUST_CHECK enum err store_chunk_unpack(struct store_chunk *chunk);
/* Both. */
MUST_CHECK enum err store_column_decode(struct span bytes, enum store_form form, size_t rows,
                                        struct store_chunk *chunk);
/* Of a chunk of codes, packed or not: bit r of OUT says that FIRST <= code <= LAST in row r, whether it is missing or not.
 * OUT has whole words; bits behind the last row mean nothing. */
void store_chunk_range(const struct store_chunk *chunk, uint32_t first, uint32_t last,
                       uint64_t *out);
/* The value at ROW, also of a code; meaningless where it is missing. */
double store_column_number(const struct store_chunk *chunk, size_t row);
void store_chunk_fini(struct store_chunk *chunk);

#endif
