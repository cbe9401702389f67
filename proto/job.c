#include "config.h"
#include "proto/job.h"
#include "proto/ontology.h"

#include <math.h>

#include "proto/duo.h"

static const char *const task_names[PROTO_TASK_COUNT] = {
    "tabular-classification",  "tabular-regression", "token-classification",
    "sequence-classification", "masked-lm",          "tabular-survival"};
static const char *const aggregation_names[PROTO_AGGREGATION_COUNT] = {
    "fedavg", "fedadam", "fedprox", "scaffold", "trimmed-mean"};
static const char *const tune_names[] = {"full", "lora", "ffa-lora", "alternating-lora"};

const char *proto_task_name(enum proto_task task)
{
    return (unsigned)task < PROTO_TASK_COUNT ? task_names[task] : "unknown";
}

const char *proto_aggregation_name(enum proto_aggregation method)
{
    return (unsigned)method < PROTO_AGGREGATION_COUNT ? aggregation_names[method] : "unknown";
}

const char *proto_tune_name(enum proto_tune tune)
{
    return (unsigned)tune < PROTO_TUNE_COUNT ? tune_names[tune] : "unknown";
}

bool proto_task_tabular(enum proto_task task)
{
    return task == PROTO_TASK_TABULAR_CLASSIFICATION || task == PROTO_TASK_TABULAR_REGRESSION ||
           task == PROTO_TASK_TABULAR_SURVIVAL;
}

/* What the format can say and this version cannot do is refused by name, never weakened. */
static enum err check_supported(const struct proto_job *job, struct err_info *reterr)
{
    if (job->method == PROTO_SCAFFOLD && !proto_task_tabular(job->task)) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "aggregate.method: scaffold corrects plain steps, those of tables; an "
                             "encoder's are AdamW's: use fedavg or fedprox");
    }
    if (job->method == PROTO_SCAFFOLD && job->server_momentum > 0) {
        return proto_err_set(reterr, E_INVALID, "aggregate.server_momentum: scaffold has none");
    }
    if (job->personal_head && job->task == PROTO_TASK_MASKED_LM) {
        return proto_err_set(reterr, E_INVALID,
                             "model.personal_head: a masked LM's head is its vocabulary, which all "
                             "share; token- and sequence-classification have heads of their own");
    }
    if (job->secure_aggregation) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "secure_aggregation: this version cannot mask updates");
    }
    return E_OK;
}

/* Inclusive, and false for NaN. */
static bool within(double value, double low, double high)
{
    return value >= low && value <= high;
}

static bool names_encoder(const struct proto_job *job)
{
    return job->base[0] || job->has_lora || job->personal_head || job->tune != PROTO_TUNE_FULL;
}

/* A trainer decides what its model is; the node knows its numbers alone. */
static enum err check_trainer(const struct proto_job *job, struct err_info *reterr)
{
    if (!proto_dataset_name_valid(span_str(job->trainer))) {
        return proto_err_set(reterr, E_INVALID,
                             "model.trainer: must match [a-z0-9][a-z0-9._-]{0,63}");
    }
    if (names_encoder(job) || job->hidden) {
        return proto_err_set(reterr, E_INVALID,
                             "model.trainer: a trainer brings its own model; base, tune, lora, "
                             "personal_head and hidden are of the built-in ones");
    }
    if (!proto_task_tabular(job->task)) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "model.trainer: this version gives trainers tables only; notes are "
                             "for the built-in encoder");
    }
    if (job->method == PROTO_FEDPROX || job->method == PROTO_SCAFFOLD) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "aggregate.method: '%s' changes the local steps, which are the "
                             "trainer's own",
                             proto_aggregation_name(job->method));
    }
    if (2 * job->trainer_time_ms > job->round_timeout_ms) {
        return proto_err_set(reterr, E_INVALID,
                             "model.time: must be at most half of participation.round_timeout");
    }
    return E_OK;
}

/* Linear, or a small network; a survival model is linear, since its score is the log of a hazard ratio. */
static enum err check_table_model(const struct proto_job *job, struct err_info *reterr)
{
    if (names_encoder(job) || (job->has_model && !job->hidden)) {
        return proto_err_set(
            reterr, E_INVALID,
            "model: a tabular job has no base model; hidden or trainer is all that "
            "it may state");
    }
    return job->hidden && job->task == PROTO_TASK_TABULAR_SURVIVAL
               ? proto_err_set(reterr, E_UNSUPPORTED,
                               "model.hidden: this version's survival models are linear")
               : E_OK;
}

