noinst_LIBRARIES += %D%/libconfig.a
%C%_libconfig_a_SOURCES = \
	%D%/bind.c %D%/bind.h \
	%D%/home.c %D%/home.h \
	%D%/job.c \
	%D%/manifest.c \
	%D%/node.c %D%/node.h \
	%D%/unlock.c %D%/unlock.h \
	%D%/yaml.h
