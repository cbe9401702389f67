noinst_LIBRARIES += %D%/libproto.a
%C%_libproto_a_SOURCES = \
	%D%/alloc.c %D%/alloc.h \
	%D%/codec.h \
	%D%/err.c %D%/err.h \
	%D%/hash.h \
	%D%/span.c %D%/span.h \
	%D%/time.c %D%/time.h
EXTRA_DIST += %D%/README.md
