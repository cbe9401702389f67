/* Progress on standard error: a bar with rate and time left on a terminal, or plain lines; nothing
 * elsewhere. Among lines, a text that begins with ~ is shown on terminals only, until the next one. Threads: one. */
#ifndef CONCORDAT_NODE_CLI_PROGRESS_H
#define CONCORDAT_NODE_CLI_PROGRESS_H

#include <stdio.h>

#include "proto/control.h"

struct cli_progress {
    FILE *to;
    bool bar;
    bool lines;
    bool drawn;
    uint64_t start_ms;
    uint64_t last_ms;
    char last[256];
};

/* BAR draws only where TO is a terminal. */
void cli_progress_init(struct cli_progress *p, FILE *to, bool bar, bool lines, uint64_t now_ms);
void cli_progress_show(struct cli_progress *p, const struct proto_control_progress *progress,
                       uint64_t now_ms);
/* Clears the bar, so that the answer stands alone. */
void cli_progress_end(struct cli_progress *p);

/* The line without escapes: "reading a.csv [#####.....]  50 %  12.0 MiB/s  3 s left". */
void cli_progress_line(const struct proto_control_progress *progress, uint64_t elapsed_ms, char *to,
                       size_t size);

#endif
