/* A key that stays in a hardware token (HSM, smart card) seals the secret of one keyring slot. The operator's PKCS#11 module is
 * loaded when a keyring is opened or a slot made, and logged out of at once: a running node needs the token no more.
 *
 *     struct crypto_pkcs11 key = {.module = "/usr/lib/softhsm/libsofthsm2.so", .token = "hospital", .key = "concordat", .pin = pin};
 *     crypto_pkcs11_seal(&key, secret, sealed, &len, &info);
 *     crypto_pkcs11_open(&key, span_of(sealed, len), secret, &info);
 *
 * Sealed: u8 mechanism, then of 1 (AES-GCM): iv[12] | cipher[32] | tag[16], with "concordat/keyring/pkcs11/1" and a zero as
 * associated data; of 2 (RSA-OAEP with SHA-256 and MGF1 of it) and 3 (the same with SHA-1, all that some tokens know): as many
 * bytes as the modulus has. Which of these a token does is tried when a secret is sealed: what it cannot open again is not kept.
 * The module is code of the operator's choice inside this process; it sees the PIN and the secret, and only its maker knows
 * what it keeps of them in memory.
 * PKCS #11 is followed as OASIS has it in version 2.40. Threads: any; one call at a time talks to a module.
 * Limits: CRYPTO_PKCS11_SLOTS slots with a token; RSA keys of 2048 to 4096 bits. */
#ifndef CONCORDAT_CRYPTO_PKCS11_H
#define CONCORDAT_CRYPTO_PKCS11_H

#include "crypto/memory.h"

#define CRYPTO_PKCS11_SLOTS     64
#define CRYPTO_PKCS11_LABEL_MAX 32 /* of a token and of a key, in bytes */
#define CRYPTO_PKCS11_PIN_MAX   255
#define CRYPTO_PKCS11_SEALED    (1 + 512)

struct crypto_pkcs11 {
    const char *module; /* absolute path */
    const char *token;  /* labels of 1 to CRYPTO_PKCS11_LABEL_MAX bytes */
    const char *key;
    struct span pin; /* of the user; none: the token has a keypad, or asks for nothing */
};

/* Seals SECRET under the AES or RSA key of that label. An absent key is made: AES-256, which the token never gives out.
 * ret_sealed  room for CRYPTO_PKCS11_SEALED bytes.
 * Errors: E_UNSUPPORTED built without PKCS #11, or the token does none of the mechanisms; E_INVALID a label or the module's path;
 * E_NOT_FOUND no such module, token or key; E_REFUSED the key can be taken out, or a label stands for several; E_AUTH the PIN; E_IO
 * the token failed. */
MUST_CHECK enum err crypto_pkcs11_seal(const struct crypto_pkcs11 *key,
                                       const struct crypto_key *secret,
                                       uint8_t ret_sealed[CRYPTO_PKCS11_SEALED], size_t *ret_len,
                                       struct err_info *reterr);
/* Makes nothing. Errors: as above; E_CORRUPT SEALED is not by this key, or was changed. A wrong PIN is given to the token once, as
 * it counts them. */
MUST_CHECK enum err crypto_pkcs11_open(const struct crypto_pkcs11 *key, struct span sealed,
                                       struct crypto_key *ret, struct err_info *reterr);
/* Whether SEALED has the shape of one of the three. */
bool crypto_pkcs11_valid(struct span sealed);

#endif
