noinst_LIBRARIES += %D%/libcontrol.a
%C%_libcontrol_a_SOURCES = \
	%D%/call.c %D%/call.h \
	%D%/dispatch.c %D%/dispatch.h \
	%D%/import.c %D%/import.h \
	%D%/model_use.c \
	%D%/models.h \
	%D%/node.h \
	%D%/ops_agreement.c \
	%D%/ops_approval.c \
	%D%/ops_audit.c \
	%D%/ops_backup.c \
	%D%/ops_budget.c \
	%D%/ops_catalog.c \
	%D%/ops_dataset.c \
	%D%/ops_export.c \
	%D%/ops_federation.c \
	%D%/ops_key.c \
	%D%/ops_licence.c \
	%D%/ops_library.c \
	%D%/ops_model.c \
	%D%/ops_predict.c \
	%D%/ops_project.c \
	%D%/ops_query.c \
	%D%/ops_risk.c \
	%D%/ops_status.c \
	%D%/ops_train.c \
	%D%/ops_visa.c \
	%D%/purpose.c \
	%D%/server.c %D%/server.h \
	%D%/views.h \
	%D%/vocabulary.c %D%/vocabulary.h
