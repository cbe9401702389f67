/* From the updates of a round to the next weights, block by block: nothing is in memory but TRAIN_VECTOR_BLOCK numbers of each
 * update, whatever the number of sites and numbers. Updates are blobs (sealed on disk) that the caller deletes with the round.
 *
 *     err = train_mean_step(store, &updates, &server, &from, &to, mean, reterr);
 *
 * The mean, the round's one result, is rounded to float32 as it is stored before the step takes it, so that the model can be computed
 * again from the first weights and the means of all rounds, bit by bit (train_server_step alone): that is what `train verify` does.
 *
 * Mean: sum w_i u_i / sum w_i in double, in the order given; or, trimmed (Yin et al. 2018, arXiv 1803.01498), for each number
 * without the floor(trim n) smallest and largest, unweighted.
 * Server step on mean d (Reddi et al. 2021, arXiv 2003.00295):
 *     fedavg, fedprox, trimmed-mean:  w += rate d;          with momentum b > 0 (FedAvgM): v <- b v + d, w += rate v
 *     fedadam:                        m <- b m + (1-b) d,  v <- 0.99 v + 0.01 d^2,  w += rate m / (sqrt(v) + 1e-3)
 *     scaffold:                       w += rate d, and the control variate below
 * SCAFFOLD, option II (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1). A site's step is w -= rate (g - c_i + c); after K steps
 * with change u of the weights its c_i becomes c_i - c - u / (K rate). All of that is computed from the update that leaves, which is
 * noised, so control variates cost no privacy of their own, and the coordinator computes c by itself: nothing more is sent.
 *     c += sum over those who took part of p_i (-c - u_i / (K_i rate)) / sum over all sites of p_i
 * with the weights p_i of the mean: c stays the mean of all c_i. K_i is what the site's plan says, also where a crash took steps.
 * Threads: any; what is written is written by threads of its own (vector_writer.h). Limits: TRAIN_SITES_MAX updates. */
#ifndef CONCORDAT_NODE_TRAIN_AGGREGATE_H
#define CONCORDAT_NODE_TRAIN_AGGREGATE_H

#include "node/train/message.h"

struct train_updates {
    const uint8_t *job_id; /* 16 */
    uint64_t round;
    uint64_t numbers;
    size_t count;
    const uint8_t (*hash)[32];
    const double *weight; /* positive; not used by the trimmed mean */
    bool trimmed;
    double trim;
};

struct train_server {
    enum proto_aggregation method;
    double rate, momentum;
    const uint8_t *job_id; /* 16 */
};
/* What a server's step leaves for the next: names of blobs, or zeros where there is none yet (then they are all zero). */
struct train_server_state {
    uint8_t weights[32];
    uint8_t first[32];  /* momentum, or the first moment */
    uint8_t second[32]; /* the second moment */
};
/* The mean of UPDATES and the step on it, in one pass. The blobs of the mean and of TO are durable on return, FROM's stay; FROM may be
 * TO. Errors, after which TO is as it was: E_INVALID no update, or a mean or weights that are not finite; those of reading and writing. */
MUST_CHECK enum err train_mean_step(struct store *store, const struct train_updates *updates,
                                    const struct train_server *server,
                                    const struct train_server_state *from,
                                    struct train_server_state *to, uint8_t ret_mean[32],
                                    struct err_info *reterr);

/* The step alone, on a mean that is there. */
MUST_CHECK enum err train_server_step(struct store *store, const struct train_server *server,
                                      uint64_t round, uint64_t numbers, const uint8_t mean[32],
                                      const struct train_server_state *from,
                                      struct train_server_state *to, struct err_info *reterr);

/* The server's control variate after a round: FROM (zeros: none yet) to a blob of its own. SCALE: K_i rate of each update; ALL: the
 * sum of the weights of all sites. Errors: as train_mean_step. */
MUST_CHECK enum err train_control_step(struct store *store, const struct train_updates *updates,
                                       const double *scale, double all, const uint8_t from[32],
                                       uint8_t ret[32], struct err_info *reterr);
/* A site's: OWN becomes what it is after CHANGE. */
void train_control_own(float *own, const float *control, const float *change, size_t count,
                       double scale);

bool train_hash_none(const uint8_t hash[32]);

#endif
