/* Certificates and public keys as a stranger may send them. */
#include "config.h"
#include "crypto/certificate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    struct crypto_certificate_info info;
    struct err_info why;
    char federation[33];
    uint8_t point[65];
    uint8_t sig[64];
    uint8_t der[CRYPTO_SIGNATURE_DER_MAX];
    if (!ready && crypto_init(NULL) != E_OK) {
        abort();
    }
    ready = true;
    struct span bytes = span_of(data, size);
    if (crypto_certificate_parse(bytes, &info, &why) == E_OK) {
        if (strlen(info.federation) > 32 || strlen(info.org) > 64 ||
            info.serial_len > sizeof info.serial ||
            crypto_identity_check_point(info.point) != E_OK) {
            abort();
        }
    }
    (void)!crypto_certificate_root_parse(bytes, federation, point, &why);
    if (crypto_certificate_point(bytes, point) == E_OK &&
        crypto_identity_check_point(point) != E_OK) {
        abort();
    }
    if (crypto_signature_from_der(bytes, sig) == E_OK &&
        !span_equal(span_of(der, crypto_signature_to_der(sig, der)), bytes)) {
        abort();
    }
    return 0;
}
