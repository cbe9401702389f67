#include "config.h"
#include "node/source/libpq.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libpq.so.5"

static struct libpq functions;
static bool loaded;
static const char *lacking; /* a function that is not there */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What dlsym gives is data to C; POSIX grants that it is a function, copied as bytes. */
static void find(void *library, const char *name, void *to)
{
    void *symbol = dlsym(library, name);
    memcpy(to, &symbol, sizeof symbol);
    lacking = symbol ? lacking : name;
}

static void load(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); /* stays: it has state of its own */
    if (!library) {
        return;
    }
#define X(name) find(library, "PQ" #name, &functions.name);
    LIBPQ_FUNCTIONS(X)
#undef X
    loaded = !lacking;
}

enum err source_libpq(const struct libpq **ret, struct err_info *reterr)
{
    pthread_once(&once, load);
    *ret = &functions;
    return loaded    ? E_OK
           : lacking ? proto_err_set(reterr, E_UNSUPPORTED, "%s has no %s: it is too old", LIBRARY,
                                     lacking)
                     : proto_err_set(reterr, E_UNSUPPORTED,
                                     "%s is not installed, which reads PostgreSQL: install the "
                                     "Debian package libpq5",
                                     LIBRARY);
}
