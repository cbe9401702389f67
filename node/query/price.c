#include "config.h"
#include "node/query/price.h"

#include <pthread.h>
#include <string.h>
#include <math.h>

#define PLACES 64

/* Entries of a function of two numbers. */
struct place {
    uint64_t key[2];
    union {
        struct proto_privacy_price price;
        double epsilon;
    } value;
    bool known;
};

static struct place prices[PLACES];
static struct place epsilons[PLACES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct place *place_of(struct place *places, const struct place *wanted)
{
    uint64_t mixed = (wanted->key[0] ^ wanted->key[1] * UINT64_C(0x9e3779b97f4a7c15)) *
                     UINT64_C(0xd6e8feb86659fd93);
    return &places[(mixed ^ mixed >> 32) % PLACES];
}

/* Fills in the value of WANTED when it is known. */
static bool recall(struct place *places, struct place *wanted)
{
    const struct place *place = place_of(places, wanted);
    pthread_mutex_lock(&lock);
    bool found = place->known && place->key[0] == wanted->key[0] && place->key[1] == wanted->key[1];
    if (found) {
        *wanted = *place;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static void keep(struct place *places, struct place *found)
{
    found->known = true;
    pthread_mutex_lock(&lock);
    *place_of(places, found) = *found;
    pthread_mutex_unlock(&lock);
}

struct proto_privacy_price query_price(uint64_t epsilon_u, uint64_t delta_e12, bool thresholds)
{
    struct place wanted = {.key = {epsilon_u, delta_e12 << 1 | thresholds}};
    if (!recall(prices, &wanted)) {
        wanted.value.price = proto_privacy_price((double)epsilon_u / 1e6, delta_e12, thresholds);
        keep(prices, &wanted);
    }
    return wanted.value.price;
}

double query_price_epsilon(uint64_t nano, double delta)
{
    struct place wanted = {.key = {nano, 0}};
    memcpy(&wanted.key[1], &delta, sizeof delta);
    if (!recall(epsilons, &wanted)) {
        wanted.value.epsilon = proto_privacy_epsilon((double)nano / 1e9, delta);
        keep(epsilons, &wanted);
    }
    return wanted.value.epsilon;
}

double query_price_noise(uint64_t epsilon_u, uint64_t delta_e12)
{
    uint64_t nano = epsilon_u && delta_e12 ? query_price(epsilon_u, delta_e12, false).nano : 0;
    return nano ? sqrt(1e9 / (2 * (double)nano)) : 0;
}
