noinst_LIBRARIES += %D%/libpeer.a
%C%_libpeer_a_SOURCES = \
	%D%/call.c \
	%D%/council.c %D%/council.h \
	%D%/directory.c %D%/directory.h \
	%D%/enrol.c %D%/enrol.h %D%/enrol_internal.h \
	%D%/enrol_server.c \
	%D%/frame.c %D%/frame.h \
	%D%/gossip.c \
	%D%/hello.c \
	%D%/internal.h \
	%D%/join.c \
	%D%/link.c \
	%D%/peer.c %D%/peer.h \
	%D%/pipe.c \
	%D%/pool.c \
	%D%/server.c \
	%D%/sp.c %D%/sp.h %D%/sp_internal.h \
	%D%/sp_pipe.c \
	%D%/tls_engine.c %D%/tls_engine.h \
	%D%/token.c \
	%D%/transfer.c %D%/transfer.h %D%/transfer_message.c
PEER_LIBS = %D%/libpeer.a $(STORE_LIBS) $(NNG_LIBS) $(UV_LIBS)
