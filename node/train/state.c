#include "config.h"
#include "node/train/state.h"

#include "store/job.h"

#include <math.h>

#define MAGIC_SIZE 4
static const char part_magic[MAGIC_SIZE + 1] = "CTP4";
static const char job_magic[MAGIC_SIZE + 1] = "CTJ4";

/* --- a site's part ---------------------------------------------------------------------------------------------------- */

static const struct proto_field part_fields[] = {
    PROTO_FIELD(struct train_part, version, PROTO_U64, TRAIN_VERSION, TRAIN_VERSION),
    PROTO_FIELD(struct train_part, job_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_part, plan_hash, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct train_part, coordinator, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_part, key, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct train_part, plan, PROTO_BIN, 1, 262144),
    PROTO_FIELD(struct train_part, admit, PROTO_BIN, 1, 1 << 20),
    PROTO_FIELD(struct train_part, rate, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_part, sigma, PROTO_F64, 0, 0),
    PROTO_FIELD(struct train_part, size, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct train_part, steps, PROTO_U64, 1, INT64_MAX),
    PROTO_FIELD(struct train_part, rounds, PROTO_U64, 1, 10000),
    PROTO_FIELD(struct train_part, evaluations, PROTO_U64, 0, 10000),
    PROTO_FIELD(struct train_part, sums_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_part, hist_nano, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_part, last_round, PROTO_U64, 0, 10000),
    PROTO_FIELD(struct train_part, end, PROTO_U64, 0, TRAIN_ENDS - 1),
    PROTO_FIELD(struct train_part, time, PROTO_I64, 0, INT64_C(1) << 40),
    PROTO_FIELD(struct train_part, term, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct train_part, charged, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct train_part, update, PROTO_BIN, 0, 32),
    PROTO_FIELD(struct train_part, control, PROTO_BIN, 0, 32),
    PROTO_FIELD(struct train_part, pending, PROTO_BIN, 0, 32),
    PROTO_FIELD(struct train_part, pending_round, PROTO_U64, 0, 10000),
};
static const struct proto_message part_message =
    PROTO_MESSAGE("part in a job", struct train_part, part_fields);

enum err train_part_encode(const struct train_part *part, struct buf *out)
{
    enum err err = buf_put(out, span_of(part_magic, MAGIC_SIZE));
    return err ? err : proto_codec_encode(&part_message, part, out, NULL);
}

enum err train_part_decode(struct span bytes, struct arena *arena, struct train_part *ret)
{
    if (bytes.len < MAGIC_SIZE || memcmp(bytes.ptr, part_magic, MAGIC_SIZE) != 0) {
        return E_INVALID;
    }
    return proto_codec_decode(
        &part_message, span_of(bytes.ptr + MAGIC_SIZE, bytes.len - MAGIC_SIZE), arena, ret, NULL);
}

void train_part_machine(const struct train_part *part, uint64_t left, struct proto_round_site *ret)
{
    *ret = (struct proto_round_site){
        .state = part->end          ? PROTO_ROUND_SITE_ENDED
                 : part->last_round ? PROTO_ROUND_SITE_ACTIVE
                                    : PROTO_ROUND_SITE_PLANNED,
        .rounds = part->rounds,
        .steps_per_round = part->steps,
        .steps_left = left,
        .last_round = part->last_round,
        .term = part->term,
    };
    memcpy(ret->plan_hash, part->plan_hash.ptr, sizeof ret->plan_hash);
}

struct train_cost train_part_cost(const struct train_part *part)
{
    return (struct train_cost){
        .rate = part->rate,
        .steps = part->steps,
        .rounds = part->rounds,
        .sigma = part->sigma,
        .evaluations = part->evaluations,
        .sums_nano = part->sums_nano,
        .hist_nano = part->hist_nano,
    };
}

/* --- a coordinator's job ---------------------------------------------------------------------------------------------- */

