#include "proto/pld.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "proto/alloc.h"
#include "proto/privacy.h"

/* Beyond this many standard deviations lies a mass of 1e-19, which counts as infinite loss. */
#define REACH 9.0
/* Mass that Chernoff's bound may leave outside of a window, a side, and its logarithm. */
#define TAIL     1e-15
#define LOG_TAIL (-34.538776394910684)

void proto_pld_fini(struct proto_pld *pld)
{
    proto_free(pld->mass);
    *pld = (struct proto_pld){0};
}

static bool positive(double value)
{
    return value > 0 && value <= 1e6;
}

/* Grid points from LOW to HIGH, and one more a side for what lies between. */
static enum err start(struct proto_pld *pld, double interval, double low, double high)
{
    double first = floor(low / interval) - 1;
    double last = ceil(high / interval) + 1;
    if (!(last - first < (double)PROTO_PLD_POINTS_MAX) || !(fabs(first) < 1e15)) {
        return E_LIMIT;
    }
    pld->interval = interval;
    pld->first = (int64_t)first;
    pld->count = (size_t)(last - first) + 1;
    pld->mass = proto_alloc(pld->count, sizeof *pld->mass);
    return pld->mass ? E_OK : E_NO_MEMORY;
}

/* Mass P and Q whose loss lies between grid points I and I + 1: u + v = P and u e^-a + v e^-b = Q. */
static void add_mass(struct proto_pld *pld, size_t i, double p, double q)
{
    double upper = (double)(pld->first + (int64_t)i + 1) * pld->interval;
    double low = (q * exp(upper) - p) / expm1(pld->interval);
    low = fmin(fmax(low, 0), p); /* NaN of 0 * inf becomes 0: all of it rounds up */
    pld->mass[i] += low;
    pld->mass[i + 1] += p - low;
}

/* One outcome of probability P against Q. */
static void add_atom(struct proto_pld *pld, double p, double q)
{
    double place = floor(log(p / q) / pld->interval) - (double)pld->first;
    double most = (double)pld->count - 2;
    add_mass(pld, (size_t)fmin(fmax(place, 0), most), p, q);
}

/* --- mechanisms ------------------------------------------------------------------------------------ */

/* P[a < Z <= b] of the standard normal law, from the side on which both tails are small. */
static double normal_between(double a, double b)
{
    if (a + b < 0) {
        double c = -a;
        a = -b;
        b = c;
    }
    return 0.5 * (erfc(a * M_SQRT1_2) - erfc(b * M_SQRT1_2));
}

/* The outcome z at which ln(1 - q + q e^((2z-1)/(2s^2))) is LOSS; -INFINITY where it is never so small. */
static double outcome_of(double rate, double sigma, double loss)
{
    double rest = expm1(loss) + rate;
    if (!(rest > 0)) {
        return -INFINITY;
    }
    double ratio = loss > 600 ? loss - log(rate) : log(rest / rate);
    return sigma * sigma * ratio + 0.5;
}

static double loss_of(double rate, double sigma, double z)
{
    double u = (2 * z - 1) / (2 * sigma * sigma);
    return u > 600 ? u + log(rate) : log1p(rate * expm1(u));
}

enum err proto_pld_gaussian_subsampled(double rate, double sigma, double interval,
                                       enum proto_pld_direction direction, struct proto_pld *ret)
{
    if (!(rate >= 0 && rate <= 1) || !positive(sigma) || !positive(interval)) {
        return E_INVALID;
    }
    double from = -REACH * sigma;
    double to = 1 + REACH * sigma;
    double low = rate > 0 ? loss_of(rate, sigma, from) : 0;
    double high = rate > 0 ? loss_of(rate, sigma, to) : 0;
    bool add = direction == PROTO_PLD_ADD;
    enum err err = start(ret, interval, add ? -high : low, add ? -low : high);
    if (err || rate == 0) {
        if (!err) {
            ret->mass[-ret->first] = 1; /* nobody is ever in it: no loss at all */
        }
        return err;
    }
    double kept = 0;
    double last = NAN; /* the outcome at the lower end of the interval */
    for (size_t i = 0; i + 1 < ret->count; i++) {
        double ends[2];
        for (int side = 0; side < 2; side++) {
            double loss = (double)(ret->first + (int64_t)i + side) * interval;
            double z = side == 0 && i > 0 ? last : outcome_of(rate, sigma, add ? -loss : loss);
            ends[side] = fmin(fmax(z, from), to);
        }
        last = ends[1];
        double a = add ? ends[1] : ends[0];
        double b = add ? ends[0] : ends[1];
        if (!(a < b)) {
            continue;
        }
        double noise = normal_between(a / sigma, b / sigma);
        double mixed = (1 - rate) * noise + rate * normal_between((a - 1) / sigma, (b - 1) / sigma);
        add_mass(ret, i, add ? noise : mixed, add ? mixed : noise);
        kept += add ? noise : mixed;
    }
    ret->infinity = fmax(1 - kept, 0); /* both tails, and rounding: a loss is never understated */
    return E_OK;
}

