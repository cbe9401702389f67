#include "config.h"
#include "node/query/price.h"

#include "proto/privacy.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define PLACES 64

/* Entries of a function of two doubles, or of a number that a double's bits stand for. */
struct place {
    uint64_t key[2];
    uint64_t bits; /* of the result */
    bool known;
};

static struct place prices[PLACES];
static struct place epsilons[PLACES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t bits_of(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static struct place *place_of(struct place *places, const uint64_t key[2])
{
    uint64_t mixed =
        (key[0] ^ key[1] * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xd6e8feb86659fd93);
    return &places[(mixed ^ mixed >> 32) % PLACES];
}

static bool recall(struct place *places, const uint64_t key[2], uint64_t *ret)
{
    const struct place *place = place_of(places, key);
    pthread_mutex_lock(&lock);
    bool found = place->known && place->key[0] == key[0] && place->key[1] == key[1];
    *ret = found ? place->bits : 0;
    pthread_mutex_unlock(&lock);
    return found;
}

static void keep(struct place *places, const uint64_t key[2], uint64_t bits)
{
    pthread_mutex_lock(&lock);
    *place_of(places, key) = (struct place){{key[0], key[1]}, bits, true};
    pthread_mutex_unlock(&lock);
}

uint64_t query_price_nano(double epsilon, double delta)
{
    const uint64_t key[2] = {bits_of(epsilon), bits_of(delta)};
    uint64_t nano;
    if (!recall(prices, key, &nano)) {
        nano = proto_privacy_rho_ceil_nano(epsilon, delta);
        keep(prices, key, nano);
    }
    return nano;
}

double query_price_epsilon(uint64_t nano, double delta)
{
    const uint64_t key[2] = {nano, bits_of(delta)};
    uint64_t bits;
    double epsilon;
    if (recall(epsilons, key, &bits)) {
        memcpy(&epsilon, &bits, sizeof epsilon);
        return epsilon;
    }
    epsilon = proto_privacy_epsilon((double)nano / 1e9, delta);
    keep(epsilons, key, bits_of(epsilon));
    return epsilon;
}
