/* Write-behind: a thread of its own takes one full buffer while the caller fills the other, so that making bytes and sealing, hashing
 * and writing them cost the longer of both instead of the sum.
 *
 *     err = store_behind_new(size, put, user, &behind);
 *     while (...) { fill(store_behind_buffer(behind), size);  err = store_behind_push(behind, index, size, &info); }
 *     err = store_behind_end(behind, &info);
 *
 * Threads: one caller; PUT runs on the thread within, one call after the other, in the order of the pushes. */
#ifndef CONCORDAT_STORE_BEHIND_H
#define CONCORDAT_STORE_BEHIND_H

#include "proto/err.h"
#include "proto/span.h"

struct store_behind;
typedef enum err store_behind_put(void *user, uint64_t index, struct span bytes,
                                  struct err_info *reterr);
/* Two buffers of SIZE bytes. Errors: E_NO_MEMORY; E_BUSY no thread is to be had. */
MUST_CHECK enum err store_behind_new(size_t size, store_behind_put *put, void *user,
                                     struct store_behind **ret);
/* The one to fill now; another one after each push. */
uint8_t *store_behind_buffer(struct store_behind *behind);
/* Hands LEN bytes of the buffer over; waits while the other is still at work. Errors: what an earlier PUT met, after which none is
 * called any more. */
MUST_CHECK enum err store_behind_push(struct store_behind *behind, uint64_t index, size_t len,
                                      struct err_info *reterr);
/* Waits for what is under way, wipes and frees. NULL is allowed. Errors: what a PUT met. */
enum err store_behind_end(struct store_behind *behind, struct err_info *reterr);

#endif
