/* The daemon's log: one JSON object a line on standard error. No record, key or query constant may be passed to it.
 * Threads: any; a line is written whole. */
#ifndef CONCORDAT_NODE_DAEMON_LOG_H
#define CONCORDAT_NODE_DAEMON_LOG_H

enum daemon_level {
    DAEMON_DEBUG,
    DAEMON_INFO,
    DAEMON_WARN,
    DAEMON_ERROR,
};

void daemon_log_level(enum daemon_level least);
void daemon_log_node(const char *name);
void daemon_log(enum daemon_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
