noinst_LIBRARIES += %D%/libsource.a
%C%_libsource_a_SOURCES = \
	%D%/copy_row.c %D%/copy_row.h \
	%D%/postgres.c %D%/postgres.h
%C%_libsource_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBPQ_CFLAGS)
if HAVE_LIBPQ
%C%_libsource_a_SOURCES += %D%/libpq.c %D%/libpq.h
endif
EXTRA_DIST += %D%/README.md
