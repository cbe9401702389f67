#include "config.h"
#include "node/daemon/log.h"

#include "proto/time.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static _Atomic int least_level = DAEMON_INFO;
static char node_name[65];

void daemon_log_level(enum daemon_level least)
{
    least_level = least;
}

void daemon_log_node(const char *name)
{
    snprintf(node_name, sizeof node_name, "%s", name);
}

void daemon_log(enum daemon_level level, const char *event, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < least_level) {
        return;
    }
    char detail[1024];
    char when[PROTO_TIME_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    json_t *line =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "time", proto_time_format((int64_t)time(NULL), when),
                  "level", names[level], "node", node_name, "event", event, "detail", detail);
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (text) {
        dprintf(STDERR_FILENO, "%s\n", text); /* one write, so that lines of threads do not mix */
    }
    free(text);
}
