/* Gradients of a batch by several threads, each with sequences of its own; with a clip norm, each group (patient) apart.
 *
 *     struct model_team *team = NULL;
 *     err = model_team_new(encoder, 2, &team);
 *     err = model_team_gradient(team, &batch, 0, gradient, NULL, &loss, &labelled, reterr);    // of the mean loss
 *     err = model_team_gradient(team, &batch, 1.0, sum, norms, &loss, &labelled, reterr);      // DP-SGD: clipped, summed
 *     model_team_free(team);
 *
 * The batch is cut into consecutive groups (without groups: sequences) of about equal rows, a part for each thread, and each part
 * into passes whose activations stay within MODEL_TEAM_PASS_BYTES; where one long sequence alone would not, layers are computed
 * again in backward. Parts are added in their order, so that the same batch, seed and number of threads give the same numbers;
 * dropout is the same for any number.
 * Clipped gradients of large tensors are never kept by group: ghost norms and a second pass by book-keeping, see gradient.c. A group
 * too long for one pass is the exception: its gradient is added up whole, then clipped.
 * A clipped sum is exact and must not leave a site before noise: that is the caller's.
 * Threads: a team belongs to one thread at a time; the encoder is only read. Limits: MODEL_TEAM_THREADS_MAX. */
#ifndef CONCORDAT_NODE_MODEL_TEAM_H
#define CONCORDAT_NODE_MODEL_TEAM_H

#include "node/model/encoder.h"

#define MODEL_TEAM_THREADS_MAX 64u
#define MODEL_TEAM_PASS_BYTES  ((size_t)192 << 20) /* of a thread */
#define MODEL_TEAM_PASS_ROWS   1024u /* beyond this a pass only leaves the processor's caches */

struct model_team;
/* Errors: E_LIMIT; E_NO_MEMORY. The encoder is borrowed until free. ret is set on success only. */
MUST_CHECK enum err model_team_new(const struct model_encoder *encoder, unsigned threads,
                                   struct model_team **ret);
void model_team_free(struct model_team *team);
/* For tests: passes of at most ROWS rows (0: as above), always with layers computed again when RECOMPUTE. */
void model_team_passes(struct model_team *team, size_t rows, bool recompute);

/* clip 0: GRADIENT becomes that of (sum of cross entropy) / (labels of the whole batch).
 * clip > 0: GRADIENT becomes the sum over groups of the gradient of the group's own mean loss, scaled to a norm of at most
 * CLIP; a group without labels, or whose gradient is not finite, adds nothing. NORMS (one a group, may be NULL) are those
 * before clipping.
 * gradient      encoder->trained_count numbers, overwritten
 * ret_sum, ret_labelled  cross entropy and labels of the batch; exact: they must not leave the site either
 * Errors: those of model_run_forward; E_USAGE a batch without labels. On failure GRADIENT is anything. */
MUST_CHECK enum err model_team_gradient(struct model_team *team, const struct model_batch *batch,
                                        double clip, real *gradient, double *norms, double *ret_sum,
                                        uint64_t *ret_labelled, struct err_info *reterr);

#endif
