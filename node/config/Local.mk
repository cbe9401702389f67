noinst_LIBRARIES += %D%/libconfig.a
%C%_libconfig_a_SOURCES = \
	%D%/bind.c %D%/bind.h \
	%D%/home.c %D%/home.h \
	%D%/job.c \
	%D%/manifest.c \
	%D%/mapping.c %D%/mappings.c \
	%D%/node.c %D%/node.h \
	%D%/project.c \
	%D%/secret.c \
	%D%/unlock.c %D%/unlock.h \
	%D%/yaml.h
# The ready mappings as one table of texts.
nodist_%C%_libconfig_a_SOURCES = %D%/mappings_text.h
%D%/libconfig_a-mappings.$(OBJEXT) %D%/mappings.$(OBJEXT): %D%/mappings_text.h
%D%/mappings_text.h: $(MAPPINGS:%=$(srcdir)/%) $(srcdir)/build-aux/embed-text.awk
	$(AM_V_GEN)$(MKDIR_P) %D% && $(AWK) -f $(srcdir)/build-aux/embed-text.awk $(MAPPINGS:%=$(srcdir)/%) >$@.tmp && mv $@.tmp $@
CLEANFILES += %D%/mappings_text.h
