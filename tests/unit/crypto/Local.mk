# unit/crypto
check_PROGRAMS += %D%/test_provider %D%/test_wycheproof %D%/test_chunk %D%/test_keyring %D%/test_identity \
	%D%/test_certificate %D%/test_channel %D%/test_shares %D%/test_pkcs11
TESTS += %D%/test_provider %D%/test_wycheproof %D%/test_chunk %D%/test_keyring %D%/test_identity \
	%D%/test_certificate %D%/test_channel %D%/test_shares %D%/test_pkcs11
EXTRA_DIST += %D%/common.h

%C%_test_provider_SOURCES = %D%/test_provider.c
%C%_test_provider_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)
%C%_test_wycheproof_SOURCES = %D%/test_wycheproof.c
%C%_test_wycheproof_LDADD = $(CRYPTO_LIBS) $(JANSSON_LIBS) $(CMOCKA_LIBS)
%C%_test_chunk_SOURCES = %D%/test_chunk.c
%C%_test_chunk_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)
%C%_test_keyring_SOURCES = %D%/test_keyring.c
%C%_test_keyring_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)
%C%_test_pkcs11_SOURCES = %D%/test_pkcs11.c
%C%_test_pkcs11_CPPFLAGS = $(AM_CPPFLAGS) $(PKCS11_CFLAGS)
%C%_test_pkcs11_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)
%C%_test_identity_SOURCES = %D%/test_identity.c
%C%_test_identity_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)
%C%_test_certificate_SOURCES = %D%/test_certificate.c
%C%_test_certificate_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)
%C%_test_channel_SOURCES = %D%/test_channel.c
%C%_test_channel_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)
%C%_test_shares_SOURCES = %D%/test_shares.c
%C%_test_shares_LDADD = $(CRYPTO_LIBS) $(CMOCKA_LIBS)

EXTRA_DIST += \
	tests/vectors/crypto/LICENSE \
	tests/vectors/crypto/README.md \
	tests/vectors/crypto/aes_gcm_test.json \
	tests/vectors/crypto/aes_kwp_test.json \
	tests/vectors/crypto/chacha20_poly1305_test.json \
	tests/vectors/crypto/ecdh_secp256r1_ecpoint_test.json \
	tests/vectors/crypto/ecdh_secp256r1_test.json \
	tests/vectors/crypto/ecdsa_secp256r1_sha256_p1363_test.json \
	tests/vectors/crypto/ecdsa_secp256r1_sha256_test.json \
	tests/vectors/crypto/hkdf_sha256_test.json \
	tests/vectors/crypto/hmac_sha256_test.json \
	tests/vectors/crypto/pbkdf2_hmacsha256_test.json \
	tests/vectors/crypto/x25519_test.json
