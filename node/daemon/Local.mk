sbin_PROGRAMS += concordatd
concordatd_SOURCES = \
	%D%/budgets.c \
	%D%/confirm.c \
	%D%/log.c %D%/log.h \
	%D%/main.c \
	%D%/notify.c %D%/notify.h \
	%D%/remind.c \
	%D%/start.c %D%/start.h
concordatd_LDADD = $(CONSOLE_LIBS) node/control/libcontrol.a node/source/libsource.a node/train/libtrain.a node/query/libquery.a node/peer/libpeer.a \
	node/config/libconfig.a $(MODEL_LIBS) $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS) $(JANSSON_LIBS) $(YAML_LIBS) $(SECCOMP_LIBS) -lm
