/* Durable state of jobs, sealed and opaque, and the marks by which a site answers a round once.
 *
 *     store_job_put(store, job_id, state_bytes, &info);
 *     err = store_job_once(store, job_id, round, plan_hash, update, &stored, &info);
 *     E_OK: first time, on disk, send UPDATE; E_EXISTS: send STORED, the bits of the first time
 *
 * Threads: any. Limits: STORE_JOB_MAX bytes each. */
#ifndef CONCORDAT_STORE_JOB_H
#define CONCORDAT_STORE_JOB_H

#include "store/store.h"

#define STORE_JOB_MAX ((size_t)256 << 20)

MUST_CHECK enum err store_job_put(struct store *store, const uint8_t id[16], struct span state,
                                  struct err_info *reterr);
/* Appends to RET. Errors: E_NOT_FOUND; E_AUTH, E_CORRUPT; E_LIMIT it exceeds ret->max. */
MUST_CHECK enum err store_job_get(struct store *store, const uint8_t id[16], struct buf *ret,
                                  struct err_info *reterr);
typedef enum err store_job_fn(void *user, const uint8_t id[16], struct span state);
MUST_CHECK enum err store_job_each(struct store *store, store_job_fn *each, void *user,
                                   struct err_info *reterr);
/* Durable on return. Errors: E_EXISTS (job, round, plan) was answered before; the stored bytes are
 * appended to RET_STORED. On other failures nothing has changed and nothing may be sent. */
MUST_CHECK enum err store_job_once(struct store *store, const uint8_t id[16], uint64_t round,
                                   const uint8_t plan_hash[32], struct span update,
                                   struct buf *ret_stored, struct err_info *reterr);
/* The stored answer alone. Errors: E_NOT_FOUND. */
MUST_CHECK enum err store_job_answered(struct store *store, const uint8_t id[16], uint64_t round,
                                       const uint8_t plan_hash[32], struct buf *ret_stored,
                                       struct err_info *reterr);

#endif
