noinst_LIBRARIES += %D%/libmodel.a
%C%_libmodel_a_SOURCES = \
	%D%/folder.c %D%/folder.h \
	%D%/logistic.c %D%/logistic.h \
	%D%/metrics.c %D%/metrics.h \
	%D%/notes.c %D%/notes.h \
	%D%/report.c %D%/report.h \
	%D%/safetensors.c %D%/safetensors.h \
	%D%/tokenizer.c %D%/tokenizer.h \
	%D%/words.c %D%/words.h