/* The forms on disk: texts as spans, doubles that may be NAN as bytes. */
struct disk_head {
    uint64_t version;
    struct span id, name, dataset, task, coordinator, person;
    uint64_t state;
    struct span error, error_text, yaml, plan;
    uint64_t min_sites, round_timeout_ms, early_stop;
    bool noise;
    double epsilon, delta;
    uint64_t max_rows_per_unit;
    bool planned;
    uint64_t promised, save, term, round, rounds;
    bool finished;
    int64_t started;
    uint64_t numbers;
    struct span weights, first, second; /* 32 each */
    double best_loss;
    uint64_t stale;
    struct span model;
    uint64_t sites, rows;
};
static const struct proto_field head_fields[] = {
    PROTO_FIELD(struct disk_head, version, PROTO_U64, 1, 1),
    PROTO_FIELD(struct disk_head, id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct disk_head, name, PROTO_STR, 0, 64),
    PROTO_FIELD(struct disk_head, dataset, PROTO_STR, 0, 64),
    PROTO_FIELD(struct disk_head, task, PROTO_STR, 0, 31),
    PROTO_FIELD(struct disk_head, coordinator, PROTO_STR, 0, 32),
    PROTO_FIELD(struct disk_head, person, PROTO_STR, 0, 128),
    PROTO_FIELD(struct disk_head, state, PROTO_U64, 0, TRAIN_WAITING),
    PROTO_FIELD(struct disk_head, error, PROTO_STR, 1, 64),
    PROTO_FIELD(struct disk_head, error_text, PROTO_STR, 0, 511),
    PROTO_FIELD(struct disk_head, yaml, PROTO_BIN, 0, TRAIN_YAML_MAX),
    PROTO_FIELD(struct disk_head, plan, PROTO_BIN, 1, 262144),
    PROTO_FIELD(struct disk_head, min_sites, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_head, round_timeout_ms, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_head, early_stop, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_head, noise, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct disk_head, epsilon, PROTO_F64, 0, 0),
    PROTO_FIELD(struct disk_head, delta, PROTO_F64, 0, 0),
    PROTO_FIELD(struct disk_head, max_rows_per_unit, PROTO_U64, 1, UINT32_MAX),
    PROTO_FIELD(struct disk_head, planned, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct disk_head, promised, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_head, save, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_head, term, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_head, round, PROTO_U64, 0, 10000),
    PROTO_FIELD(struct disk_head, rounds, PROTO_U64, 1, 10000),
    PROTO_FIELD(struct disk_head, finished, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct disk_head, started, PROTO_I64, 0, INT64_C(1) << 40),
    PROTO_FIELD(struct disk_head, numbers, PROTO_U64, 1, TRAIN_NUMBERS_MAX),
    PROTO_FIELD(struct disk_head, weights, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct disk_head, first, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct disk_head, second, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct disk_head, best_loss, PROTO_F64, 0, 0),
    PROTO_FIELD(struct disk_head, stale, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_head, model, PROTO_STR, 0, 64),
    PROTO_FIELD(struct disk_head, sites, PROTO_U64, 0, TRAIN_SITES_MAX),
    PROTO_FIELD(struct disk_head, rows, PROTO_U64, 0, 10000),
};
static const struct proto_message head_message =
    PROTO_MESSAGE("job", struct disk_head, head_fields);

