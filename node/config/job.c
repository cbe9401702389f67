/* The rows of a training job. What they mean is checked by proto/job. */
#include "config.h"
#include "node/config/bind.h"
#include "node/config/yaml.h"

#define JOB(m)   offsetof(struct proto_job, m)
#define TEXTS(m) .type = CONFIG_TEXTS, .offset = JOB(m.items), .count_offset = JOB(m.count)

static const char *const task_names[] = {"tabular-classification",
                                         "tabular-regression",
                                         "token-classification",
                                         "sequence-classification",
                                         "masked-lm",
                                         "tabular-survival",
                                         NULL};
static const char *const tune_names[] = {"full", "lora", "ffa-lora", "alternating-lora", NULL};
static const char *const missing_names[] = {"drop", "midpoint", NULL};
static const char *const method_names[] = {"fedavg",   "fedadam",      "fedprox",
                                           "scaffold", "trimmed-mean", NULL};
static const char *const weight_names[] = {"size", "uniform", NULL};

static const struct config_row lora_rows[] = {
    {.name = "rank", .type = CONFIG_U64, .offset = JOB(lora_rank), .min = 1, .max = 256},
    {.name = "alpha", .type = CONFIG_NUMBER, .offset = JOB(lora_alpha), .min = 0.001, .max = 4096},
    {.name = "targets", TEXTS(lora_targets), .min = 1, .max = 64},
    CONFIG_ROWS_END,
};

static const struct config_row model_rows[] = {
    {.name = "base", .type = CONFIG_CHARS, .offset = JOB(base), .max = 65},
    {.name = "tune", .type = CONFIG_ENUM, .offset = JOB(tune), .names = tune_names},
    {.name = "lora", .type = CONFIG_MAP, .present = JOB(has_lora), .rows = lora_rows},
    {.name = "personal_head", .type = CONFIG_BOOL, .offset = JOB(personal_head)},
    {.name = "trainer", .type = CONFIG_CHARS, .offset = JOB(trainer), .max = 65},
    {.name = "hidden", .type = CONFIG_U64, .offset = JOB(hidden), .min = 1, .max = 64},
    {.name = "time",
     .type = CONFIG_DURATION,
     .offset = JOB(trainer_time_ms),
     .min = 1000,
     .max = 7 * 86400000.0},
    CONFIG_ROWS_END,
};

static const struct config_row local_rows[] = {
    {.name = "epochs", .type = CONFIG_U64, .offset = JOB(epochs), .min = 1, .max = 1000},
    {.name = "batch", .type = CONFIG_U64, .offset = JOB(batch), .min = 1, .max = 1000000},
    {.name = "learning_rate",
     .type = CONFIG_NUMBER,
     .offset = JOB(learning_rate),
     .min = 1e-9,
     .max = 1000},
    {.name = "warmup", .type = CONFIG_NUMBER, .offset = JOB(warmup), .min = 0, .max = 1},
    {.name = "weight_decay",
     .type = CONFIG_NUMBER,
     .offset = JOB(weight_decay),
     .min = 0,
     .max = 100},
    {.name = "max_length", .type = CONFIG_U64, .offset = JOB(max_length), .min = 8, .max = 4096},
    {.name = "dropout", .type = CONFIG_NUMBER, .offset = JOB(dropout), .min = 0, .max = 0.9},
    {.name = "seed", .type = CONFIG_U64, .offset = JOB(seed), .min = 0, .max = 9e15},
    CONFIG_ROWS_END,
};

static const struct config_row aggregate_rows[] = {
    {.name = "method", .type = CONFIG_ENUM, .offset = JOB(method), .names = method_names},
    {.name = "server_momentum",
     .type = CONFIG_NUMBER,
     .offset = JOB(server_momentum),
     .min = 0,
     .max = 0.999},
    {.name = "server_rate", .type = CONFIG_NUMBER, .offset = JOB(server_rate), .min = 0, .max = 10},
    {.name = "mu", .type = CONFIG_NUMBER, .offset = JOB(proximal), .min = 0, .max = 100},
    {.name = "trim", .type = CONFIG_NUMBER, .offset = JOB(trim), .min = 0, .max = 0.49},
    {.name = "norm_bound", .type = CONFIG_NUMBER, .offset = JOB(norm_bound), .min = 0, .max = 1e9},
    {.name = "weights", .type = CONFIG_ENUM, .offset = JOB(weighting), .names = weight_names},
    CONFIG_ROWS_END,
};

static const struct config_row participation_rows[] = {
    {.name = "min_sites", .type = CONFIG_U64, .offset = JOB(min_sites), .min = 1, .max = 1000},
    {.name = "sites", TEXTS(sites), .min = 1, .max = 64},
    {.name = "round_timeout",
     .type = CONFIG_DURATION,
     .offset = JOB(round_timeout_ms),
     .min = 1000,
     .max = 86400000},
    {.name = "standby",
     .type = CONFIG_U64,
     .offset = JOB(standby),
     .min = 0,
     .max = PROTO_LEASE_HOLDERS - 1},
    CONFIG_ROWS_END,
};

