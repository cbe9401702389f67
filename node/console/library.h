/* libmicrohttpd, loaded at first use: it brings a TLS library with it that most nodes never need in memory.
 *
 *     const struct console_library *http;
 *     err = console_library_load(&http, reterr);
 *     http->queue_response(...);
 *
 * Threads: load on the main thread; the table is constant then. */
#ifndef CONCORDAT_NODE_CONSOLE_LIBRARY_H
#define CONCORDAT_NODE_CONSOLE_LIBRARY_H

#include "proto/err.h"

#include <microhttpd.h>

struct console_library {
    struct MHD_Daemon *(*start_daemon)(unsigned int flags, uint16_t port,
                                       MHD_AcceptPolicyCallback accept, void *accept_user,
                                       MHD_AccessHandlerCallback handler, void *handler_user, ...);
    void (*stop_daemon)(struct MHD_Daemon *daemon);
    const union MHD_DaemonInfo *(*get_daemon_info)(struct MHD_Daemon *daemon,
                                                   enum MHD_DaemonInfoType type, ...);
    struct MHD_Response *(*response_from_buffer)(size_t size, void *bytes,
                                                 enum MHD_ResponseMemoryMode mode);
    enum MHD_Result (*add_header)(struct MHD_Response *response, const char *name,
                                  const char *value);
    enum MHD_Result (*queue_response)(struct MHD_Connection *connection, unsigned int status,
                                      struct MHD_Response *response);
    void (*destroy_response)(struct MHD_Response *response);
    const char *(*lookup)(struct MHD_Connection *connection, enum MHD_ValueKind kind,
                          const char *name);
    enum MHD_Result (*set_option)(struct MHD_Connection *connection,
                                  enum MHD_CONNECTION_OPTION option, ...);
    int (*each_value)(struct MHD_Connection *connection, enum MHD_ValueKind kind,
                      MHD_KeyValueIterator each, void *user);
};

/* Errors: E_UNSUPPORTED it is not installed; the text names the package. */
MUST_CHECK enum err console_library_load(const struct console_library **ret,
                                         struct err_info *reterr);

#endif
