noinst_LIBRARIES += %D%/libconcordat_crypto.a
%C%_libconcordat_crypto_a_SOURCES = \
	%D%/certificate.c %D%/certificate.h %D%/certificate_private.h \
	%D%/channel.c %D%/channel.h %D%/channel_private.h \
	%D%/channel_libssl.c \
	%D%/channel_mbedtls.c \
	%D%/chunk.c %D%/chunk.h \
	%D%/compat_mbedtls.h \
	%D%/envelope.c %D%/envelope.h \
	%D%/file.c %D%/file.h \
	%D%/identity.c %D%/identity.h %D%/identity_pk.h \
	%D%/kdf.c %D%/kdf.h \
	%D%/keyring.c %D%/keyring.h \
	%D%/memory.c %D%/memory.h \
	%D%/pkcs11.c %D%/pkcs11.h \
	%D%/provider.c %D%/provider.h \
	%D%/provider_libcrypto.c \
	%D%/provider_mbedtls.c %D%/provider_mbedtls.h \
	%D%/random.c %D%/random.h \
	%D%/shares.c %D%/shares.h
%C%_libconcordat_crypto_a_CPPFLAGS = $(AM_CPPFLAGS) $(PKCS11_CFLAGS)
EXTRA_DIST += %D%/README.md
