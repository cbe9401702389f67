/* Tells people what falls due: in the log and through the program of notify:, 30, 7 and 1 days ahead and on the day. */
#include "config.h"
#include "node/daemon/start.h"

#include "node/daemon/log.h"
#include "node/daemon/notify.h"
#include "node/query/reminder.h"
#include "node/query/site.h"
#include "proto/time.h"

#include <stdio.h>

#define TOLD_MAX 256

/* What was told already in this life of the process; a restart tells the present step once more. */
struct told {
    uint64_t hash;
    int step;
};
static struct told told[TOLD_MAX];
static size_t told_count;

/* 0: not yet; then 1 to 4 as the day comes nearer. */
static int step_of(int64_t due, int64_t now)
{
    static const int64_t ahead_s[] = {30 * 86400, 7 * 86400, 86400, 0};
    int step = 0;
    for (int i = 0; i < 4; i++) {
        step = now >= due - ahead_s[i] ? i + 1 : step;
    }
    return step;
}

static uint64_t hash_of(const struct query_reminder *reminder)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    const char *texts[] = {reminder->what, reminder->id, reminder->name};
    for (size_t i = 0; i < 3; i++) {
        for (const char *at = texts[i]; *at; at++) {
            hash = (hash ^ (uint8_t)*at) * UINT64_C(1099511628211);
        }
    }
    return hash ^ (uint64_t)reminder->due;
}

static bool is_news(const struct query_reminder *reminder, int step)
{
    uint64_t hash = hash_of(reminder);
    for (size_t i = 0; i < told_count; i++) {
        if (told[i].hash == hash) {
            bool news = step > told[i].step;
            told[i].step = step;
            return news;
        }
    }
    if (told_count < TOLD_MAX) {
        told[told_count++] = (struct told){hash, step};
    }
    return step > 0;
}

static enum err look(void *user, const struct query_reminder *reminder)
{
    struct node *node = user;
    char when[PROTO_TIME_SIZE];
    char event[48];
    if (is_news(reminder, step_of(reminder->due, query_now()))) {
        daemon_log(DAEMON_WARN, "reminder", "%s %s: %s (%s)", reminder->what, reminder->name,
                   reminder->text, proto_time_format(reminder->due, when));
        snprintf(event, sizeof event, "reminder.%s", reminder->what);
        daemon_notify(node->notifier, event, reminder->id[0] ? reminder->id : reminder->node);
    }
    return E_OK;
}

void daemon_remind(struct node *node)
{
    struct err_info info = {0};
    if (query_reminders(&node->query, query_now(), look, node, &info)) {
        daemon_log(DAEMON_WARN, "reminder", "%s", info.text);
    }
}
