#include "config.h"
#include "node/source/postgres.h"

#ifdef HAVE_LIBPQ
#include "crypto/memory.h"
#include "node/source/copy_row.h"
#include "node/source/libpq.h"
#include "proto/alloc.h"

#include <poll.h>
#include <stdio.h>

#define WAIT_MS    200   /* between two looks at whether somebody cancelled */
#define CONNECT_MS 30000 /* the whole of connecting */

struct reader {
    struct store_source base;
    const struct libpq *pq;
    PGconn *conn;
    bool (*cancelled)(void *user);
    void *user;
    PGresult *columns; /* whose names the header points into */
    struct store_field *header;
    struct store_field *fields;
    char *row; /* of the library; fields point into it, unescaped in place */
    int row_len;
    bool flows; /* a query is under way */
    uint64_t rows;
};

/* --- what is said ---------------------------------------------------------------------------- */

/* The first line of TEXT, which ends in a newline, without control characters. */
static void first_line(const char *text, char to[200])
{
    size_t len = strcspn(text ? text : "", "\n");
    len = len < 199 ? len : 199;
    memcpy(to, text ? text : "", len);
    to[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        to[i] = (unsigned char)to[i] < 0x20 ? ' ' : to[i];
    }
}

static enum err server_says(struct reader *reader, enum err err, const char *doing,
                            struct err_info *reterr)
{
    char line[200];
    first_line(reader->pq->errorMessage(reader->conn), line);
    return proto_err_set(reterr, err, "%s: %s", doing, line);
}

/* Without the server's text, which may quote a value. */
static enum err query_failed(struct reader *reader, const PGresult *result, struct err_info *reterr)
{
    const char *state = result ? reader->pq->resultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    bool lost = reader->pq->status(reader->conn) == CONNECTION_BAD;
    return proto_err_set(reterr, lost ? E_UNREACHABLE : E_INVALID,
                         "the database ended the query after %llu rows (SQLSTATE %s); its log says "
                         "why",
                         (unsigned long long)reader->rows, state ? state : "unknown");
}

/* The server's notices would go to standard error, which is the daemon's log. */
static void no_notice(void *user, const char *text)
{
    (void)user;
    (void)text;
}

/* --- waiting --------------------------------------------------------------------------------- */

/* Until the socket is ready for EVENTS, or a while has passed. */
static enum err wait_for(struct reader *reader, short events, struct err_info *reterr)
{
    struct pollfd poll_for = {.fd = reader->pq->socket(reader->conn), .events = events};
    (void)poll(&poll_for, 1, WAIT_MS);
    return reader->cancelled && reader->cancelled(reader->user)
               ? proto_err_set(reterr, E_CANCELLED, "the import was cancelled")
               : E_OK;
}

/* The next result of the query under way; NULL: there is none. */
static enum err next_result(struct reader *reader, PGresult **ret, struct err_info *reterr)
{
    while (reader->pq->isBusy(reader->conn)) {
        enum err err = wait_for(reader, POLLIN, reterr);
        if (err) {
            return err;
        }
        if (!reader->pq->consumeInput(reader->conn)) {
            return query_failed(reader, NULL, reterr);
        }
    }
    *ret = reader->pq->getResult(reader->conn);
    return E_OK;
}

/* --- connecting ------------------------------------------------------------------------------ */

/* Secrets in a manifest would lie in files, copies and catalogues. What libpq says of a string that it cannot parse may quote
 * it, so that is not told. */
static enum err check_connection(struct reader *reader, const char *connection,
                                 struct err_info *reterr)
{
    char *fault = NULL;
    PQconninfoOption *options = reader->pq->conninfoParse(connection, &fault);
    bool secret = false;
    for (const PQconninfoOption *o = options; o && o->keyword; o++) {
        secret = secret ||
                 (o->val && o->val[0] &&
                  (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0));
    }
    bool parsed = options != NULL;
    reader->pq->conninfoFree(options);
    reader->pq->freemem(fault);
    if (!parsed) {
        return proto_err_set(reterr, E_INVALID,
                             "database.connection is neither KEY=VALUE pairs nor a postgresql:// "
                             "URI, as PostgreSQL's manual has them under \"Connection Strings\"");
    }
    return secret ? proto_err_set(reterr, E_INVALID,
                                  "database.connection holds a password: use service=NAME or "
                                  "passfile=FILE, which only the daemon's user can read")
                  : E_OK;
}