static enum err check_model(const struct proto_job *job, struct err_info *reterr)
{
    static const char *const targets[] = {
        "query",        "key",       "value", "attention.output.dense", "intermediate.dense",
        "output.dense", "all-linear"};
    if (job->trainer[0]) {
        return check_trainer(job, reterr);
    }
    if (proto_task_tabular(job->task)) {
        return check_table_model(job, reterr);
    }
    if (job->hidden) {
        return proto_err_set(reterr, E_INVALID,
                             "model.hidden: only tabular jobs have hidden units");
    }
    if (!job->has_model || !job->base[0]) {
        return proto_err_set(reterr, E_INVALID,
                             "model: must name a base model; "
                             "`concordat model import` brings one in");
    }
    if (job->tune == PROTO_TUNE_FULL && job->has_lora) {
        return proto_err_set(reterr, E_INVALID,
                             "model.lora: only with tune: lora, ffa-lora or alternating-lora");
    }
    if (job->tune == PROTO_TUNE_ALTERNATING_LORA &&
        (job->method == PROTO_FEDADAM || job->server_momentum > 0)) {
        return proto_err_set(reterr, E_INVALID,
                             "aggregate: a server's momentum moves the factor that "
                             "alternating-lora keeps still; use fedavg, fedprox or trimmed-mean");
    }
    for (size_t i = 0; i < job->lora_targets.count; i++) {
        bool known = false;
        for (size_t j = 0; j < sizeof targets / sizeof *targets; j++) {
            known = known || strcmp(job->lora_targets.items[i], targets[j]) == 0;
        }
        if (!known) {
            return proto_err_set(reterr, E_INVALID,
                                 "model.lora.targets[%zu]: must be query, key, value, "
                                 "attention.output.dense, intermediate.dense, output.dense or "
                                 "all-linear",
                                 i);
        }
    }
    return E_OK;
}

/* The time of a survival job, which nobody else has. */
static enum err check_time(const struct proto_job *job, struct err_info *reterr)
{
    if (job->task != PROTO_TASK_TABULAR_SURVIVAL) {
        return job->time[0] || job->horizon != 0 || job->intervals
                   ? proto_err_set(
                         reterr, E_INVALID,
                         "time: time, horizon and intervals are of tabular-survival alone")
                   : E_OK;
    }
    if (!proto_column_name_valid(job->time) || strcmp(job->time, job->target) == 0) {
        return proto_err_set(
            reterr, E_INVALID,
            "time: must name the column of the time to the event, which is not the "
            "target");
    }
    if (job->horizon != 0 && !within(job->horizon, 1e-9, 1e12)) {
        return proto_err_set(reterr, E_INVALID, "horizon: must be 1e-9 to 1e12");
    }
    for (size_t i = 0; i < job->features.count; i++) {
        if (strcmp(job->features.items[i], job->time) == 0) {
            return proto_err_set(reterr, E_INVALID, "features[%zu]: '%s' is the time", i,
                                 job->time);
        }
    }
    return E_OK;
}

/* Notes have their columns from the schema; classes of texts come from one text column and a target; what a masked LM reads are
 * notes, or the text column that is named. */
