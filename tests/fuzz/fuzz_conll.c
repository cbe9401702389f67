/* The CoNLL reader over arbitrary bytes. */
#include "config.h"
#include "store/reader_conll.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t words(const struct store_field *field)
{
    size_t count = field->len > 0;
    for (size_t i = 0; i < field->len; i++) {
        count += field->text[i] == ' ';
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"sex", "document", "note"};
    struct store_source *source = NULL;
    if (store_reader_conll_bytes(span_of(data, size), names, 3, &source, NULL)) {
        return 0;
    }
    struct store_row row;
    uint64_t line = 0;
    while (source->next(source, &row, NULL) == E_OK && !row.end) {
        if (row.line <= line || row.count != 5) {
            abort();
        }
        line = row.line;
        for (size_t i = 0; !row.fault && i < row.count; i++) {
            bool filled =
                i < 3 ? row.fields[i].len > 0 : !(row.fields[i].null && row.fields[i].len);
            if (strlen(row.fields[i].text) != row.fields[i].len || !filled) {
                abort();
            }
        }
        if (!row.fault && words(&row.fields[0]) != words(&row.fields[1])) {
            abort();
        }
    }
    source->free(source);
    return 0;
}