struct disk_site {
    struct span id, node, org;
    bool admitted;
    struct span error, state, reason, detail, licence_id;
    uint64_t release;
    struct span duties;
    double rate, sigma;
    uint64_t steps, cost_rounds, evaluations_planned, sums_nano, hist_nano, step_nano, size;
    uint64_t cost_nano, cap_nano, spent_nano, account_delta_e12;
    uint64_t steps_started, evaluations, histograms, rounds, counts;
    double epsilon, count_sum;
};
#define COUNT(member) PROTO_FIELD(struct disk_site, member, PROTO_U64, 0, INT64_MAX)
static const struct proto_field site_fields[] = {
    PROTO_FIELD(struct disk_site, id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct disk_site, node, PROTO_STR, 0, 32),
    PROTO_FIELD(struct disk_site, org, PROTO_STR, 0, 64),
    PROTO_FIELD(struct disk_site, admitted, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct disk_site, error, PROTO_STR, 1, 64),
    PROTO_FIELD(struct disk_site, state, PROTO_STR, 0, 15),
    PROTO_FIELD(struct disk_site, reason, PROTO_STR, 0, 63),
    PROTO_FIELD(struct disk_site, detail, PROTO_STR, 0, 255),
    PROTO_FIELD(struct disk_site, licence_id, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct disk_site, release, PROTO_U64, 0, 2),
    PROTO_FIELD(struct disk_site, duties, PROTO_STR, 0, 511),
    PROTO_FIELD(struct disk_site, rate, PROTO_F64, 0, 0),
    PROTO_FIELD(struct disk_site, sigma, PROTO_F64, 0, 0),
    COUNT(steps),
    COUNT(cost_rounds),
    COUNT(evaluations_planned),
    COUNT(sums_nano),
    COUNT(hist_nano),
    COUNT(step_nano),
    COUNT(size),
    COUNT(cost_nano),
    COUNT(cap_nano),
    COUNT(spent_nano),
    COUNT(account_delta_e12),
    COUNT(steps_started),
    COUNT(evaluations),
    COUNT(histograms),
    COUNT(rounds),
    COUNT(counts),
    PROTO_FIELD(struct disk_site, epsilon, PROTO_F64, 0, 0),
    PROTO_FIELD(struct disk_site, count_sum, PROTO_F64, 0, 0),
};
static const struct proto_message site_message =
    PROTO_MESSAGE("site", struct disk_site, site_fields);

struct disk_absent {
    uint64_t site;
    struct span reason;
};
static const struct proto_field absent_fields[] = {
    PROTO_FIELD(struct disk_absent, site, PROTO_U64, 0, TRAIN_SITES_MAX - 1),
    PROTO_FIELD(struct disk_absent, reason, PROTO_STR, 0, PROTO_ROUND_REASON - 1),
};
static const struct proto_message absent_message =
    PROTO_MESSAGE("absent site", struct disk_absent, absent_fields);

#define ROW_FIGURES 7 /* loss, margin, accuracy, margin, AUC, sigma of types, epsilon */
struct disk_row {
    uint64_t round;
    bool evaluated;
    struct span figures; /* ROW_FIGURES doubles, NAN allowed */
    struct span types;   /* three doubles each */
    uint64_t bytes_up, bytes_down;
    double seconds;
    struct span participants; /* 8 bytes: bits */
    uint64_t term;
    struct span coordinator, mean, weights;
    struct proto_list absent;
};
static const struct proto_field row_fields[] = {
    PROTO_FIELD(struct disk_row, round, PROTO_U64, 0, 10001),
    PROTO_FIELD(struct disk_row, evaluated, PROTO_BOOL, 0, 1),
    PROTO_FIELD(struct disk_row, figures, PROTO_BIN, ROW_FIGURES * 8, ROW_FIGURES * 8),
    PROTO_FIELD(struct disk_row, types, PROTO_BIN, 0, TRAIN_TYPES_MAX * 24),
    PROTO_FIELD(struct disk_row, bytes_up, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_row, bytes_down, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_row, seconds, PROTO_F64, 0, 0),
    PROTO_FIELD(struct disk_row, participants, PROTO_BIN, 8, 8),
    PROTO_FIELD(struct disk_row, term, PROTO_U64, 0, INT64_MAX),
    PROTO_FIELD(struct disk_row, coordinator, PROTO_BIN, 16, 16),
    PROTO_FIELD(struct disk_row, mean, PROTO_BIN, 32, 32),
    PROTO_FIELD(struct disk_row, weights, PROTO_BIN, 32, 32),
    PROTO_FIELD_LIST(struct disk_row, absent, &absent_message, 0, TRAIN_SITES_MAX),
};
static const struct proto_message row_message = PROTO_MESSAGE("round", struct disk_row, row_fields);