static enum err check_features(const struct proto_job *job, struct err_info *reterr)
{
    if (job->task == PROTO_TASK_TOKEN_CLASSIFICATION) {
        return job->features.count || job->target[0]
                   ? proto_err_set(reterr, E_INVALID,
                                   "features: %s takes the dataset's tokens and tags",
                                   proto_task_name(job->task))
                   : E_OK;
    }
    if (job->task == PROTO_TASK_MASKED_LM) {
        bool column = job->features.count == 0 ||
                      (job->features.count == 1 && proto_column_name_valid(job->features.items[0]));
        return column && !job->target[0]
                   ? E_OK
                   : proto_err_set(reterr, E_INVALID,
                                   "features: must be one column of text, or none where the "
                                   "dataset has tokens; masked-lm has no target");
    }
    if (job->task == PROTO_TASK_SEQUENCE_CLASSIFICATION && job->features.count != 1) {
        return proto_err_set(reterr, E_INVALID, "features: must be one column of text");
    }
    if (job->features.count < 1 || job->features.count > PROTO_JOB_FEATURES_MAX) {
        return proto_err_set(reterr, E_INVALID, "features: must be 1 to %d columns",
                             PROTO_JOB_FEATURES_MAX);
    }
    if (!proto_column_name_valid(job->target)) {
        return proto_err_set(reterr, E_INVALID, "target: must name a column");
    }
    for (size_t i = 0; i < job->features.count; i++) {
        const char *name = job->features.items[i];
        if (!proto_column_name_valid(name)) {
            return proto_err_set(reterr, E_INVALID, "features[%zu]: must name a column", i);
        }
        if (strcmp(name, job->target) == 0) {
            return proto_err_set(reterr, E_INVALID, "features[%zu]: '%s' is the target", i, name);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(job->features.items[j], name) == 0) {
                return proto_err_set(reterr, E_INVALID, "features[%zu]: '%s' stands there twice", i,
                                     name);
            }
        }
    }
    return E_OK;
}

static enum err check_numbers(const struct proto_job *job, struct err_info *reterr)
{
    if (job->has_privacy && !within(job->epsilon, 1e-6, PROTO_EPSILON_MAX)) {
        return proto_err_set(reterr, E_INVALID, "privacy.epsilon: must be 1e-6 to %g",
                             PROTO_EPSILON_MAX);
    }
    if (job->has_privacy && !within(job->delta, PROTO_DELTA_MIN, PROTO_DELTA_MAX)) {
        return proto_err_set(reterr, E_INVALID, "privacy.delta: must be %g to %g", PROTO_DELTA_MIN,
                             PROTO_DELTA_MAX);
    }
    if (job->has_privacy && !within(job->clip, 1e-6, 1e6)) {
        return proto_err_set(reterr, E_INVALID, "privacy.clip: must be 1e-6 to 1e6");
    }
    if (!job->has_privacy && !within(job->clip, 0, 1e6)) {
        return proto_err_set(reterr, E_INVALID, "privacy.clip: must be 0 to 1e6");
    }
    if (job->method == PROTO_TRIMMED_MEAN && !within(job->trim, 0, 0.49)) {
        return proto_err_set(reterr, E_INVALID, "aggregate.trim: must be 0 to 0.49");
    }
    if (proto_task_tabular(job->task) && (job->weight_decay != 0 || job->warmup != 0)) {
        return proto_err_set(
            reterr, E_UNSUPPORTED,
            "local: this version has no weight_decay and no warmup for tabular jobs");
    }
    if (!within(job->learning_rate, 1e-9, 1e3)) {
        return proto_err_set(reterr, E_INVALID, "local.learning_rate: must be 1e-9 to 1000");
    }
    if (!within(job->eval_split, 0, 0.9)) {
        return proto_err_set(reterr, E_INVALID, "evaluate.split: must be 0 to 0.9");
    }
    if (job->eval_every && job->has_privacy && !within(job->eval_share, 0.001, 0.9)) {
        return proto_err_set(reterr, E_INVALID, "evaluate.share: must be 0.001 to 0.9");
    }
    if (job->trainer[0] && job->eval_every) {
        return proto_err_set(reterr, E_UNSUPPORTED,
                             "evaluate.every: what a trainer says of its own model is not checked "
                             "by anybody and would be paid for; leave it out");
    }
    if (job->early_stop && !job->eval_every) {
        return proto_err_set(reterr, E_INVALID, "evaluate.early_stop: needs evaluate.every");
    }
    return E_OK;
}

static void fill_defaults(struct proto_job *job)
{
    bool tabular = proto_task_tabular(job->task);
    if (job->batch == 0) {
        job->batch = tabular ? 256 : 16;
    }
    if (job->learning_rate == 0) {
        bool logistic = job->task == PROTO_TASK_TABULAR_CLASSIFICATION && !job->hidden;
        job->learning_rate = !tabular ? 5e-4 : logistic ? 2.0 : 0.5;
    }
    if (job->intervals == 0 && job->task == PROTO_TASK_TABULAR_SURVIVAL) {
        job->intervals = 10;
    }
    if (job->trainer_time_ms == 0) {
        job->trainer_time_ms = 60000;
    }
    if (job->eval_every == PROTO_JOB_EVAL_DEFAULT) {
        job->eval_every = job->trainer[0] ? 0 : 1;
    }
    if (job->server_rate == 0) {
        job->server_rate = job->method == PROTO_FEDADAM ? 1e-2 : 1;
    }
    if (job->method == PROTO_FEDADAM && job->server_momentum == 0) {
        job->server_momentum = 0.9;
    }
    if (job->method == PROTO_FEDPROX && job->proximal == 0) {
        job->proximal = 0.01;
    }
}

