/* libpq, PostgreSQL's client library, loaded when a database is first read from: an idle daemon has nothing of it in memory, and
 * a machine without it runs everything else.
 *
 *     const struct libpq *pq;
 *     err = source_libpq(&pq, reterr);
 *     PGconn *conn = pq->connectStartParams(keywords, values, 1);
 *
 * Threads: any. */
#ifndef CONCORDAT_NODE_SOURCE_LIBPQ_H
#define CONCORDAT_NODE_SOURCE_LIBPQ_H

#include "proto/err.h"

#include <libpq-fe.h>

#define LIBPQ_FUNCTIONS(X)                                                                         \
    X(clear)                                                                                       \
    X(cancel)                                                                                      \
    X(connectPoll)                                                                                 \
    X(connectStartParams)                                                                          \
    X(conninfoFree)                                                                                \
    X(conninfoParse)                                                                               \
    X(consumeInput)                                                                                \
    X(describePrepared)                                                                            \
    X(errorMessage)                                                                                \
    X(escapeIdentifier)                                                                            \
    X(exec)                                                                                        \
    X(finish)                                                                                      \
    X(fname)                                                                                       \
    X(freeCancel)                                                                                  \
    X(freemem)                                                                                     \
    X(getCancel)                                                                                   \
    X(getCopyData)                                                                                 \
    X(getResult)                                                                                   \
    X(isBusy)                                                                                      \
    X(nfields)                                                                                     \
    X(prepare)                                                                                     \
    X(resultErrorField)                                                                            \
    X(resultStatus)                                                                                \
    X(sendQuery)                                                                                   \
    X(setNoticeProcessor)                                                                          \
    X(socket)                                                                                      \
    X(status)

struct libpq {
#define X(name) __typeof__(PQ##name) *name;
    LIBPQ_FUNCTIONS(X)
#undef X
};

/* Errors: E_UNSUPPORTED it is not installed, or too old. */
MUST_CHECK enum err source_libpq(const struct libpq **ret, struct err_info *reterr);

#endif