enum err proto_pld_laplace(double scale, double interval, struct proto_pld *ret)
{
    if (!positive(scale) || !positive(interval)) {
        return E_INVALID;
    }
    double most = 1 / scale;
    enum err err = start(ret, interval, -most, most);
    if (err) {
        return err;
    }
    add_atom(ret, 0.5, 0.5 * exp(-most));
    add_atom(ret, 0.5 * exp(-most), 0.5);
    for (size_t i = 0; i + 1 < ret->count; i++) {
        /* Noise x within (0, 1) has loss (1 - 2x)/b. */
        double low = fmax((double)(ret->first + (int64_t)i) * interval, -most);
        double high = fmin((double)(ret->first + (int64_t)i + 1) * interval, most);
        if (low < high) {
            double near = (1 - scale * high) / 2;
            double p = -0.5 * exp(-near / scale) * expm1(-(high - low) / 2);
            double far = 1 - (1 - scale * low) / 2;
            double q = -0.5 * exp(-far / scale) * expm1(-(high - low) / 2);
            add_mass(ret, i, p, q);
        }
    }
    return E_OK;
}

enum err proto_pld_discrete_laplace(double scale, double interval, struct proto_pld *ret)
{
    if (!positive(scale) || !positive(interval)) {
        return E_INVALID;
    }
    enum err err = start(ret, interval, -1 / scale, 1 / scale);
    if (!err) { /* at sensitivity 1 it is randomised response */
        double yes = 1 / (1 + exp(-1 / scale));
        double no = 1 / (1 + exp(1 / scale));
        add_atom(ret, yes, no);
        add_atom(ret, no, yes);
    }
    return err;
}

enum err proto_pld_discrete_gaussian(double sigma, double interval, struct proto_pld *ret)
{
    if (!positive(sigma) || !positive(interval) || sigma > 1e5) {
        return E_INVALID;
    }
    /* Tails shrink faster than the continuous law's, but for small sigma a whole step is more than a deviation. */
    int64_t reach = (int64_t)ceil(REACH * sigma) + 8;
    double square = 2 * sigma * sigma;
    enum err err =
        start(ret, interval, -(2 * (double)reach + 1) / square, (2 * (double)reach + 1) / square);
    if (err) {
        return err;
    }
    double whole = 1;
    for (int64_t x = reach + 1; x > 0; x--) {
        whole += 2 * exp(-(double)(x * x) / square);
    }
    double kept = 0;
    for (int64_t x = -reach; x <= reach; x++) {
        double p = exp(-(double)(x * x) / square) / whole;
        double q = exp(-(double)((x - 1) * (x - 1)) / square) / whole;
        if (p > 0 && q > 0) {
            add_atom(ret, p, q);
            kept += p;
        }
    }
    ret->infinity = fmax(1 - kept, 0);
    return E_OK;
}

/* --- Fourier ------------------------------------------------------------------------------------------ */

struct complex_number {
    double re, im;
};

static void reverse_bits(struct complex_number *x, size_t n)
{
    for (size_t i = 1, j = 0; i < n; i++) {
        size_t bit = n >> 1;
        for (; j & bit; bit >>= 1) {
            j ^= bit;
        }
        j ^= bit;
        if (i < j) {
            struct complex_number swap = x[i];
            x[i] = x[j];
            x[j] = swap;
        }
    }
}

/* Cooley and Tukey's, in place; n a power of two; ROOTS: e^(-2 pi i k/n) for k < n/2. The inverse lacks the factor 1/n. */
static void transform(struct complex_number *x, size_t n, const struct complex_number *roots,
                      bool inverse)
{
    reverse_bits(x, n);
    for (size_t half = 1; half < n; half *= 2) {
        size_t stride = n / (2 * half);
        for (size_t start_at = 0; start_at < n; start_at += 2 * half) {
            for (size_t k = 0; k < half; k++) {
                struct complex_number w = roots[k * stride];
                w.im = inverse ? -w.im : w.im;
                struct complex_number *a = &x[start_at + k];
                struct complex_number *b = a + half;
                double re = b->re * w.re - b->im * w.im;
                double im = b->re * w.im + b->im * w.re;
                b->re = a->re - re;
                b->im = a->im - im;
                a->re += re;
                a->im += im;
            }
        }
    }
}

