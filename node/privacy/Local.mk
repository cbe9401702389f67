noinst_LIBRARIES += %D%/libprivacy.a
%C%_libprivacy_a_SOURCES = \
	%D%/mechanism.c %D%/mechanism.h \
	%D%/noise.c %D%/noise.h \
	%D%/pool.c