static enum err put_texts(const struct proto_text_list *from, struct arena *arena,
                          struct proto_list *ret)
{
    struct proto_text *items = arena_alloc(arena, from->count + 1, sizeof *items);
    for (size_t i = 0; items && i < from->count; i++) {
        items[i].text = span_str(from->items[i]);
    }
    *ret = (struct proto_list){items, from->count};
    return items ? E_OK : E_NO_MEMORY;
}

enum err proto_job_purpose(const struct proto_job *job, const char *person, const bool *commercial,
                           struct arena *arena, struct proto_purpose *ret, struct err_info *reterr)
{
    struct proto_list research;
    struct err_info why = {0};
    *ret = (struct proto_purpose){
        .person = span_str(person),
        .project = span_str(job->project[0] ? job->project : person),
        .has_research = job->has_research,
        .has_commercial = commercial != NULL,
        .commercial = commercial && *commercial,
        .ethics_ref = job->ethics_ref ? span_str(job->ethics_ref) : SPAN_NONE,
        .ethics_expires = job->ethics_expires > 0 ? (uint64_t)job->ethics_expires : 0,
    };
    if (job->purpose[0] && proto_duo_parse(job->purpose, &ret->permission, &why)) {
        return proto_err_set(reterr, E_INVALID, "purpose: %.300s", why.text);
    }
    enum err err = put_texts(&job->diseases, arena, &ret->diseases);
    err = err ? err : put_texts(&job->accepted, arena, &ret->accepted);
    err = err ? err : put_texts(&job->research, arena, &research);
    if (!err && proto_research_parse(&research, &ret->research, &why)) {
        err = proto_err_set(reterr, E_INVALID, "research: %.300s", why.text);
    }
    return err;
}

static enum err check_purpose(const struct proto_job *job, struct err_info *reterr)
{
    struct arena arena = {.max = 1 << 20};
    struct proto_purpose purpose;
    struct err_info why = {0};
    bool commitment;
    enum err err = proto_job_purpose(job, "nobody", NULL, &arena, &purpose, reterr);
    if (!err && purpose.permission && !proto_duo_is_purpose(purpose.permission)) {
        err = proto_err_set(reterr, E_INVALID, "purpose: %s cannot be a purpose",
                            proto_duo_name(purpose.permission));
    }
    for (size_t i = 0; !err && i < job->diseases.count; i++) {
        if (proto_curie_check(span_str(job->diseases.items[i]), &why)) {
            err = proto_err_set(reterr, E_INVALID, "disease[%zu]: %.300s", i, why.text);
        }
    }
    for (size_t i = 0; !err && i < job->accepted.count; i++) {
        if (!proto_obligation_known(span_str(job->accepted.items[i]), &commitment)) {
            err = proto_err_set(reterr, E_INVALID, "accept[%zu]: no obligation has that id", i);
        }
    }
    arena_fini(&arena);
    return err;
}

enum err proto_job_check(struct proto_job *job, struct err_info *reterr)
{
    if (!proto_dataset_name_valid(span_str(job->name))) {
        return proto_err_set(reterr, E_INVALID, "job: must match [a-z0-9][a-z0-9._-]{0,63}");
    }
    if (!proto_dataset_name_valid(span_str(job->dataset))) {
        return proto_err_set(reterr, E_INVALID, "dataset: must match [a-z0-9][a-z0-9._-]{0,63}");
    }
    fill_defaults(job);
    enum err err = check_purpose(job, reterr);
    err = err ? err : check_supported(job, reterr);
    err = err ? err : check_model(job, reterr);
    err = err ? err : check_features(job, reterr);
    err = err ? err : check_time(job, reterr);
    return err ? err : check_numbers(job, reterr);
}

void proto_job_fini(struct proto_job *job)
{
    arena_fini(&job->arena);
    memset(job, 0, sizeof *job);
}