static void put_double(uint8_t *to, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    put_be64(to, bits);
}

static double get_double(const uint8_t *from)
{
    uint64_t bits = get_be64(from);
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static enum err put_frame(struct buf *out, const struct proto_message *message, const void *object,
                          struct err_info *reterr)
{
    static const uint8_t room[4];
    size_t at = out->len;
    enum err err = buf_put(out, span_of(room, sizeof room));
    if (!err) {
        err = proto_codec_encode(message, object, out, reterr);
    }
    if (!err) {
        put_be32(out->ptr + at, (uint32_t)(out->len - at - 4));
    }
    return err;
}

static enum err put_head(const struct train_job_state *state, struct buf *out,
                         struct err_info *reterr)
{
    struct disk_head head = {
        .version = 1,
        .id = span_of(state->id, 16),
        .name = span_str(state->name),
        .dataset = span_str(state->dataset),
        .task = span_str(state->task),
        .coordinator = span_str(state->coordinator),
        .person = span_str(state->person),
        .state = state->state,
        .error = span_str(proto_err_name(state->error)),
        .error_text = span_str(state->error_text),
        .yaml = state->yaml.ptr ? state->yaml : span_str(""),
        .plan = state->plan,
        .min_sites = state->min_sites,
        .round_timeout_ms = state->round_timeout_ms,
        .early_stop = state->early_stop,
        .noise = state->noise,
        .epsilon = state->epsilon,
        .delta = state->delta,
        .max_rows_per_unit = state->max_rows_per_unit,
        .planned = state->planned,
        .promised = state->promised,
        .save = state->save,
        .term = state->term,
        .round = state->round,
        .rounds = state->rounds,
        .finished = state->finished,
        .started = state->started,
        .numbers = state->numbers,
        .weights = span_of(state->server.weights, 32),
        .first = span_of(state->server.first, 32),
        .second = span_of(state->server.second, 32),
        .best_loss = state->best_loss,
        .stale = state->stale,
        .model = span_str(state->model),
        .sites = state->site_count,
        .rows = state->history_count,
    };
    return put_frame(out, &head_message, &head, reterr);
}

static enum err put_site(const struct train_site *site, struct buf *out, struct err_info *reterr)
{
    struct disk_site disk = {
        .id = span_of(site->id, 16),
        .node = span_str(site->node),
        .org = span_str(site->org),
        .admitted = site->admitted,
        .error = span_str(proto_err_name(site->error)),
        .state = span_str(site->state),
        .reason = span_str(site->reason),
        .detail = span_str(site->detail),
        .licence_id = span_of(site->licence_id, 16),
        .release = site->release,
        .duties = span_str(site->duties),
        .rate = site->cost.rate,
        .sigma = site->cost.sigma,
        .steps = site->cost.steps,
        .cost_rounds = site->cost.rounds,
        .evaluations_planned = site->cost.evaluations,
        .sums_nano = site->cost.sums_nano,
        .hist_nano = site->cost.hist_nano,
        .step_nano = site->cost.step_nano,
        .size = site->size,
        .cost_nano = site->cost_nano,
        .cap_nano = site->cap_nano,
        .spent_nano = site->spent_nano,
        .account_delta_e12 = site->account_delta_e12,
        .steps_started = site->steps_started,
        .evaluations = site->evaluations,
        .histograms = site->histograms,
        .rounds = site->rounds,
        .counts = site->counts,
        .epsilon = site->epsilon,
        .count_sum = site->count_sum,
    };
    return put_frame(out, &site_message, &disk, reterr);
}

static enum err put_row(const struct train_round_row *row, struct buf *out, struct err_info *reterr)
{
    uint8_t figures[ROW_FIGURES * 8];
    uint8_t participants[8];
    uint8_t types[TRAIN_TYPES_MAX * 24];
    struct disk_absent absent[TRAIN_SITES_MAX];
    const double values[ROW_FIGURES] = {
        row->loss, row->loss_margin, row->accuracy, row->accuracy_margin,
        row->auc,  row->type_sigma,  row->epsilon};
    for (size_t i = 0; i < ROW_FIGURES; i++) {
        put_double(figures + 8 * i, values[i]);
    }
    for (size_t i = 0; i < 3 * (size_t)row->types; i++) {
        put_double(types + 8 * i, row->type_counts[i / 3][i % 3]);
    }
    put_be64(participants, row->participants);
    for (size_t i = 0; i < row->absent_count; i++) {
        absent[i] = (struct disk_absent){row->absent[i].site, span_str(row->absent[i].reason)};
    }
    struct disk_row disk = {
        .round = row->round,
        .evaluated = row->evaluated,
        .figures = span_of(figures, sizeof figures),
        .types = span_of(types, 24 * (size_t)row->types),
        .bytes_up = row->bytes_up,
        .bytes_down = row->bytes_down,
        .seconds = row->seconds,
        .participants = span_of(participants, sizeof participants),
        .term = row->term,
        .coordinator = span_of(row->coordinator, 16),
        .mean = span_of(row->mean, 32),
        .weights = span_of(row->weights, 32),
        .absent = {absent, row->absent_count},
    };
    return put_frame(out, &row_message, &disk, reterr);
}

/* Length 0: there is none. */
static enum err put_machine(const struct train_job_state *state, struct buf *out,
                            struct err_info *reterr)
{
    uint8_t length[4];
    struct buf bytes = {.max = PROTO_ROUND_SNAPSHOT};
    enum err err = state->has_machine ? proto_round_encode(&state->machine, &bytes, reterr) : E_OK;
    put_be32(length, (uint32_t)bytes.len);
    if (!err) {
        err = buf_put(out, span_of(length, sizeof length));
    }
    if (!err && bytes.len) {
        err = buf_put(out, buf_span(&bytes));
    }
    buf_fini(&bytes);
    return err;
}

enum err train_job_state_encode(const struct train_job_state *state, struct buf *out,
                                struct err_info *reterr)
{
    enum err err = buf_put(out, span_of(job_magic, MAGIC_SIZE));
    if (!err) {
        err = put_head(state, out, reterr);
    }
    if (!err) {
        err = put_machine(state, out, reterr);
    }
    for (size_t i = 0; !err && i < state->site_count; i++) {
        err = put_site(&state->sites[i], out, reterr);
    }
    for (size_t i = 0; !err && i < state->history_count; i++) {
        err = put_row(&state->history[i], out, reterr);
    }
    return err;
}

static enum err take_frame(struct span *from, struct span *ret)
{
    if (from->len < 4 || get_be32(from->ptr) > from->len - 4) {
        return E_TRUNCATED;
    }
    *ret = span_of(from->ptr + 4, get_be32(from->ptr));
    *from = span_of(ret->ptr + ret->len, from->len - 4 - ret->len);
    return E_OK;
}

static enum err get_frame(struct span *from, const struct proto_message *message,
                          struct arena *arena, void *object, struct err_info *reterr)
{
    struct span body;
    enum err err = take_frame(from, &body);
    return err ? err : proto_codec_decode(message, body, arena, object, reterr);
}

static enum err get_machine(struct span *from, struct train_job_state *state,
                            struct err_info *reterr)
{
    struct span body;
    enum err err = take_frame(from, &body);
    if (err || body.len == 0) {
        return err;
    }
    err = proto_round_decode(body, &state->machine, reterr);
    state->has_machine = !err;
    return err || state->machine.site_count == state->site_count ? err : E_INVALID;
}

static bool text(struct span from, char *to, size_t size)
{
    return span_to_cstr(from, to, size);
}

static enum err keep_bytes(struct arena *arena, struct span from, struct span *ret)
{
    uint8_t *copy = arena_alloc(arena, from.len + 1, 1);
    if (!copy) {
        return E_NO_MEMORY;
    }
    memcpy(copy, from.ptr, from.len);
    *ret = span_of(copy, from.len);
    return E_OK;
}

/* A name that this version does not know is not taken for another error. */
static bool error_named(struct span from, enum err *ret)
{
    char name[65];
    if (!text(from, name, sizeof name)) {
        return false;
    }
    *ret = proto_err_by_name(name);
    return strcmp(proto_err_name(*ret), name) == 0;
}

static enum err get_head(const struct disk_head *head, struct train_job_state *state)
{
    bool fits = text(head->name, state->name, sizeof state->name) &&
                text(head->dataset, state->dataset, sizeof state->dataset) &&
                text(head->task, state->task, sizeof state->task) &&
                text(head->coordinator, state->coordinator, sizeof state->coordinator) &&
                text(head->person, state->person, sizeof state->person) &&
                error_named(head->error, &state->error) &&
                text(head->error_text, state->error_text, sizeof state->error_text) &&
                text(head->model, state->model, sizeof state->model);
    if (!fits) {
        return E_INVALID;
    }
    memcpy(state->id, head->id.ptr, 16);
    state->state = head->state;
    state->min_sites = head->min_sites;
    state->round_timeout_ms = head->round_timeout_ms;
    state->early_stop = head->early_stop;
    state->noise = head->noise;
    state->numbers = head->numbers;
    memcpy(state->server.weights, head->weights.ptr, 32);
    memcpy(state->server.first, head->first.ptr, 32);
    memcpy(state->server.second, head->second.ptr, 32);
    state->epsilon = head->epsilon;
    state->delta = head->delta;
    state->max_rows_per_unit = head->max_rows_per_unit;
    state->planned = head->planned;
    state->promised = head->promised;
    state->save = head->save;
    state->term = head->term;
    state->round = state->saved = head->round;
    state->rounds = head->rounds;
    state->finished = head->finished;
    state->started = head->started;
    state->best_loss = head->best_loss;
    state->stale = head->stale;
    state->site_count = head->sites;
    enum err err = keep_bytes(&state->arena, head->yaml, &state->yaml);
    if (!err) {
        err = keep_bytes(&state->arena, head->plan, &state->plan);
    }
    train_plan_hash(state->plan, state->plan_hash);
    return err;
}

static enum err get_site(const struct disk_site *disk, struct train_site *site)
{
    bool fits = text(disk->node, site->node, sizeof site->node) &&
                text(disk->org, site->org, sizeof site->org) &&
                error_named(disk->error, &site->error) &&
                text(disk->state, site->state, sizeof site->state) &&
                text(disk->reason, site->reason, sizeof site->reason) &&
                text(disk->detail, site->detail, sizeof site->detail) &&
                text(disk->duties, site->duties, sizeof site->duties);
    if (!fits) {
        return E_INVALID;
    }
    memcpy(site->id, disk->id.ptr, 16);
    memcpy(site->licence_id, disk->licence_id.ptr, 16);
    site->admitted = disk->admitted;
    site->release = disk->release;
    site->cost = (struct train_cost){disk->rate,      disk->steps,     disk->cost_rounds,
                                     disk->sigma,     disk->step_nano, disk->evaluations_planned,
                                     disk->sums_nano, disk->hist_nano};
    site->size = disk->size;
    site->cost_nano = disk->cost_nano;
    site->cap_nano = disk->cap_nano;
    site->spent_nano = disk->spent_nano;
    site->account_delta_e12 = disk->account_delta_e12;
    site->steps_started = disk->steps_started;
    site->evaluations = disk->evaluations;
    site->histograms = disk->histograms;
    site->rounds = disk->rounds;
    site->counts = disk->counts;
    site->epsilon = disk->epsilon;
    site->count_sum = disk->count_sum;
    return E_OK;
}

static enum err get_row(const struct disk_row *disk, struct train_round_row *row)
{
    const struct disk_absent *absent = disk->absent.items;
    row->round = disk->round;
    row->evaluated = disk->evaluated;
    row->loss = get_double(disk->figures.ptr);
    row->loss_margin = get_double(disk->figures.ptr + 8);
    row->accuracy = get_double(disk->figures.ptr + 16);
    row->accuracy_margin = get_double(disk->figures.ptr + 24);
    row->auc = get_double(disk->figures.ptr + 32);
    row->type_sigma = get_double(disk->figures.ptr + 40);
    row->epsilon = get_double(disk->figures.ptr + 48);
    if (disk->types.len % 24) {
        return E_INVALID;
    }
    row->types = (uint32_t)(disk->types.len / 24);
    for (size_t i = 0; i < 3 * (size_t)row->types; i++) {
        row->type_counts[i / 3][i % 3] = get_double(disk->types.ptr + 8 * i);
    }
    row->term = disk->term;
    memcpy(row->coordinator, disk->coordinator.ptr, 16);
    memcpy(row->mean, disk->mean.ptr, 32);
    memcpy(row->weights, disk->weights.ptr, 32);
    row->bytes_up = disk->bytes_up;
    row->bytes_down = disk->bytes_down;
    row->seconds = disk->seconds;
    row->participants = get_be64(disk->participants.ptr);
    row->absent_count = disk->absent.count;
    for (size_t i = 0; i < disk->absent.count; i++) {
        row->absent[i].site = absent[i].site;
        if (!text(absent[i].reason, row->absent[i].reason, sizeof row->absent[i].reason)) {
            return E_INVALID;
        }
    }
    return E_OK;
}

static enum err decode(struct span from, struct arena *arena, struct train_job_state *ret,
                       struct err_info *reterr)
{
    struct disk_head head;
    enum err err = get_frame(&from, &head_message, arena, &head, reterr);
    if (!err) {
        err = get_head(&head, ret);
    }
    if (!err) {
        err = get_machine(&from, ret, reterr);
    }
    for (size_t i = 0; !err && i < ret->site_count; i++) {
        struct disk_site site;
        err = get_frame(&from, &site_message, arena, &site, reterr);
        err = err ? err : get_site(&site, &ret->sites[i]);
    }
    for (size_t i = 0; !err && i < head.rows; i++) {
        struct disk_row disk;
        struct train_round_row *row;
        err = get_frame(&from, &row_message, arena, &disk, reterr);
        if (!err) {
            err = train_job_state_row(ret, &row);
        }
        err = err ? err : get_row(&disk, row);
    }
    return err ? err : (from.len ? E_INVALID : E_OK);
}

enum err train_job_state_decode(struct span bytes, struct train_job_state *ret,
                                struct err_info *reterr)
{
    struct arena arena = {0};
    if (bytes.len < MAGIC_SIZE || memcmp(bytes.ptr, job_magic, MAGIC_SIZE) != 0) {
        return E_INVALID;
    }
    enum err err =
        decode(span_of(bytes.ptr + MAGIC_SIZE, bytes.len - MAGIC_SIZE), &arena, ret, reterr);
    arena_fini(&arena);
    return err;
}

void train_job_state_fini(struct train_job_state *state)
{
    proto_free(state->history);
    arena_fini(&state->arena);
    memset(state, 0, sizeof *state);
}

enum err train_job_state_row(struct train_job_state *state, struct train_round_row **ret)
{
    if (state->history_count == state->history_cap) {
        size_t cap = state->history_cap ? state->history_cap * 2 : 16;
        struct train_round_row *grown = proto_realloc(state->history, cap, sizeof *grown);
        if (!grown) {
            return E_NO_MEMORY;
        }
        state->history = grown;
        state->history_cap = cap;
    }
    *ret = &state->history[state->history_count++];
    memset(*ret, 0, sizeof **ret);
    (*ret)->loss = (*ret)->loss_margin = (*ret)->accuracy = (*ret)->accuracy_margin = (*ret)->auc =
        NAN;
    return E_OK;
}