static void fill_roots(struct complex_number *roots, size_t n)
{
    for (size_t k = 0; k < n / 2; k++) {
        double angle = -2 * M_PI * (double)k / (double)n;
        roots[k] = (struct complex_number){cos(angle), sin(angle)};
    }
}

static struct complex_number times(struct complex_number a, struct complex_number b)
{
    return (struct complex_number){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static struct complex_number power(struct complex_number x, uint64_t n)
{
    struct complex_number y = {1, 0};
    for (; n; n >>= 1) {
        y = n & 1 ? times(y, x) : y;
        x = times(x, x);
    }
    return y;
}

/* --- composition ---------------------------------------------------------------------------------------- */

/* ln E[e^(order * loss)] of the finite part; INFINITY where it overflows. */
static double log_moment(const struct proto_pld *pld, double order)
{
    double sum = 0;
    double step = exp(order * pld->interval);
    for (size_t block = 0; block < pld->count;
         block += 512) { /* afresh at times, so that errors do not add up */
        double w = exp(order * (double)(pld->first + (int64_t)block) * pld->interval);
        for (size_t i = block; i < pld->count && i < block + 512; i++) {
            sum += pld->mass[i] > 0 ? pld->mass[i] * w : 0;
            w *= step;
        }
    }
    return isfinite(sum) && sum > 0 ? log(sum) : INFINITY;
}

/* Grid points between which the sum of TIMES losses lies but for TAIL on either side. */
static void window_of(const struct proto_pld *pld, uint64_t count, double *ret_low,
                      double *ret_high)
{
    double k = (double)count;
    double low = k * (double)pld->first;
    double high = k * (double)(pld->first + (int64_t)pld->count - 1);
    for (double order = 1.0 / 32; order <= 1024; order *= 2) {
        double above = log_moment(pld, order);
        double below = log_moment(pld, -order);
        if (isfinite(above)) {
            high = fmin(high, ceil((k * above - LOG_TAIL) / order / pld->interval));
        }
        if (isfinite(below)) {
            low = fmax(low, floor((k * below - LOG_TAIL) / -order / pld->interval));
        }
        if (!isfinite(above) && !isfinite(below)) {
            break;
        }
    }
    *ret_low = low;
    *ret_high = high;
}

static size_t wrap(int64_t index, size_t n)
{
    return (size_t)((uint64_t)index &
                    (n - 1)); /* n is a power of two; two's complement wraps right */
}

/* mass of PLD and, in the imaginary part, of OTHER (or NULL), at their indexes modulo n. */
static void fold(const struct proto_pld *pld, const struct proto_pld *other,
                 struct complex_number *x, size_t n)
{
    for (size_t i = 0; i < pld->count; i++) {
        x[wrap(pld->first + (int64_t)i, n)].re += pld->mass[i];
    }
    for (size_t i = 0; other && i < other->count; i++) {
        x[wrap(other->first + (int64_t)i, n)].im += other->mass[i];
    }
}

/* Transforms, lets each frequency be the product of both or the power, and transforms back. */
static void convolve(const struct proto_pld *pld, const struct proto_pld *other, uint64_t count,
                     struct complex_number *x, struct complex_number *roots, size_t n)
{
    fill_roots(roots, n);
    fold(pld, other, x, n);
    transform(x, n, roots, false);
    for (size_t i = 0; i <= n / 2; i++) {
        struct complex_number f = x[i];
        struct complex_number mirrored = x[(n - i) % n];
        if (other) { /* two real sequences in one: F = (f + g*)/2, G = (f - g*)/(2i) */
            struct complex_number a = {(f.re + mirrored.re) / 2, (f.im - mirrored.im) / 2};
            struct complex_number b = {(f.im + mirrored.im) / 2, (mirrored.re - f.re) / 2};
            f = times(a, b);
        } else {
            f = power(f, count);
        }
        x[i] = f;
        x[(n - i) % n] = (struct complex_number){f.re, i == 0 || 2 * i == n ? f.im : -f.im};
    }
    transform(x, n, roots, true);
}

/* PLD becomes the composition, within [LOW, HIGH] grid points. */
static enum err compose(struct proto_pld *pld, const struct proto_pld *other, uint64_t count,
                        double low, double high)
{
    double points = high - low + 1;
    if (!(points <= (double)PROTO_PLD_POINTS_MAX) || !(fabs(low) < 1e15)) {
        return E_LIMIT;
    }
    size_t n = 2;
    while ((double)n < points) {
        n *= 2;
    }
    struct complex_number *x = proto_alloc(n, sizeof *x);
    struct complex_number *roots = proto_alloc(n / 2, sizeof *roots);
    double *mass = proto_alloc((size_t)points, sizeof *mass);
    if (!x || !roots || !mass) {
        proto_free(x);
        proto_free(roots);
        proto_free(mass);
        return E_NO_MEMORY;
    }
    convolve(pld, other, count, x, roots, n);
    double squares = 0;
    for (size_t i = 0; i < (size_t)points; i++) {
        mass[i] = fmax(x[wrap((int64_t)low + (int64_t)i, n)].re / (double)n, 0);
        squares += mass[i] * mass[i];
    }
    /* Each frequency carries a relative error of about (log n + count) units in the last place; over n points its absolute
     * sum is at most sqrt(n) times its norm, which is that of the masses (Parseval). Four is for good measure. */
    double rounding = 4 * 1.2e-16 * (log2((double)n) + 4 * log2((double)count + 1) + (double)count);
    pld->slack = pld->slack * (double)count + (other ? other->slack : 0) +
                 rounding * sqrt((double)n * squares);
    double finite = other ? log1p(-other->infinity) + log1p(-pld->infinity)
                          : (double)count * log1p(-pld->infinity);
    pld->infinity = fmin(-expm1(finite) + 2 * TAIL, 1);
    proto_free(pld->mass);
    pld->mass = mass;
    pld->first = (int64_t)low;
    pld->count = (size_t)points;
    proto_free(x);
    proto_free(roots);
    return E_OK;
}

enum err proto_pld_repeat(struct proto_pld *pld, uint64_t count)
{
    double low;
    double high;
    if (!pld->mass || count == 0 || count > UINT64_C(1) << 40) {
        return E_INVALID;
    }
    if (count == 1) {
        return E_OK;
    }
    window_of(pld, count, &low, &high);
    return compose(pld, NULL, count, low, high);
}

enum err proto_pld_join(struct proto_pld *pld, const struct proto_pld *other)
{
    if (!pld->mass || !other->mass || pld->interval != other->interval) {
        return E_INVALID;
    }
    double low = (double)pld->first + (double)other->first;
    return compose(pld, other, 1, low, low + (double)pld->count + (double)other->count - 2);
}

/* --- what they mean ------------------------------------------------------------------------------------------- */

double proto_pld_delta(const struct proto_pld *pld, double epsilon)
{
    double sum = pld->infinity + pld->slack;
    for (size_t i = 0; i < pld->count; i++) {
        double loss = (double)(pld->first + (int64_t)i) * pld->interval;
        if (loss > epsilon) {
            sum -= pld->mass[i] * expm1(epsilon - loss);
        }
    }
    return fmin(sum, 1);
}

double proto_pld_epsilon(const struct proto_pld *pld, double delta)
{
    double left = delta - pld->infinity - pld->slack;
    if (!(delta >= PROTO_PLD_DELTA_MIN && delta < 1) || !(left > 0)) {
        return INFINITY;
    }
    /* From above: delta(epsilon) = mass - e^epsilon * reduced over the losses beyond epsilon. */
    double mass = 0;
    double reduced = 0;
    for (size_t i = pld->count; i-- > 0;) {
        double loss = (double)(pld->first + (int64_t)i) * pld->interval;
        if (loss <= 0) {
            break;
        }
        mass += pld->mass[i];
        reduced += pld->mass[i] * exp(-loss);
        double below = fmax(loss - pld->interval, 0);
        if (mass - exp(below) * reduced > left) {
            return fmin(fmax(log((mass - left) / reduced), below), loss);
        }
    }
    return 0;
}

static enum err plan_direction(double rate, double sigma, uint64_t steps, double extra_rho,
                               double interval, double delta, enum proto_pld_direction direction,
                               double *ret)
{
    struct proto_pld pld = {0};
    struct proto_pld extra = {0};
    enum err err = proto_pld_gaussian_subsampled(rate, sigma, interval, direction, &pld);
    err = err ? err : proto_pld_repeat(&pld, steps);
    if (!err && extra_rho > 0) { /* all of them together are one Gaussian release */
        err =
            proto_pld_gaussian_subsampled(1, 1 / sqrt(2 * extra_rho), interval, direction, &extra);
        err = err ? err : proto_pld_join(&pld, &extra);
    }
    *ret = err ? INFINITY : proto_pld_epsilon(&pld, delta);
    proto_pld_fini(&pld);
    proto_pld_fini(&extra);
    return err;
}

/* Points of a window that are worth their time. */
#define POINTS_WANTED ((double)((size_t)1 << 17))

/* The finest of a few grids on which the window, as a coarse one shows it, has no more points than that. */
static enum err choose_interval(double rate, double sigma, uint64_t steps, double *ret)
{
    double low;
    double high;
    struct proto_pld coarse = {0};
    *ret = 1e-3;
    enum err err = proto_pld_gaussian_subsampled(rate, sigma, 1e-2, PROTO_PLD_REMOVE, &coarse);
    if (!err) {
        window_of(&coarse, steps, &low, &high);
        double width = (high - low) * coarse.interval;
        double one = (double)coarse.count * coarse.interval;
        *ret = fmin(fmax(fmax(width, one) / POINTS_WANTED, 2e-5), 1e-3);
    }
    proto_pld_fini(&coarse);
    return err;
}

enum err proto_pld_plan_epsilon(double rate, double sigma, uint64_t steps, double extra_rho,
                                double delta, double *ret_epsilon)
{
    if (!(delta >= PROTO_PLD_DELTA_MIN && delta < 1) || !(extra_rho >= 0)) {
        return delta > 0 && delta < 1 && extra_rho >= 0 ? E_LIMIT : E_INVALID;
    }
    if (steps == 0 && extra_rho <= 0) {
        *ret_epsilon = 0;
        return E_OK;
    }
    double interval;
    double removed = 0;
    double added = 0;
    double q = steps ? rate : 0; /* without steps, one in which nobody takes part */
    steps = steps ? steps : 1;
    enum err err = choose_interval(q, sigma, steps, &interval);
    err = err ? err
              : plan_direction(q, sigma, steps, extra_rho, interval, delta, PROTO_PLD_REMOVE,
                               &removed);
    err = err ? err
              : plan_direction(q, sigma, steps, extra_rho, interval, delta, PROTO_PLD_ADD, &added);
    if (!err) {
        *ret_epsilon = fmax(removed, added);
    }
    return err;
}

enum err proto_pld_sgd_epsilon(double rate, double sigma, uint64_t steps, double delta,
                               double *ret_epsilon)
{
    return proto_pld_plan_epsilon(rate, sigma, steps, 0, delta, ret_epsilon);
}

/* The line through the last two points of the logarithms meets the target in a few steps; when it leaves the bracket, its middle
 * is taken. */
enum err proto_pld_plan_calibrate(double epsilon, double delta, double rate, uint64_t steps,
                                  double extra_rho, double *ret_sigma)
{
    double high;
    double at_high;
    enum err err = proto_privacy_sgd_calibrate(epsilon, delta, rate, steps, extra_rho, &high);
    err = err ? err : proto_pld_plan_epsilon(rate, high, steps, extra_rho, delta, &at_high);
    if (err ||
        at_high >
            epsilon) { /* Renyi orders found it private: so it is, whatever the grid's rounding says */
        *ret_sigma = high;
        return err;
    }
    double low = fmax(high / 2, PROTO_PRIVACY_SIGMA_MIN);
    double slope = -1.3; /* of ln epsilon by ln sigma, until two points tell it */
    double last = high;
    double at_last = at_high;
    for (int i = 0; i < 40 && high - low > 1e-4 * high; i++) {
        double guess = last * exp(log(epsilon / at_last) / slope) * (1 + 3e-5);
        if (!(guess > low * (1 + 1e-5) && guess < high * (1 - 1e-5))) {
            guess = sqrt(low * high);
        }
        double got;
        err = proto_pld_plan_epsilon(rate, guess, steps, extra_rho, delta, &got);
        if (err && err != E_LIMIT) {
            return err;
        }
        if (!err) {
            double rise = log(got / at_last) / log(guess / last);
            slope = rise < -0.3 && rise > -4 ? rise : slope;
            last = guess;
            at_last = got;
        }
        if (!err && got <= epsilon) {
            high = guess;
        } else { /* E_LIMIT: so little noise that no grid holds its losses */
            low = guess;
        }
        if (!err && got <= epsilon && got > epsilon * (1 - 1e-4)) {
            break;
        }
    }
    *ret_sigma = high;
    return E_OK;
}
