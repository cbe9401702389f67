/* What the two sides of a column chunk share: column.c reads, column_encode.c writes. Bytes: doc/format.md. */
#ifndef CONCORDAT_STORE_COLUMN_LAYOUT_H
#define CONCORDAT_STORE_COLUMN_LAYOUT_H

#include "store/column.h"

#define STORE_CHUNK_VERSION 3 /* 1 and 2 packed codes one after the other */
#define STORE_CHUNK_HEADER  24

enum {
    STORE_CHUNK_NULLS = 1 /* flag: a null bitmap follows the header */
};

/* 10^scale */
static const double store_powers[STORE_SCALE_MAX + 1] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};

static inline size_t store_words(size_t rows)
{
    return (rows + 63) / 64;
}

/* Bits that numbers from 0 to RANGE need. */
static inline unsigned store_bits_for(uint64_t range)
{
    return range ? 64 - (unsigned)__builtin_clzll(range) : 0;
}

#endif
