/* Codes of 0 to 32 bits as bytes and back, and ranges of codes found without writing them out. Pure.
 *
 * 1,024 codes make a block of `bits` x 32 little-endian words: code i has lane i % 32 and stands in the bits from
 * i / 32 * bits of its lane; word w of lane l is word w * 32 + l of the block. So each machine instruction works on neighbours,
 * all with the same shift, and codes come out in their order (the layout of FastLanes, Afroozeh and Boncz 2023, with
 * lanes in order). Codes behind the last whole block follow each other bit by bit, least significant first, and 8 zeros end
 * it all.
 * Threads: any. Bytes: doc/format.md. */
#ifndef CONCORDAT_STORE_PACK_H
#define CONCORDAT_STORE_PACK_H

#include <stddef.h>
#include <stdint.h>

#define STORE_PACK_BLOCK 1024
#define STORE_PACK_BITS  32

/* Bytes that hold COUNT codes of BITS (0 to 32) bits. */
size_t store_pack_size(size_t count, unsigned bits);
/* TO has store_pack_size bytes; each code is below 2^BITS. */
void store_pack(const uint32_t *codes, size_t count, unsigned bits, uint8_t *to);
/* FROM has store_pack_size bytes; ADD is added to each code. */
void store_unpack(const uint8_t *from, size_t count, unsigned bits, uint32_t add, uint32_t *to);
/* Bit i of OUT: FIRST <= code i <= FIRST + WIDTH, where this does not wrap round. OUT is whole words; bits behind the last code are 0. */
void store_unpack_range(const uint8_t *from, size_t count, unsigned bits, uint32_t first,
                        uint32_t width, uint64_t *out);
/* The same of codes that stand there already, COUNT rounded up to 64 of them: bits behind COUNT are not cleared. */
void store_codes_range(const uint32_t *codes, size_t count, uint32_t first, uint32_t width,
                       uint64_t *out);
/* How many bits of WORDS words are set. */
size_t store_count_bits(const uint64_t *bits, size_t words);

#endif
