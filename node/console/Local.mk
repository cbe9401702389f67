if HAVE_MICROHTTPD
noinst_LIBRARIES += %D%/libconsole.a
%C%_libconsole_a_SOURCES = \
	%D%/api.c %D%/api.h \
	%D%/console.c %D%/console.h \
	%D%/library.c %D%/library.h \
	%D%/metrics.c %D%/metrics.h \
	%D%/page.h \
	%D%/predict.c %D%/predict.h \
	%D%/token.c %D%/token.h
nodist_%C%_libconsole_a_SOURCES = %D%/page.c
CONSOLE_LIBS = %D%/libconsole.a
BUILT_SOURCES += %D%/page.c
CLEANFILES += %D%/page.c
endif
CONSOLE_PAGES = %D%/page/index.html %D%/page/login.html %D%/page/console.js %D%/page/console.css
%D%/page.c: %D%/embed.sh $(CONSOLE_PAGES)
	@$(MKDIR_P) %D%
	$(AM_V_GEN)$(SHELL) $(srcdir)/%D%/embed.sh $(CONSOLE_PAGES:%=$(srcdir)/%) > $@.new && mv $@.new $@
EXTRA_DIST += %D%/README.md %D%/embed.sh $(CONSOLE_PAGES)
