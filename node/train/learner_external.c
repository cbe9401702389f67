/* Tables by a program of the operator's: trainer.h under the plan's terms.
 *
 * Privacy. The program is not trusted to bound anybody's influence: it may put one patient's record into every number of its
 * update. So the update as a whole is what is protected. It is clipped to C (1 - 2^-8), rounded to a grid and noised with the exact
 * discrete Gaussian of deviation SIGMA D2, where D2 bounds the distance of any two such updates: 2 C, and rounding (model_grid_plan_sum
 * of 2 C). Whoever is added, left out or exchanged, and be it everybody, the update moves by no more: the unit is the whole site, and
 * each patient is protected at least as well. One update is one step at sampling rate 1 (plan.h), charged before the rows are read.
 *
 * With noise nothing else of what the program does is seen outside: it always gets its whole time and the answer leaves after it;
 * progress is not told; and a program that fails once it has the rows counts as one that changed nothing: zeros, with noise. Its
 * operator's log says so. */
#include "config.h"
#include "node/train/learner.h"

#include "crypto/memory.h"
#include "node/model/grid.h"
#include "node/model/safetensors_write.h"
#include "node/train/table.h"
#include "node/train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define FILE_ROOM    ((size_t)1 << 20) /* of a safetensors header, and to spare */
#define HEADER       1024              /* what one of a single tensor takes */
#define NUMBERS_MOST ((size_t)16 << 20)
#define LOOK_MS      100
#define START_MS     60000

struct learner {
    struct train_learner base;
    struct train_learner_wish wish;
    const struct config_trainer *trainer;
    struct train_encoding encoding;
    struct train_tables tables;
    float *start; /* of a job that is being prepared */
    size_t count;
};

const struct config_trainer *train_trainer_find(const struct config_trainer *trainers, size_t count,
                                                struct span name)
{
    for (size_t i = 0; i < count; i++) {
        if (span_equal(span_str(trainers[i].name), name)) {
            return &trainers[i];
        }
    }
    return NULL;
}

static enum err external_check(const struct train_plan *plan, const struct proto_schema *schema,
                               struct err_info *reterr)
{
    return train_learner_table.check(plan, schema, reterr);
}

/* --- what it gets and gives -------------------------------------------------------------------------------------------- */

static struct train_trainer_task task_of(const struct learner *learner)
{
    const struct train_plan *plan = learner->wish.plan;
    return (struct train_trainer_task){
        .version = TRAIN_TRAINER_VERSION,
        .task = span_str(proto_task_name((enum proto_task)plan->task)),
        .rounds = plan->rounds,
        .numbers = learner->count,
        .width = learner->encoding.width,
        .epochs = plan->epochs,
        .batch = plan->batch,
        .learning_rate = plan->learning_rate,
        .seed = plan->seed,
        .threads = learner->wish.threads ? learner->wish.threads : 1,
        .time_ms = plan->trainer_ms,
        .features = plan->features,
    };
}

static enum err pack_weights(const float *weights, size_t count, struct buf *ret,
                             struct err_info *reterr)
{
    struct model_tensor_source source = {
        .name = "weights", .dims = 1, .shape = {count}, .floats = weights};
    ret->max = count * sizeof *weights + FILE_ROOM;
    enum err err = buf_reserve(ret, count * sizeof *weights + HEADER);
    return err ? err : model_safetensors_encode(&source, 1, ret, reterr);
}

static enum err pack_rows(const struct model_table *table, struct buf *ret, struct err_info *reterr)
{
    const struct model_tensor_source class = {
        .name = "y", .dims = 1, .shape = {table->rows}, .bytes = table->y, .dtype = MODEL_DTYPE_U8};
    const struct model_tensor_source number = {
        .name = "y", .dims = 1, .shape = {table->rows}, .floats = table->target};
    const struct model_tensor_source sources[] = {
        {.name = "x", .dims = 2, .shape = {table->rows, table->features}, .floats = table->x},
        {.name = "unit",
         .dims = 1,
         .shape = {table->rows},
         .bytes = (const uint8_t *)table->unit,
         .dtype = MODEL_DTYPE_I32},
        table->target ? number : class,
        {.name = "time", .dims = 1, .shape = {table->rows}, .floats = table->time},
    };
    ret->max = table->rows * (table->features + 3) * 4 + FILE_ROOM;
    return model_safetensors_encode(sources, table->time ? 4 : 3, ret, reterr);
}

