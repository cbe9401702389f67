#include "config.h"
#include "node/control/call.h"

#include "node/query/admission.h"
#include "node/query/site.h"
#include "proto/time.h"
#include "store/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

const char *control_text(struct control_call *call, const char *name)
{
    struct span value = proto_control_value(call->request, name);
    return value.ptr ? arena_strdup(&call->arena, value) : NULL;
}

double control_number(struct control_call *call, const char *name, double fallback)
{
    const char *text = control_text(call, name);
    return text ? strtod(text, NULL) : fallback; /* its form was checked by the table */
}

bool control_flag(struct control_call *call, const char *name)
{
    return proto_control_value(call->request, name).ptr != NULL;
}

uint64_t control_duration_ms(struct control_call *call, const char *name, uint64_t fallback)
{
    uint64_t ms;
    struct span value = proto_control_value(call->request, name);
    return value.ptr && proto_duration_parse(value, &ms) ? ms : fallback;
}

int64_t control_since(struct control_call *call)
{
    const char *text = control_text(call, "--since");
    int64_t since = 0;
    return text && proto_time_parse_since(text, &since) ? since : 0;
}

enum err control_list(struct control_call *call, const char *name, const char **to, size_t cap,
                      size_t *ret_count, struct err_info *reterr)
{
    const char *text = control_text(call, name);
    *ret_count = 0;
    while (text && *text) {
        size_t len = strcspn(text, ",");
        if (len && *ret_count == cap) {
            return proto_err_set(reterr, E_USAGE, "%s takes at most %zu names", name, cap);
        }
        const char *item = arena_strdup(&call->arena, span_of(text, len));
        if (!item) {
            return proto_err_set(reterr, E_NO_MEMORY, "%s", name);
        }
        if (len) {
            to[(*ret_count)++] = item;
        }
        text += len + (text[len] == ',');
    }
    return E_OK;
}

/* The command sends nothing after its request but CANCEL; so anything readable, or the end, means stop. */
static void look(struct control_call *call)
{
    struct pollfd poll_for = {.fd = call->socket, .events = POLLIN | POLLRDHUP};
    if (!call->cancelled && poll(&poll_for, 1, 0) > 0) {
        call->cancelled = true;
    }
}

bool control_cancelled(void *user)
{
    struct control_call *call = user;
    look(call);
    return call->cancelled || call->node->stopping;
}

void control_progress(struct control_call *call, const char *text, uint64_t done, uint64_t total)
{
    struct buf frame = {.max = 4096};
    struct proto_control_progress progress = {span_str(text), done, total};
    if (!call->cancelled && proto_control_encode_progress(&progress, &frame, NULL) == E_OK) {
        /* A slow terminal loses progress, never the result. */
        ssize_t sent = send(call->socket, frame.ptr, frame.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0 && (size_t)sent < frame.len) {
            (void)!send(call->socket, frame.ptr + sent, frame.len - (size_t)sent, MSG_NOSIGNAL);
        }
    }
    buf_fini(&frame);
    look(call);
}

static bool may_read(const struct control_call *call, const struct stat *st)
{
    if (call->uid == 0) {
        return true;
    }
    if (st->st_uid == call->uid) {
        return st->st_mode & S_IRUSR;
    }
    return st->st_gid == call->gid ? st->st_mode & S_IRGRP : st->st_mode & S_IROTH;
}

int control_open(struct control_call *call, const char *path, struct err_info *reterr)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        enum err err = errno == ENOENT || errno == ENOTDIR ? E_NOT_FOUND
                       : errno == EACCES                   ? E_INVALID /* to the daemon's user */
                                                           : E_IO;
        (void)!proto_err_set(reterr, err, "%s: %s", path, strerror(errno));
        return -1;
    }
    enum err err = E_OK;
    if (fstat(fd, &st) != 0 || !may_read(call, &st)) {
        err = proto_err_set(reterr, E_ROLE, "%s: not a file that you may read", path);
    } else if (!S_ISREG(st.st_mode)) {
        err = proto_err_set(reterr, E_INVALID, "%s: not a regular file", path);
    }
    if (err) {
        close(fd);
        return -1;
    }
    return fd;
}

enum err control_read(struct control_call *call, const char *path, size_t max, struct buf *to,
                      struct err_info *reterr)
{
    int fd = control_open(call, path, reterr);
    if (fd < 0) {
        return reterr->code;
    }
    to->max = max;
    enum err err = E_OK;
    for (;;) {
        err = buf_reserve(to, 4096);
        ssize_t got = err ? -1 : read(fd, to->ptr + to->len, to->cap - to->len);
        if (got <= 0) {
            err = err ? proto_err_set(reterr, err, "%s: too long", path)
                      : (got < 0 ? proto_err_set(reterr, E_IO, "%s: cannot be read", path) : E_OK);
            break;
        }
        to->len += (size_t)got;
    }
    close(fd);
    return err;
}

enum err control_audit(struct control_call *call, const char *kind, struct err_info *reterr, ...)
{
    json_t *body = json_pack("{s:s}", "person", call->person);
    va_list args;
    va_start(args, reterr);
    const char *key;
    while ((key = va_arg(args, const char *)) != NULL) {
        const char *value = va_arg(args, const char *);
        json_object_set_new(body, key, json_string(value ? value : ""));
    }
    va_end(args);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!text) {
        return E_NO_MEMORY;
    }
    enum err err =
        store_audit_append(&call->node->store, kind, span_str(text), query_now(), reterr);
    free(text);
    return err;
}

json_t *control_json_time(int64_t unix_s)
{
    char text[PROTO_TIME_SIZE];
    return unix_s > 0 ? json_string(proto_time_format(unix_s, text)) : json_null();
}

json_t *control_json_hex(const void *bytes, size_t len)
{
    char text[129];
    if (len > 64) {
        return json_null();
    }
    span_to_hex(span_of(bytes, len), text);
    return json_string(text);
}

json_t *control_json_span(struct span text)
{
    return text.ptr ? json_stringn((const char *)text.ptr, text.len) : json_null();
}

json_t *control_json_texts(const struct proto_list *texts)
{
    json_t *array = json_array();
    const struct proto_text *items = texts->items;
    for (size_t i = 0; i < texts->count; i++) {
        json_array_append_new(array, control_json_span(items[i].text));
    }
    return array;
}

json_t *control_json_nano(uint64_t nano)
{
    return json_real((double)nano / 1e9);
}