static const struct config_row privacy_rows[] = {
    {.name = "epsilon",
     .type = CONFIG_NUMBER,
     .required = true,
     .offset = JOB(epsilon),
     .min = 1e-6,
     .max = PROTO_EPSILON_MAX},
    {.name = "delta",
     .type = CONFIG_NUMBER,
     .offset = JOB(delta),
     .min = PROTO_DELTA_MIN,
     .max = PROTO_DELTA_MAX},
    {.name = "clip", .type = CONFIG_NUMBER, .offset = JOB(clip), .min = 1e-6, .max = 1e6},
    CONFIG_ROWS_END,
};

static const struct config_row evaluate_rows[] = {
    {.name = "split", .type = CONFIG_NUMBER, .offset = JOB(eval_split), .min = 0, .max = 0.9},
    {.name = "every",
     .type = CONFIG_U64,
     .offset = JOB(eval_every),
     .min = 0,
     .max = PROTO_JOB_ROUNDS_MAX},
    {.name = "early_stop",
     .type = CONFIG_U64,
     .offset = JOB(early_stop),
     .min = 0,
     .max = PROTO_JOB_ROUNDS_MAX},
    {.name = "share", .type = CONFIG_NUMBER, .offset = JOB(eval_share), .min = 0.001, .max = 0.9},
    {.name = "entities", .type = CONFIG_U64, .offset = JOB(eval_entities), .min = 1, .max = 10000},
    CONFIG_ROWS_END,
};

static const struct config_row ethics_rows[] = {
    {.name = "ref",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = JOB(ethics_ref),
     .min = 1,
     .max = 128},
    {.name = "expires", .type = CONFIG_TIME, .required = true, .offset = JOB(ethics_expires)},
    CONFIG_ROWS_END,
};

static const struct config_row job_rows[] = {
    {.name = "job", .type = CONFIG_CHARS, .required = true, .offset = JOB(name), .max = 65},
    {.name = "task",
     .type = CONFIG_ENUM,
     .required = true,
     .offset = JOB(task),
     .names = task_names},
    {.name = "dataset", .type = CONFIG_CHARS, .required = true, .offset = JOB(dataset), .max = 65},
    {.name = "purpose", .type = CONFIG_CHARS, .offset = JOB(purpose), .max = 32},
    {.name = "disease", TEXTS(diseases), .min = 1, .max = 64},
    {.name = "project", .type = CONFIG_CHARS, .offset = JOB(project), .max = 65},
    {.name = "research", TEXTS(research), .present = JOB(has_research), .min = 1, .max = 32},
    {.name = "ethics", .type = CONFIG_MAP, .rows = ethics_rows},
    {.name = "accept", TEXTS(accepted), .min = 1, .max = 32},
    {.name = "model", .type = CONFIG_MAP, .present = JOB(has_model), .rows = model_rows},
    {.name = "features", TEXTS(features), .min = 1, .max = PROTO_NAME_SIZE - 1},
    {.name = "target", .type = CONFIG_CHARS, .offset = JOB(target), .max = PROTO_NAME_SIZE},
    {.name = "time", .type = CONFIG_CHARS, .offset = JOB(time), .max = PROTO_NAME_SIZE},
    {.name = "horizon", .type = CONFIG_NUMBER, .offset = JOB(horizon), .min = 1e-9, .max = 1e12},
    {.name = "intervals", .type = CONFIG_U64, .offset = JOB(intervals), .min = 1, .max = 256},
    {.name = "missing", .type = CONFIG_ENUM, .offset = JOB(missing), .names = missing_names},
    {.name = "rounds",
     .type = CONFIG_U64,
     .offset = JOB(rounds),
     .min = 1,
     .max = PROTO_JOB_ROUNDS_MAX},
    {.name = "local", .type = CONFIG_MAP, .rows = local_rows},
    {.name = "aggregate", .type = CONFIG_MAP, .rows = aggregate_rows},
    {.name = "participation", .type = CONFIG_MAP, .rows = participation_rows},
    {.name = "privacy", .type = CONFIG_MAP, .present = JOB(has_privacy), .rows = privacy_rows},
    {.name = "secure_aggregation", .type = CONFIG_BOOL, .offset = JOB(secure_aggregation)},
    {.name = "evaluate", .type = CONFIG_MAP, .rows = evaluate_rows},
    CONFIG_ROWS_END,
};

static enum err check_job(void *object, struct err_info *reterr)
{
    return proto_job_check(object, reterr);
}

enum err config_yaml_job_bytes(struct span bytes, const char *name, struct proto_job *ret,
                               struct err_info *reterr)
{
    *ret = (struct proto_job){.rounds = 10,
                              .epochs = 1,
                              .max_length = 128,
                              .min_sites = 1,
                              .round_timeout_ms = 600000,
                              .standby = 2,
                              .delta = 1e-5,
                              .clip = 1.0,
                              .lora_rank = 8,
                              .lora_alpha = 16,
                              .trim = 0.2,
                              .dropout = -1,
                              .eval_split = 0.1,
                              .eval_every = PROTO_JOB_EVAL_DEFAULT,
                              .eval_share = 0.1,
                              .eval_entities = 20};
    return config_bind(bytes, name, job_rows, ret, &ret->arena, check_job, reterr);
}

enum err config_yaml_job(const char *path, struct proto_job *ret, struct err_info *reterr)
{
    struct buf bytes = {0};
    enum err err = config_read_file(path, &bytes, reterr);
    err = err ? err : config_yaml_job_bytes(buf_span(&bytes), path, ret, reterr);
    buf_fini(&bytes);
    return err;
}
