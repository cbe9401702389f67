/* Errors of all floors: one table of codes with their text, class and exit code.
 *
 *     enum err err = store_partition_open(env, name, key, &partition, reterr);
 *     if (err) { proto_err_frame(reterr, "opening dataset %s", name); return err; }
 *
 * Libraries return a code and, through the optional last argument, a text for people. They never print.
 * No key material and no record contents may stand in a text. Threads: an err_info belongs to its caller. */
#ifndef CONCORDAT_PROTO_ERR_H
#define CONCORDAT_PROTO_ERR_H

#include <stdarg.h>
#include <stddef.h>

/* What a caller may branch on, rather than on single codes. */
enum err_kind {
    ERR_KIND_NONE,
    ERR_KIND_BUG,       /* ours; exit 1 */
    ERR_KIND_USAGE,     /* the command was wrong; exit 2 */
    ERR_KIND_MISSING,   /* exit 3 */
    ERR_KIND_POLICY,    /* refused by licence, role or approval; exit 4 */
    ERR_KIND_BUDGET,    /* exit 5 */
    ERR_KIND_PEER,      /* too few or unreachable; exit 6 */
    ERR_KIND_INPUT,     /* bad data or file; exit 7 */
    ERR_KIND_INTEGRITY, /* authentication or integrity failed; exit 8 */
    ERR_KIND_BUSY,      /* try again; exit 9 */
};

/* code, name told to people and machines, class, exit code, text */
#define PROTO_ERRORS(X)                                                                            \
    X(E_OK, "OK", NONE, 0, "done")                                                                 \
    X(E_INTERNAL, "INTERNAL", BUG, 1, "internal fault")                                            \
    X(E_NO_MEMORY, "NO_MEMORY", BUG, 1, "out of memory")                                           \
    X(E_IO, "IO", BUG, 1, "reading or writing failed")                                             \
    X(E_DISK_FULL, "DISK_FULL", BUG, 1, "the disk is full")                                        \
    X(E_USAGE, "USAGE", USAGE, 2, "wrong usage")                                                   \
    X(E_QUERY, "QUERY", USAGE, 2, "the query cannot be understood")                                \
    X(E_NOT_FOUND, "NOT_FOUND", MISSING, 3, "not found")                                           \
    X(E_EXISTS, "EXISTS", USAGE, 2, "it exists already")                                           \
    X(E_REFUSED, "REFUSED", POLICY, 4, "refused")                                                  \
    X(E_ROLE, "ROLE", POLICY, 4, "this person's role does not allow it")                           \
    X(E_APPROVAL, "APPROVAL", POLICY, 4, "it waits for an approval")                               \
    X(E_UNSUPPORTED, "UNSUPPORTED", POLICY, 4, "this version cannot honour it")                    \
    X(E_BUDGET_EXHAUSTED, "BUDGET_EXHAUSTED", BUDGET, 5, "the privacy budget does not cover it")   \
    X(E_UNREACHABLE, "UNREACHABLE", PEER, 6, "too few peers answered")                             \
    X(E_TIMEOUT, "TIMEOUT", PEER, 6, "the deadline passed")                                        \
    X(E_INVALID, "INVALID", INPUT, 7, "the input is not valid")                                    \
    X(E_LIMIT, "LIMIT", INPUT, 7, "the input exceeds a limit")                                     \
    X(E_TRUNCATED, "TRUNCATED", INPUT, 7, "the input ends too early")                              \
    X(E_SCHEMA, "SCHEMA", INPUT, 7, "the schema does not fit")                                     \
    X(E_CORRUPT, "CORRUPT", INTEGRITY, 8, "stored data is damaged")                                \
    X(E_AUTH, "AUTH", INTEGRITY, 8, "authentication failed")                                       \
    X(E_ROLLBACK, "ROLLBACK", INTEGRITY, 8, "stored data is older than it must be")                \
    X(E_FORKED, "FORKED", INTEGRITY, 8, "its issuer signed two versions")                          \
    X(E_BUSY, "BUSY", BUSY, 9, "temporarily busy")                                                 \
    X(E_NO_DAEMON, "NO_DAEMON", BUSY, 9, "no daemon is running for this home")                     \
    X(E_CANCELLED, "CANCELLED", BUSY, 9, "cancelled")                                              \
    X(E_CLOCK, "CLOCK", BUSY, 9, "the clock cannot be trusted")

enum err {
#define X(code, name, kind, exit_code, text) code,
    PROTO_ERRORS(X)
#undef X
    ERR_COUNT
};

#define MUST_CHECK               __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

/* Detail for people: the innermost cause first, then the frames added on the way up ("while ..."). */
struct err_info {
    enum err code;
    char text[480];
};

const char *proto_err_name(enum err code);
const char *proto_err_text(enum err code);
enum err_kind proto_err_kind(enum err code);
const char *proto_err_kind_name(enum err_kind kind);
int proto_err_exit(enum err code);
/* The code with this name; E_INTERNAL when there is none. */
enum err proto_err_by_name(const char *name);

/* Sets the detail and returns CODE, so that `return proto_err_set(reterr, E_X, "...")` is one line. reterr may be NULL. */
enum err proto_err_set(struct err_info *reterr, enum err code, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* Adds a frame of context to a detail that is already there. */
void proto_err_frame(struct err_info *reterr, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
