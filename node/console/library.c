#include "config.h"
#include "node/console/library.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libmicrohttpd.so.12"

/* A data pointer becomes a function pointer by its bytes, as POSIX says of dlsym. */
static bool find(void *handle, const char *name, void *to)
{
    void *found = dlsym(handle, name);
    memcpy(to, &found, sizeof found);
    return found != NULL;
}

enum err console_library_load(const struct console_library **ret, struct err_info *reterr)
{
    static struct console_library library;
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    bool whole = handle && find(handle, "MHD_start_daemon", &library.start_daemon) &&
                 find(handle, "MHD_stop_daemon", &library.stop_daemon) &&
                 find(handle, "MHD_get_daemon_info", &library.get_daemon_info) &&
                 find(handle, "MHD_create_response_from_buffer", &library.response_from_buffer) &&
                 find(handle, "MHD_add_response_header", &library.add_header) &&
                 find(handle, "MHD_queue_response", &library.queue_response) &&
                 find(handle, "MHD_destroy_response", &library.destroy_response) &&
                 find(handle, "MHD_lookup_connection_value", &library.lookup) &&
                 find(handle, "MHD_set_connection_option", &library.set_option) &&
                 find(handle, "MHD_get_connection_values", &library.each_value);
    if (!whole) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "console: %s cannot be loaded; install the Debian package "
                             "libmicrohttpd12, or take console: out of node.yaml",
                             LIBRARY);
    }
    *ret = &library; /* stays for the life of the process */
    return E_OK;
}