static enum err connect_to(struct reader *reader, const char *connection, struct err_info *reterr)
{
    const char *keywords[] = {"dbname", "client_encoding", "fallback_application_name", NULL};
    const char *values[] = {connection, "UTF8", "concordat", NULL};
    reader->conn = reader->pq->connectStartParams(keywords, values, 1);
    if (!reader->conn) {
        return proto_err_set(reterr, E_NO_MEMORY, "connecting to the database");
    }
    reader->pq->setNoticeProcessor(reader->conn, no_notice, NULL);
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    for (unsigned waited = 0; state != PGRES_POLLING_OK; waited += WAIT_MS) {
        if (state == PGRES_POLLING_FAILED || reader->pq->status(reader->conn) == CONNECTION_BAD) {
            return server_says(reader, E_UNREACHABLE, "the database", reterr);
        }
        if (waited > CONNECT_MS) {
            return proto_err_set(reterr, E_UNREACHABLE, "the database did not answer within 30 s");
        }
        enum err err = wait_for(reader, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, reterr);
        if (err) {
            return err;
        }
        state = reader->pq->connectPoll(reader->conn);
    }
    return E_OK;
}

/* --- the query ------------------------------------------------------------------------------- */

static enum err command(struct reader *reader, const char *sql, const char *doing,
                        struct err_info *reterr)
{
    PGresult *result = reader->pq->exec(reader->conn, sql);
    bool good = reader->pq->resultStatus(result) == PGRES_COMMAND_OK;
    reader->pq->clear(result);
    return good ? E_OK : server_says(reader, E_INVALID, doing, reterr);
}

/* All rows as they stood at one moment, texts of dates as ISO 8601 has them, and nothing can be changed. */
static enum err begin(struct reader *reader, const char *schema, struct err_info *reterr)
{
    enum err err = command(reader,
                           "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; "
                           "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 1",
                           "beginning to read the database", reterr);
    if (err || !schema) {
        return err;
    }
    char *quoted = reader->pq->escapeIdentifier(reader->conn, schema, strlen(schema));
    struct buf sql = {.max = 512};
    err = quoted ? buf_printf(&sql, "SET LOCAL search_path = %s", quoted) : E_INVALID;
    err = err ? err : buf_put(&sql, span_of("", 1));
    err = err ? proto_err_set(reterr, err, "database.schema is no name")
              : command(reader, (const char *)sql.ptr, "database.schema", reterr);
    reader->pq->freemem(quoted);
    buf_fini(&sql);
    return err;
}

static enum err take_columns(struct reader *reader, struct err_info *reterr)
{
    int count = reader->pq->nfields(reader->columns);
    if (count <= 0) {
        return proto_err_set(reterr, E_INVALID, "the mapping's query gives no columns");
    }
    reader->header = proto_alloc((size_t)count, sizeof *reader->header);
    reader->fields = proto_alloc((size_t)count, sizeof *reader->fields);
    if (!reader->header || !reader->fields) {
        return proto_err_set(reterr, E_NO_MEMORY, "preparing the query");
    }
    for (int i = 0; i < count; i++) {
        const char *name = reader->pq->fname(reader->columns, i);
        reader->header[i] = (struct store_field){.text = name, .len = strlen(name)};
    }
    reader->base.header = reader->header;
    reader->base.header_count = (size_t)count;
    return E_OK;
}

/* Prepared, a query is one statement, and its columns have names before a row is read. */
static enum err describe(struct reader *reader, const char *query, struct err_info *reterr)
{
    PGresult *prepared = reader->pq->prepare(reader->conn, "", query, 0, NULL);
    bool good = reader->pq->resultStatus(prepared) == PGRES_COMMAND_OK;
    reader->pq->clear(prepared);
    if (!good) {
        return server_says(reader, E_INVALID, "the mapping's query", reterr);
    }
    reader->columns = reader->pq->describePrepared(reader->conn, "");
    return reader->pq->resultStatus(reader->columns) == PGRES_COMMAND_OK
               ? take_columns(reader, reterr)
               : server_says(reader, E_INVALID, "the mapping's query", reterr);
}

static enum err start(struct reader *reader, const char *query, struct err_info *reterr)
{
    struct buf sql = {.max = 70000};
    size_t len = strlen(query);
    while (len && strchr(" \t\r\n;", query[len - 1])) {
        len--;
    }
    /* A comment may end the query, so the bracket stands on a line of its own. */
    enum err err = buf_printf(&sql, "COPY (\n%.*s\n) TO STDOUT", (int)len, query);
    err = err ? err : buf_put(&sql, span_of("", 1));
    if (err) {
        buf_fini(&sql);
        return proto_err_set(reterr, err, "the mapping's query is too long");
    }
    reader->flows = reader->pq->sendQuery(reader->conn, (const char *)sql.ptr) == 1;
    buf_fini(&sql);
    PGresult *result = NULL;
    err = reader->flows ? next_result(reader, &result, reterr) : query_failed(reader, NULL, reterr);
    if (!err && reader->pq->resultStatus(result) != PGRES_COPY_OUT) {
        err = query_failed(reader, result, reterr);
    }
    reader->pq->clear(result);
    return err;
}

