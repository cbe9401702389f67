/* A planted bug, linked into an audit in place of the sampler (ld --wrap): half of the noise, also of what the pool holds. */
#include "node/privacy/noise.h"
#include "tests/audit/audit.h"

const char *const audit_planted = "half of the noise";

enum err __real_privacy_noise_gaussian(uint64_t sigma2_num, uint64_t sigma2_den, int64_t *to,
                                       size_t count);
enum err __wrap_privacy_noise_gaussian(uint64_t sigma2_num, uint64_t sigma2_den, int64_t *to,
                                       size_t count);

enum err __wrap_privacy_noise_gaussian(uint64_t sigma2_num, uint64_t sigma2_den, int64_t *to,
                                       size_t count)
{
    enum err err = __real_privacy_noise_gaussian(sigma2_num, sigma2_den, to, count);
    for (size_t i = 0; i < count; i++) {
        to[i] /= 2;
    }
    return err;
}
