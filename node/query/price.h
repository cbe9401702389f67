/* What a question of (epsilon, delta) costs, remembered: people ask at few prices, and the exact conversion
 * is a search within a search of some tenth of a millisecond. A pure function of its arguments; nothing goes stale.
 *
 * Threads: any. Memory: 64 results of each; a new one takes the place of an older. */
#ifndef CONCORDAT_NODE_QUERY_PRICE_H
#define CONCORDAT_NODE_QUERY_PRICE_H

#include "proto/privacy.h"

/* proto_privacy_price(epsilon_u / 1e6, delta_e12, thresholds), always: the same at both ends of a question. */
struct proto_privacy_price query_price(uint64_t epsilon_u, uint64_t delta_e12, bool thresholds);
/* proto_privacy_epsilon(nano / 1e9, delta), always: what NANO of a budget are worth. */
double query_price_epsilon(uint64_t nano, double delta);

/* The noise of such an answer as a multiple of its sensitivity: rho = 1 / (2 m^2). 0 when it would cost nothing. */
double query_price_noise(uint64_t epsilon_u, uint64_t delta_e12);

#endif
