noinst_LIBRARIES += %D%/libcli.a
%C%_libcli_a_CPPFLAGS = $(AM_CPPFLAGS) -DCONCORDAT_SBINDIR='"$(sbindir)"'
%C%_libcli_a_SOURCES = \
	%D%/args.c \
	%D%/ask.c %D%/ask.h \
	%D%/card.c \
	%D%/cli.h \
	%D%/client.c %D%/client.h \
	%D%/croissant.c \
	%D%/csv.c \
	%D%/curve.c %D%/plot.h \
	%D%/doctor.c \
	%D%/draft.c %D%/draft.h \
	%D%/grid.c %D%/grid.h \
	%D%/help.c \
	%D%/history.c %D%/history.h \
	%D%/home.c \
	%D%/question.c \
	%D%/init.c \
	%D%/licence.c \
	%D%/licence_file.c %D%/licence_file.h \
	%D%/licence_new.c \
	%D%/plot.c \
	%D%/process.c %D%/process.h \
	%D%/progress.c %D%/progress.h \
	%D%/provision.c %D%/provision.h \
	%D%/sandbox.c %D%/sandbox.h \
	%D%/show.c %D%/show.h \
	%D%/show_licence.c \
	%D%/show_node.c \
	%D%/show_query.c \
	%D%/show_train.c \
	%D%/split.c \
	%D%/table.c %D%/table.h \
	%D%/tools.c \
	%D%/tools_model.c

bin_PROGRAMS += concordat
concordat_SOURCES = %D%/main.c
concordat_LDADD = %D%/libcli.a node/peer/libpeer.a node/model/libmodel.a node/privacy/libprivacy.a \
	node/config/libconfig.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) $(JANSSON_LIBS) $(UTF8PROC_LIBS) $(YAML_LIBS) -lm

# Manual pages and completion come out of the command itself, so that they never differ from it.
CONCORDAT_GENERATED = concordat.1 concordatd.8 concordat.bash _concordat
concordat.1: concordat$(EXEEXT)
	$(AM_V_GEN)./concordat$(EXEEXT) man concordat >$@.tmp && mv $@.tmp $@
concordatd.8: concordat$(EXEEXT)
	$(AM_V_GEN)./concordat$(EXEEXT) man concordatd >$@.tmp && mv $@.tmp $@
concordat.bash: concordat$(EXEEXT)
	$(AM_V_GEN)./concordat$(EXEEXT) completion bash >$@.tmp && mv $@.tmp $@
_concordat: concordat$(EXEEXT)
	$(AM_V_GEN)./concordat$(EXEEXT) completion zsh >$@.tmp && mv $@.tmp $@
nodist_man1_MANS = concordat.1
nodist_man8_MANS = concordatd.8
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
nodist_zshcompletion_DATA = _concordat
install-data-local: concordat.bash
	$(MKDIR_P) '$(DESTDIR)$(bashcompletiondir)'
	$(INSTALL_DATA) concordat.bash '$(DESTDIR)$(bashcompletiondir)/concordat'
uninstall-local:
	rm -f '$(DESTDIR)$(bashcompletiondir)/concordat'
CLEANFILES += $(CONCORDAT_GENERATED)
