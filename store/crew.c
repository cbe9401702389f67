#include "config.h"
#include "store/crew.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#define STACK_BYTES ((size_t)1 << 20)

static atomic_size_t limit;
static atomic_size_t helping; /* helpers of all calls */

struct helper {
    pthread_t thread;
    store_crew_fn *work;
    void *user;
    size_t index;
};

static size_t cores(void)
{
    size_t wanted = atomic_load(&limit);
    cpu_set_t set;
    if (wanted == 0) {
        wanted = sched_getaffinity(0, sizeof set, &set) == 0 ? (size_t)CPU_COUNT(&set) : 1;
    }
    return wanted < STORE_CREW_MAX ? wanted : STORE_CREW_MAX;
}

void store_crew_limit(size_t count)
{
    atomic_store(&limit, count);
}

size_t store_crew_size(size_t pieces)
{
    size_t most = cores();
    return pieces < 1 ? 1 : (pieces < most ? pieces : most);
}

static bool take_place(void)
{
    if (atomic_fetch_add(&helping, 1) + 1 < cores()) {
        return true;
    }
    atomic_fetch_sub(&helping, 1);
    return false;
}

static void *help(void *argument)
{
    struct helper *helper = argument;
    helper->work(helper->user, helper->index);
    return NULL;
}

static bool start(struct helper *helper)
{
    pthread_attr_t attr;
    if (!take_place()) {
        return false;
    }
    bool made = pthread_attr_init(&attr) == 0;
    if (made) {
        (void)pthread_attr_setstacksize(&attr, STACK_BYTES);
        made = pthread_create(&helper->thread, &attr, help, helper) == 0;
        pthread_attr_destroy(&attr);
    }
    if (!made) {
        atomic_fetch_sub(&helping, 1);
    }
    return made;
}

void store_crew_run(size_t count, store_crew_fn *work, void *user)
{
    struct helper helpers[STORE_CREW_MAX];
    size_t started = 0;
    sigset_t all, before;
    sigfillset(&all);
    bool masked = count > 1 && pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
    while (masked && started + 1 < count && started + 1 < STORE_CREW_MAX) {
        helpers[started] = (struct helper){.work = work, .user = user, .index = started + 1};
        if (!start(&helpers[started])) {
            break; /* fewer hands, the same work */
        }
        started++;
    }
    if (masked) {
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    work(user, 0);
    for (size_t i = 0; i < started; i++) {
        (void)pthread_join(helpers[i].thread, NULL);
        atomic_fetch_sub(&helping, 1);
    }
}
