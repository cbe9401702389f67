noinst_LIBRARIES += %D%/libmodel.a %D%/libencoder.a %D%/libtuner.a
# The encoder once more in tests, with MODEL_DOUBLE: see real.h.
MODEL_ENCODER_SOURCES = \
	node/model/adamw.c \
	node/model/encoder.c node/model/encoder.h node/model/encoder_internal.h \
	node/model/encoder_config.c node/model/encoder_config.h \
	node/model/encoder_load.c \
	node/model/encoder_pass.c \
	node/model/encoder_save.c node/model/encoder_save.h \
	node/model/gemm.c node/model/gemm.h node/model/real.h \
	node/model/gradient.c \
	node/model/head.c \
	node/model/kernels.c node/model/kernels.h node/model/vec.h node/model/kernels_pick.c \
	node/model/layer.c \
	node/model/run.c node/model/run.h \
	node/model/team.c node/model/team.h
# A library of its own: ENCODER_FLAGS drop errno and traps, which the exact arithmetic of the private steps may count on.
%C%_libencoder_a_SOURCES = $(MODEL_ENCODER_SOURCES)
%C%_libencoder_a_CFLAGS = $(AM_CFLAGS) $(ENCODER_FLAGS)
# The same loops for two levels of vector instructions; kernels_pick.c chooses at run time.
if X86_KERNELS
noinst_LIBRARIES += %D%/libkernels_v3.a %D%/libkernels_v4.a
endif
%C%_libkernels_v3_a_SOURCES = node/model/kernels.c
%C%_libkernels_v3_a_CPPFLAGS = $(AM_CPPFLAGS) -DMODEL_KERNELS=model_kernels_v3 -DMODEL_KERNELS_NAME='"x86-64-v3"'
%C%_libkernels_v3_a_CFLAGS = $(AM_CFLAGS) $(ENCODER_FLAGS) -march=x86-64-v3
%C%_libkernels_v4_a_SOURCES = node/model/kernels.c
%C%_libkernels_v4_a_CPPFLAGS = $(AM_CPPFLAGS) -DMODEL_KERNELS=model_kernels_v4 -DMODEL_KERNELS_NAME='"x86-64-v4"'
%C%_libkernels_v4_a_CFLAGS = $(AM_CFLAGS) $(ENCODER_FLAGS) -march=x86-64-v4 -mprefer-vector-width=512
# Training on texts, above the encoder.
%C%_libtuner_a_SOURCES = \
	%D%/corpus.c %D%/corpus.h \
	%D%/deploy.c %D%/deploy.h \
	%D%/onnx.c %D%/onnx.h \
	%D%/onnx_graph.c %D%/onnx_graph.h \
	%D%/onnx_table.c \
	%D%/package.c %D%/package.h \
	%D%/quantise.c %D%/quantise.h \
	%D%/tuner.c %D%/tuner.h %D%/tuner_internal.h \
	%D%/tuner_evaluate.c \
	%D%/tuner_train.c
%C%_libmodel_a_SOURCES = \
	%D%/card.c %D%/card.h \
	%D%/curve.c %D%/curve.h \
	%D%/events.c %D%/events.h \
	%D%/folder.c %D%/folder.h \
	%D%/grid.c %D%/grid.h \
	%D%/inputs.c %D%/inputs.h \
	%D%/logistic.c %D%/logistic.h \
	%D%/metrics.c %D%/metrics.h \
	%D%/notes.c %D%/notes.h \
	%D%/report.c %D%/report.h \
	%D%/safetensors.c %D%/safetensors.h \
	%D%/safetensors_write.c %D%/safetensors_write.h \
	%D%/table_model.c %D%/table_model.h %D%/table_model_internal.h \
	%D%/tabular.c %D%/tabular.h \
	%D%/tokenizer.c %D%/tokenizer.h \
	%D%/words.c %D%/words.h
EXTRA_DIST += %D%/README.md
