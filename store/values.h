/* The texts of a category column as codes, in the order in which they came or were declared.
 *
 *     err = store_values_open(&values, column);               the declared ones; a private column begins with none
 *     uint32_t slot = store_values_find(&values, text);
 *     if (!values.slots[slot]) { err = store_values_add(&values, text, slot); }
 *     code = values.slots[slot] - 1;
 *
 * Threads: one. Limits: STORE_VALUES_MAX texts, STORE_VALUES_BYTES of them. */
#ifndef CONCORDAT_STORE_VALUES_H
#define CONCORDAT_STORE_VALUES_H

#include "proto/schema.h"

#define STORE_VALUES_MAX   65536
#define STORE_VALUES_BYTES ((size_t)3 << 20)

/* Zero-initialised. Open addressing. */
struct store_values {
    const char **texts;
    uint32_t *lengths;
    uint32_t count;
    uint32_t cap;
    uint32_t *slots; /* code + 1; 0: free */
    uint32_t mask;
    size_t bytes;
    struct arena arena; /* of texts that were added */
    bool grows;         /* a private category: values come with the data */
};

MUST_CHECK enum err store_values_open(struct store_values *values,
                                      const struct proto_column *column);
/* The slot where TEXT stands, or the free one where it would. */
uint32_t store_values_find(const struct store_values *values, struct span text);
/* Into the free SLOT that store_values_find gave. Errors: E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err store_values_add(struct store_values *values, struct span text, uint32_t slot);
void store_values_close(struct store_values *values);

#endif
