noinst_LIBRARIES += %D%/libmodel.a
%C%_libmodel_a_SOURCES = \
	%D%/logistic.c %D%/logistic.h \
	%D%/metrics.c %D%/metrics.h