/* The `change` of what it wrote; COUNT 0: as many as there are, and *RET is allocated. */
static enum err unpack(struct span bytes, size_t *count, float **ret, struct err_info *reterr)
{
    struct model_safetensors *file = NULL;
    enum err err = model_safetensors_bytes(bytes, &file, reterr);
    const struct model_tensor_entry *entry = err ? NULL : model_safetensors_find(file, "change");
    float *made = NULL;
    if (err == E_INVALID || err == E_TRUNCATED || err == E_LIMIT) {
        /* The reader's text would hold names that the trainer chose. */
        return proto_err_set(reterr, E_INVALID, "the trainer's answer is no safetensors file");
    }
    if (!err && (!entry || entry->dtype != MODEL_DTYPE_F32 || entry->count == 0 ||
                 entry->count > NUMBERS_MOST || (*count && entry->count != *count))) {
        err = proto_err_set(reterr, E_INVALID,
                            "the trainer's answer has no tensor `change` of the right shape");
    }
    if (!err && !*ret) {
        *ret = made = proto_alloc((size_t)entry->count, sizeof **ret);
        err = made ? E_OK : E_NO_MEMORY;
    }
    if (!err) {
        *count = (size_t)entry->count;
        err = model_safetensors_floats(file, entry, *ret, *count, NULL) == E_OK
                  ? E_OK
                  : proto_err_set(reterr, E_INVALID, "the trainer's numbers are not all finite");
    }
    if (err && made) {
        proto_free(made);
        *ret = NULL;
    }
    model_safetensors_close(file);
    return err;
}

static void wipe(struct buf *buf)
{
    if (buf->ptr) {
        crypto_wipe(buf->ptr, buf->cap);
    }
    buf_fini(buf);
}

/* --- the start --------------------------------------------------------------------------------------------------------- */

/* What the job begins with is what this node's trainer says, without having seen a row. */
static enum err ask_start(struct learner *learner, struct err_info *reterr)
{
    struct train_trainer_task task = task_of(learner);
    struct train_trainer_result result;
    task.start = true;
    task.time_ms = START_MS;
    const struct train_trainer_wish wish = {
        .trainer = learner->trainer,
        .task = &task,
        .output_max = NUMBERS_MOST * sizeof *learner->start + FILE_ROOM,
    };
    enum err err = train_trainer_run(&wish, &result, reterr);
    if (!err) {
        err = unpack(buf_span(&result.output), &learner->count, &learner->start, reterr);
    }
    train_trainer_result_fini(&result);
    if (err && err != E_NO_MEMORY) {
        proto_err_frame(reterr, "asking this node's trainer what the job begins with");
    }
    return err;
}

static void external_close(struct train_learner *base)
{
    struct learner *learner = (struct learner *)base;
    train_tables_fini(&learner->tables);
    proto_free(learner->start);
    proto_free(learner);
}

static enum err external_open(const struct train_learner_wish *wish, struct train_learner **ret,
                              struct err_info *reterr)
{
    struct learner *learner = proto_alloc(1, sizeof *learner);
    enum err err = learner
                       ? train_table_encode(wish->plan, wish->schema, &learner->encoding, reterr)
                       : E_NO_MEMORY;
    if (err) {
        proto_free(learner);
        return err;
    }
    learner->wish = *wish;
    learner->count = wish->plan->numbers;
    learner->trainer = train_trainer_find(wish->trainers, wish->trainer_count, wish->plan->trainer);
    if (!learner->trainer) {
        err = proto_err_set(reterr, E_UNSUPPORTED,
                            "this node has no trainer %.*s; its operator names one under "
                            "`trainers:` in node.yaml",
                            (int)wish->plan->trainer.len, (const char *)wish->plan->trainer.ptr);
    }
    if (!err && learner->count == 0) {
        err = ask_start(learner, reterr);
    }
    if (err) {
        external_close(&learner->base);
        return err;
    }
    *ret = &learner->base;
    return E_OK;
}

static size_t external_count(const struct train_learner *base)
{
    return ((const struct learner *)base)->count;
}

static enum err external_start(struct train_learner *base, float *ret, struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    if (!learner->start) {
        return proto_err_set(reterr, E_INVALID, "only a job that is prepared has a start");
    }
    memcpy(ret, learner->start, learner->count * sizeof *ret);
    return E_OK;
}

static enum err external_load(struct train_learner *base, struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    struct train_table_wish wish = {
        .dataset = learner->wish.dataset,
        .schema = learner->wish.schema,
        .encoding = &learner->encoding,
        .midpoint = learner->wish.plan->midpoint,
        .key = learner->wish.key,
        .cancelled = learner->wish.cancelled,
        .user = learner->wish.user,
    };
    train_tables_fini(&learner->tables);
    return train_tables_load(learner->wish.store, &wish, &learner->tables, reterr);
}

