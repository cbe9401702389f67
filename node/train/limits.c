/* When this site works on rounds: not while its operator paused it, and only in the hours of node.yaml. */
#include "config.h"
#include "node/train/internal.h"

#include "node/query/site.h"
#include "store/job.h"

#include <stdio.h>
#include <time.h>

/* No job's id: those are random. */
static const uint8_t limits_id[16] = "training limits";
#define LIMITS_SIZE 5
static const char limits_magic[LIMITS_SIZE] = {'C', 'T', 'L', '1', 0};

enum err train_limits_load(struct train_service *service)
{
    struct buf bytes = {.max = 64};
    enum err err = store_job_get(service->context->store, limits_id, &bytes, NULL);
    if (!err && bytes.len == LIMITS_SIZE && memcmp(bytes.ptr, limits_magic, 4) == 0) {
        service->paused = bytes.ptr[4] != 0;
    }
    buf_fini(&bytes);
    return err == E_NOT_FOUND ? E_OK : err;
}

enum err train_pause(struct train_service *service, bool paused, struct err_info *reterr)
{
    uint8_t bytes[LIMITS_SIZE];
    memcpy(bytes, limits_magic, sizeof bytes);
    bytes[4] = paused;
    enum err err =
        store_job_put(service->context->store, limits_id, span_of(bytes, sizeof bytes), reterr);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&service->lock);
    service->paused = paused;
    for (struct train_effort *effort = service->efforts; effort; effort = effort->next) {
        effort->look = true;
    }
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
    return E_OK;
}

bool train_paused(struct train_service *service)
{
    return service->paused;
}

static bool within_hours(const struct query_context *context)
{
    time_t now = (time_t)query_now();
    struct tm local;
    if (context->training_from == context->training_to || !localtime_r(&now, &local)) {
        return true;
    }
    uint32_t minute = (uint32_t)(local.tm_hour * 60 + local.tm_min);
    bool after = minute >= context->training_from;
    bool before = minute < context->training_to;
    return context->training_from < context->training_to ? after && before : after || before;
}

bool train_may_work(const struct train_service *service, char *ret_why, size_t size)
{
    const struct query_context *context = service->context;
    if (service->paused) {
        snprintf(ret_why, size, "the site's operator paused it");
        return false;
    }
    if (!within_hours(context)) {
        snprintf(ret_why, size, "the site trains from %02u:%02u to %02u:%02u",
                 (unsigned)(context->training_from / 60), (unsigned)(context->training_from % 60),
                 (unsigned)(context->training_to / 60), (unsigned)(context->training_to % 60));
        return false;
    }
    return true;
}
