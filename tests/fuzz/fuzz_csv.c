/* The CSV reader and the parsers of fields over arbitrary bytes. */
#include "config.h"
#include "store/parse.h"
#include "store/reader_csv.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const struct store_field *field)
{
    struct span text = span_of(field->text, field->len);
    double number = 0;
    uint32_t code = 0;
    if (strlen(field->text) != field->len) {
        abort(); /* a zero byte got through */
    }
    if (!store_parse_integer(text, &number) && number != rint(number)) {
        abort();
    }
    if (!store_parse_real(text, &number) && !isfinite(number)) {
        abort();
    }
    (void)store_parse_date(text, &number);
    if (!store_parse_boolean(text, &code) && code > 1) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store_source *source = NULL;
    if (store_reader_csv_bytes(span_of(data, size), ',', &source, NULL)) {
        return 0;
    }
    struct store_row row;
    uint64_t line = 1;
    while (source->next(source, &row, NULL) == E_OK && !row.end) {
        if (row.line < line || (!row.fault && row.count != source->header_count)) {
            abort();
        }
        line = row.line;
        for (size_t i = 0; !row.fault && i < row.count; i++) {
            parse(&row.fields[i]);
        }
    }
    source->free(source);
    return 0;
}