/* --- a round ----------------------------------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum err wait_until(const struct learner *learner, uint64_t at_ms)
{
    for (uint64_t now = now_ms(); now < at_ms; now = now_ms()) {
        uint64_t left = at_ms - now < LOOK_MS ? at_ms - now : LOOK_MS;
        struct timespec pause = {(time_t)(left / 1000), (long)(left % 1000) * 1000000};
        if (learner->wish.cancelled && learner->wish.cancelled(learner->wish.user)) {
            return E_CANCELLED;
        }
        nanosleep(&pause, NULL);
    }
    return E_OK;
}

static void clip(float *change, size_t count, double most)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)change[i] * (double)change[i];
    }
    double norm = sqrt(sum);
    double by = norm > most ? most / norm : 1;
    for (size_t i = 0; i < count; i++) {
        change[i] = (float)((double)change[i] * by);
    }
}

static enum err protect(const struct learner *learner, const struct train_local *local,
                        float *change, struct err_info *reterr)
{
    double bound = learner->wish.plan->clip;
    struct model_grid grid;
    enum err err = model_grid_plan_sum(2 * bound, local->cost->sigma, learner->count, &grid);
    if (err) {
        return proto_err_set(reterr, err, "clip %g with noise multiplier %g cannot be trained",
                             bound, local->cost->sigma);
    }
    clip(change, learner->count, bound * (1 - MODEL_GRID_SLACK));
    return model_grid_release(&grid, change, learner->count,
                              learner->wish.threads ? learner->wish.threads : 1, change, reterr);
}

static enum err run_round(struct learner *learner, const float *weights,
                          const struct train_local *local, float *change, bool *ret_saw_data,
                          struct err_info *reterr)
{
    struct train_trainer_task task = task_of(learner);
    struct train_trainer_result result = {.saw_data = false};
    struct buf rows = {0};
    struct buf packed = {0};
    task.round = local->round;
    task.rows = learner->tables.train.rows;
    enum err err = pack_weights(weights, learner->count, &packed, reterr);
    err = err ? err : pack_rows(&learner->tables.train, &rows, reterr);
    const struct train_trainer_wish wish = {
        .trainer = learner->trainer,
        .task = &task,
        .data = buf_span(&rows),
        .weights = buf_span(&packed),
        .output_max = learner->count * sizeof *change + FILE_ROOM,
        .cancelled = learner->wish.cancelled,
        .progress = local->cost->sigma > 0 ? NULL : local->progress,
        .user = learner->wish.user,
    };
    err = err ? err : train_trainer_run(&wish, &result, reterr);
    if (!err) {
        size_t count = learner->count;
        err = unpack(buf_span(&result.output), &count, &change, reterr);
    }
    *ret_saw_data = result.saw_data;
    wipe(&rows);
    buf_fini(&packed);
    train_trainer_result_fini(&result);
    return err;
}

static enum err external_train(struct train_learner *base, const float *weights,
                               const struct train_local *local, float *ret_change,
                               struct err_info *reterr)
{
    struct learner *learner = (struct learner *)base;
    struct err_info info = {0};
    bool noise = local->cost->sigma > 0;
    bool saw_data = false;
    uint64_t until = now_ms() + learner->wish.plan->trainer_ms;
    enum err err = E_OK;
    if (learner->tables.train.rows == 0) {
        memset(ret_change, 0, learner->count * sizeof *ret_change);
        saw_data = true; /* nothing to learn from is no failure, and nobody is told */
    } else {
        err = run_round(learner, weights, local, ret_change, &saw_data, &info);
    }
    if (err == E_CANCELLED || err == E_NO_MEMORY || err == E_UNSUPPORTED || !noise || !saw_data) {
        return err ? proto_err_set(reterr, err, "%s", info.text) : E_OK;
    }
    if (err) {
        memset(ret_change, 0, learner->count * sizeof *ret_change);
        if (learner->wish.tell) {
            learner->wish.tell(learner->wish.user, info.text);
        }
    }
    err = wait_until(learner, until);
    return err ? err : protect(learner, local, ret_change, reterr);
}

const struct train_learner_kind train_learner_external = {
    .check = external_check,
    .open = external_open,
    .count = external_count,
    .start = external_start,
    .load = external_load,
    .train = external_train,
    .evaluate = NULL,
    .close = external_close,
};