/* --- rows ------------------------------------------------------------------------------------ */

static void drop_row(struct reader *reader)
{
    if (reader->row) {
        crypto_wipe(reader->row, (size_t)reader->row_len);
        reader->pq->freemem(reader->row);
        reader->row = NULL;
    }
}

/* The query ended: well, or the rows so far are not all. */
static enum err finish(struct reader *reader, struct err_info *reterr)
{
    PGresult *result = NULL;
    enum err err = next_result(reader, &result, reterr);
    if (!err && reader->pq->resultStatus(result) != PGRES_COMMAND_OK) {
        err = query_failed(reader, result, reterr);
    }
    reader->pq->clear(result);
    reader->flows = false;
    return err;
}

static enum err next_row(struct store_source *source, struct store_row *ret,
                         struct err_info *reterr)
{
    struct reader *reader = (struct reader *)source;
    memset(ret, 0, sizeof *ret);
    drop_row(reader);
    while ((reader->row_len = reader->pq->getCopyData(reader->conn, &reader->row, 1)) == 0) {
        enum err err = wait_for(reader, POLLIN, reterr);
        if (!err && !reader->pq->consumeInput(reader->conn)) {
            err = query_failed(reader, NULL, reterr);
        }
        if (err) {
            return err;
        }
    }
    if (reader->row_len < 0) {
        reader->row = NULL;
        ret->end = reader->row_len == -1;
        return ret->end ? finish(reader, reterr) : query_failed(reader, NULL, reterr);
    }
    reader->base.bytes_plain += (uint64_t)reader->row_len;
    reader->base.bytes_done = reader->base.bytes_plain;
    ret->line = ++reader->rows;
    size_t at = 0;
    ret->fault = source_copy_row(reader->row, (size_t)reader->row_len, reader->fields,
                                 reader->base.header_count, &at);
    ret->fault_column = ret->fault ? reader->header[at].text : NULL;
    ret->fields = reader->fields;
    ret->count = reader->base.header_count;
    return E_OK;
}

/* --- opening --------------------------------------------------------------------------------- */

static void cancel_query(struct reader *reader)
{
    char ignored[256];
    PGcancel *cancel = reader->pq->getCancel(reader->conn);
    if (cancel) {
        (void)reader->pq->cancel(cancel, ignored, sizeof ignored);
        reader->pq->freeCancel(cancel);
    }
}

static void free_reader(struct store_source *source)
{
    struct reader *reader = (struct reader *)source;
    if (!reader) {
        return;
    }
    drop_row(reader);
    if (reader->flows) {
        cancel_query(reader); /* the server would go on for nobody */
    }
    if (reader->columns) {
        reader->pq->clear(reader->columns);
    }
    if (reader->conn) {
        reader->pq->finish(reader->conn);
    }
    proto_free(reader->header);
    proto_free(reader->fields);
    proto_free(reader);
}

enum err source_postgres_open(const struct source_postgres_options *options,
                              struct store_source **ret, struct err_info *reterr)
{
    struct reader *reader = proto_alloc(1, sizeof *reader);
    if (!reader) {
        return proto_err_set(reterr, E_NO_MEMORY, "opening the database");
    }
    reader->base.next = next_row;
    reader->base.free = free_reader;
    reader->cancelled = options->cancelled;
    reader->user = options->user;
    enum err err = source_libpq(&reader->pq, reterr);
    err = err ? err : check_connection(reader, options->connection, reterr);
    err = err ? err : connect_to(reader, options->connection, reterr);
    err = err ? err : begin(reader, options->schema, reterr);
    err = err ? err : describe(reader, options->query, reterr);
    err = err ? err : start(reader, options->query, reterr);
    if (err) {
        free_reader(&reader->base);
        return err;
    }
    *ret = &reader->base;
    return E_OK;
}
#else
enum err source_postgres_open(const struct source_postgres_options *options,
                              struct store_source **ret, struct err_info *reterr)
{
    (void)options;
    (void)ret;
    return proto_err_set(
        reterr, E_UNSUPPORTED,
        "this build reads no PostgreSQL: it was made without libpq (Debian package "
        "libpq-dev)");
}
#endif
