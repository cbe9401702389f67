noinst_LIBRARIES += %D%/libconcordat_crypto.a
%C%_libconcordat_crypto_a_SOURCES = 
EXTRA_DIST += %D%/README.md
