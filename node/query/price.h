/* What a question of (epsilon, delta) costs in nano-rho, remembered: people ask at few prices, and the exact conversion
 * is a search within a search of some tenth of a millisecond. A pure function of its arguments; nothing goes stale.
 *
 * Threads: any. Memory: 64 results of each; a new one takes the place of an older. */
#ifndef CONCORDAT_NODE_QUERY_PRICE_H
#define CONCORDAT_NODE_QUERY_PRICE_H

#include <stdint.h>

/* proto_privacy_rho_ceil_nano(epsilon, delta), always. */
uint64_t query_price_nano(double epsilon, double delta);
/* proto_privacy_epsilon(nano / 1e9, delta), always: what NANO of a budget are worth. */
double query_price_epsilon(uint64_t nano, double delta);

#endif
