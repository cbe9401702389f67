#include "config.h"
#include "node/cli/progress.h"

#include <unistd.h>

#define BAR_CELLS  24u
#define BAR_GAP_MS 100u

void cli_progress_init(struct cli_progress *p, FILE *to, bool bar, bool lines, uint64_t now_ms)
{
    *p = (struct cli_progress){
        .to = to, .bar = bar && !lines && isatty(fileno(to)), .lines = lines, .start_ms = now_ms};
}

/* "bytes" or "seconds" after the last comma of the text is the unit of done and total. */
static bool counts(struct span text, const char *suffix, size_t *len)
{
    size_t more = strlen(suffix);
    bool yes = text.len > more && memcmp(text.ptr + text.len - more, suffix, more) == 0;
    *len = yes ? text.len - more : *len;
    return yes;
}

void cli_progress_line(const struct proto_control_progress *progress, uint64_t elapsed_ms, char *to,
                       size_t size)
{
    size_t len = progress->text.len;
    bool bytes = counts(progress->text, ", bytes", &len);
    bool time = counts(progress->text, ", seconds", &len);
    double seconds = (double)elapsed_ms / 1000;
    double rate = seconds > 0.5 ? (double)progress->done / seconds : 0;
    int used =
        snprintf(to, size, "%.*s", (int)(len > 200 ? 200 : len), (const char *)progress->text.ptr);
    if (progress->total > 0 && used > 0 && (size_t)used < size) {
        double part = (double)progress->done / (double)progress->total;
        part = part > 1 ? 1 : part;
        char bar[BAR_CELLS + 1];
        for (size_t i = 0; i < BAR_CELLS; i++) {
            bar[i] = (double)i < part * BAR_CELLS ? '#' : '.';
        }
        bar[BAR_CELLS] = 0;
        used += snprintf(to + used, size - (size_t)used, " [%s] %3.0f %%", bar, part * 100);
    }
    if (rate > 0 && !time && used > 0 && (size_t)used < size) {
        used += bytes ? snprintf(to + used, size - (size_t)used, "  %.1f MiB/s", rate / 1048576)
                      : snprintf(to + used, size - (size_t)used, "  %.1f/s", rate);
    }
    if (rate > 0 && progress->total > progress->done && used > 0 && (size_t)used < size) {
        snprintf(to + used, size - (size_t)used, "  %.0f s left",
                 (double)(progress->total - progress->done) / rate);
    }
    for (char *c = to; *c; c++) {
        *c = (unsigned char)*c < 0x20 || *c == 0x7F ? '?' : *c; /* texts may come from elsewhere */
    }
}

void cli_progress_show(struct cli_progress *p, const struct proto_control_progress *progress,
                       uint64_t now_ms)
{
    char line[256];
    if (p->lines && progress->text.len && progress->text.ptr[0] == '~') {
        if (isatty(fileno(p->to))) {
            struct proto_control_progress plain = {
                .text = span_of(progress->text.ptr + 1, progress->text.len - 1)};
            cli_progress_line(&plain, 0, line, sizeof line);
            fprintf(p->to, "\r%s\033[K", line);
            fflush(p->to);
            p->drawn = true;
        }
        return;
    }
    if (p->lines) {
        cli_progress_end(p);
        struct proto_control_progress plain = {.text = progress->text};
        cli_progress_line(&plain, 0, line, sizeof line);
        if (strcmp(line, p->last) != 0 && line[0]) {
            fprintf(p->to, "%s\n", line);
            memcpy(p->last, line, sizeof line);
        }
        return;
    }
    if (!p->bar || (p->drawn && now_ms - p->last_ms < BAR_GAP_MS)) {
        return;
    }
    cli_progress_line(progress, now_ms - p->start_ms, line, sizeof line);
    fprintf(p->to, "\r%s\033[K", line);
    fflush(p->to);
    p->drawn = true;
    p->last_ms = now_ms;
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->drawn) {
        fputs("\r\033[K", p->to);
        fflush(p->to);
        p->drawn = false;
    }
}
