#include "config.h"
#include "store/scan.h"

#include "store/crew.h"
#include "store/pack.h"
#include "store/scan_file.h"

#include <pthread.h>
#include <stdatomic.h>

#define READ_MAX    (STORE_CHUNK_BYTES_MAX + 16384)
#define CREW_CHUNKS 4 /* fewer a thread are not worth starting one */

/* One scan, seen by all its threads. */
struct scan {
    struct store_partition *partition;
    const struct store_scan_question *question;
    struct arena arena;
    int *columns; /* that it may read */
    struct store_zones *zones;
    size_t column_count;
    size_t *shown; /* by column of the question: index into columns */
    size_t unit;
    struct worker *workers;
    size_t worker_count;
    atomic_uint_fast32_t next; /* chunk that nobody has taken yet */
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    enum err err;         /* the first one */
    struct err_info *reterr;
    struct store_scan_stats stats;
};

/* One thread of it. */
struct worker {
    struct scan *scan;
    void *user;
    MDB_txn *txn;
    struct crypto_opener *opener;
    struct store_slot *slots;
    struct store_filter filter;
    struct store_batch_column *out;
    struct store_batch_column
        *part;             /* the same from some row of the chunk on, where text is shown */
    uint64_t *part_bits;   /* its bitmaps: the selection and one for each column */
    uint32_t *row_numbers; /* units, when each row is one */
    uint32_t chunk;
    size_t rows;
    struct store_scan_stats stats;
    struct err_info info;
};

/* --- columns ------------------------------------------------------------------------------- */

static enum err refuse(const struct scan *scan, const char *what)
{
    return proto_err_set(scan->reterr, E_INVALID, "dataset %s: %s", scan->partition->dataset, what);
}

static enum err add_column(void *user, int column)
{
    struct scan *scan = user;
    if (column < 0 || (size_t)column >= scan->partition->schema.count) {
        return refuse(scan, "a column that it does not have");
    }
    for (size_t i = 0; i < scan->column_count; i++) {
        if (scan->columns[i] == column) {
            return E_OK;
        }
    }
    scan->columns[scan->column_count++] = column;
    return E_OK;
}

static size_t place_of(const struct scan *scan, int column)
{
    size_t i = 0;
    while (scan->columns[i] != column) {
        i++;
    }
    return i;
}

static uint32_t histogram_codes(const struct store_partition *partition, int column)
{
    const struct store_partition_column *stored = &partition->columns[column];
    bool has = stored->form == STORE_FORM_CODE && !partition->schema.columns[column].values_private;
    return has && stored->value_count <= STORE_HISTOGRAM_MAX ? stored->value_count : 0;
}

static enum err load_zones(struct scan *scan, const struct worker *by, size_t place)
{
    const struct store_partition *partition = scan->partition;
    const char *name = partition->schema.columns[scan->columns[place]].name;
    uint32_t codes = histogram_codes(partition, scan->columns[place]);
    struct store_zones *zones = &scan->zones[place];
    zones->zones = proto_alloc(partition->chunks + 1, sizeof *zones->zones);
    zones->histogram_codes = codes;
    if (codes) {
        zones->histogram = proto_alloc((size_t)partition->chunks * codes, sizeof(uint32_t));
    }
    if (!zones->zones || (codes && !zones->histogram)) {
        return proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    }
    struct buf plain = {.max = READ_MAX};
    enum err err = E_OK;
    for (uint32_t first = 0; first < partition->chunks && !err; first += STORE_ZONE_CHUNKS) {
        uint32_t left = partition->chunks - first;
        err = store_partition_read(partition, by->txn, by->opener, STORE_PARTITION_ZONE, name,
                                   first / STORE_ZONE_CHUNKS, 0, &plain, scan->reterr);
        if (!err &&
            store_zones_take(buf_span(&plain), left < STORE_ZONE_CHUNKS ? left : STORE_ZONE_CHUNKS,
                             codes, zones->zones + first,
                             codes ? zones->histogram + (size_t)first * codes : NULL) != E_OK) {
            err = proto_err_set(scan->reterr, E_CORRUPT, "dataset %s, file %s: a zone map",
                                partition->dataset, partition->file);
        }
    }
    if (plain.ptr) {
        crypto_wipe(plain.ptr, plain.cap);
    }
    buf_fini(&plain);
    return err;
}

static void drop_zones(const struct scan *scan, struct store_zones *zones)
{
    size_t chunks = scan->partition->chunks;
    if (zones->zones) {
        crypto_wipe(zones->zones, (chunks + 1) * sizeof *zones->zones);
    }
    if (zones->histogram) {
        crypto_wipe(zones->histogram, chunks * zones->histogram_codes * sizeof(uint32_t));
    }
    proto_free(zones->zones);
    proto_free(zones->histogram);
}

/* --- one chunk ----------------------------------------------------------------------------- */

static enum err load(void *user, struct store_slot *slot)
{
    struct worker *worker = user;
    const struct store_partition *partition = worker->scan->partition;
    if (slot->loaded) {
        return E_OK;
    }
    enum err err =
        store_partition_read_at(partition, worker->txn, worker->opener, &slot->key, worker->chunk,
                                (uint32_t)worker->rows, &slot->plain, &worker->info);
    if (err) {
        return err;
    }
    err = store_column_open(buf_span(&slot->plain), partition->columns[slot->column].form,
                            worker->rows, &slot->chunk);
    if (err) {
        return proto_err_set(&worker->info, err, "dataset %s, file %s: column %s: %s",
                             partition->dataset, partition->file, slot->key.name,
                             proto_err_text(err));
    }
    slot->loaded = true;
    worker->stats.values_opened++;
    worker->stats.bytes_opened += slot->plain.len;
    return E_OK;
}

static enum err show(struct worker *worker, struct store_slot *slot, struct store_batch_column *to)
{
    enum err err = load(worker, slot);
    if (!err && store_chunk_unpack(&slot->chunk)) {
        err = proto_err_set(&worker->info, E_NO_MEMORY, "scanning");
    }
    const struct store_chunk *chunk = &slot->chunk;
    *to = (struct store_batch_column){.code = chunk->code,
                                      .base = chunk->base,
                                      .divisor = chunk->divisor,
                                      .bits = chunk->bits,
                                      .number = chunk->number,
                                      .null = chunk->null};
    slot->segment_at = slot->segment_first = 0;
    slot->segment_open = false;
    return err;
}

static enum err units_of(struct worker *worker, const uint32_t **ret)
{
    const struct scan *scan = worker->scan;
    *ret = NULL;
    if (!scan->question->with_unit) {
        return E_OK;
    }
    if (scan->partition->unit >= 0) {
        struct store_batch_column unit;
        enum err err = show(worker, &worker->slots[scan->unit], &unit);
        *ret = unit.code;
        return err;
    }
    uint32_t first = worker->chunk * STORE_CHUNK_ROWS;
    for (size_t i = 0; i < worker->rows; i++) {
        worker->row_numbers[i] = first + (uint32_t)i;
    }
    *ret = worker->row_numbers;
    return E_OK;
}

/* --- texts --------------------------------------------------------------------------------- */

static struct store_slot *shown_text(const struct worker *worker, size_t i)
{
    struct store_slot *slot = &worker->slots[worker->scan->shown[i]];
    return slot->chunk.segments ? slot : NULL;
}

/* The first row behind FIRST that is in another segment of any shown text. */
static size_t part_end(const struct worker *worker, size_t first)
{
    size_t end = worker->rows;
    for (size_t i = 0; i < worker->scan->question->count; i++) {
        struct store_slot *slot = shown_text(worker, i);
        if (!slot) {
            continue;
        }
        while (slot->segment_first + slot->chunk.segments[slot->segment_at] <= first) {
            slot->segment_first += slot->chunk.segments[slot->segment_at++];
            slot->segment_open = false;
        }
        size_t last = slot->segment_first + slot->chunk.segments[slot->segment_at];
        end = last < end ? last : end;
    }
    return end;
}

static enum err open_segment(struct worker *worker, struct store_slot *slot)
{
    const struct store_partition *partition = worker->scan->partition;
    uint32_t number = worker->chunk << STORE_SEGMENT_BITS | (uint32_t)slot->segment_at;
    uint32_t rows = slot->chunk.segments[slot->segment_at];
    if (slot->segment_open) {
        return E_OK;
    }
    enum err err =
        store_partition_read_at(partition, worker->txn, worker->opener, &slot->segment_key, number,
                                rows, &slot->segment_plain, &worker->info);
    if (err) {
        return err;
    }
    err = store_segment_decode(buf_span(&slot->segment_plain), rows, &slot->segment);
    slot->segment_open = !err;
    worker->stats.values_opened++;
    worker->stats.bytes_opened += slot->segment_plain.len;
    return err ? proto_err_set(&worker->info, err, "dataset %s, file %s: column %s: %s",
                               partition->dataset, partition->file, slot->key.name,
                               proto_err_text(err))
               : E_OK;
}

/* ROWS bits from FIRST on. */
static void cut_bits(const uint64_t *from, size_t first, size_t rows, uint64_t *to)
{
    for (size_t at = 0; at < rows; at += 64) {
        size_t bit = first + at;
        size_t left = rows - at;
        uint64_t word = from[bit / 64] >> bit % 64;
        if (bit % 64 && left > 64 - bit % 64) { /* else the next word has none of them */
            word |= from[bit / 64 + 1] << (64 - bit % 64);
        }
        word &= left < 64 ? ((uint64_t)1 << left) - 1 : UINT64_MAX;
        to[at / 64] = word;
    }
}

static enum err cut_column(struct worker *worker, size_t i, size_t first, size_t rows)
{
    const struct store_batch_column *whole = &worker->out[i];
    struct store_batch_column *to = &worker->part[i];
    *to = *whole;
    to->code = whole->code ? whole->code + first : NULL;
    to->number = whole->number ? whole->number + first : NULL;
    if (whole->null) {
        uint64_t *null = worker->part_bits + (i + 1) * STORE_CHUNK_WORDS;
        cut_bits(whole->null, first, rows, null);
        to->null = null;
    }
    struct store_slot *slot = shown_text(worker, i);
    enum err err = slot ? open_segment(worker, slot) : E_OK;
    if (slot && !err) {
        to->text = slot->segment.text;
        to->text_start = slot->segment.text_start + (first - slot->segment_first);
    }
    return err;
}

/* Rows without a selected one are passed over, and so are segments of text that have no others. */
static enum err report_parts(struct worker *worker, const struct store_batch *whole)
{
    const struct store_scan_question *question = worker->scan->question;
    enum err err = E_OK;
    for (size_t first = 0, end; first < whole->rows && !err; first = end) {
        end = part_end(worker, first);
        cut_bits(whole->selected, first, end - first, worker->part_bits);
        size_t count = store_count_bits(worker->part_bits, (end - first + 63) / 64);
        for (size_t i = 0; i < question->count && !err && count; i++) {
            err = cut_column(worker, i, first, end - first);
        }
        struct store_batch batch = {.rows = end - first,
                                    .first_row = whole->first_row + first,
                                    .selected = worker->part_bits,
                                    .selected_count = count,
                                    .columns = worker->part,
                                    .unit = whole->unit ? whole->unit + first : NULL};
        err = err || !count ? err : question->on_batch(worker->user, &batch);
    }
    return err;
}

static enum err report(struct worker *worker, const uint64_t *selected, size_t count)
{
    const struct scan *scan = worker->scan;
    bool text = false;
    enum err err = E_OK;
    for (size_t i = 0; i < scan->question->count && !err; i++) {
        err = show(worker, &worker->slots[scan->shown[i]], &worker->out[i]);
        text = text || shown_text(worker, i);
    }
    const uint32_t *unit = NULL;
    err = err ? err : units_of(worker, &unit);
    if (err) {
        return err;
    }
    struct store_batch batch = {.rows = worker->rows,
                                .first_row = (uint64_t)worker->chunk * STORE_CHUNK_ROWS,
                                .selected = selected,
                                .selected_count = count,
                                .columns = worker->out,
                                .unit = unit};
    return text ? report_parts(worker, &batch) : scan->question->on_batch(worker->user, &batch);
}

static enum err scan_chunk(struct worker *worker)
{
    const struct scan *scan = worker->scan;
    worker->rows = store_partition_chunk_rows(scan->partition, worker->chunk);
    worker->stats.chunks++;
    for (size_t i = 0; i < scan->column_count; i++) {
        worker->slots[i].loaded = false;
        if (scan->zones[i].zones[worker->chunk].rows != worker->rows) {
            return proto_err_set(&worker->info, E_CORRUPT, "dataset %s, file %s: a zone map",
                                 scan->partition->dataset, scan->partition->file);
        }
    }
    if (!store_filter_begin(&worker->filter, worker->chunk, worker->rows)) {
        worker->stats.chunks_skipped++;
        return E_OK;
    }
    const uint64_t *selected;
    size_t count;
    enum err err = store_filter_rows(&worker->filter, &selected, &count);
    return err || !count ? err : report(worker, selected, count);
}

/* --- threads ------------------------------------------------------------------------------- */

/* A read transaction, a cipher and room for the columns. */
static enum err open_worker(struct scan *scan, struct worker *worker, void *user)
{
    const struct store_partition *partition = scan->partition;
    worker->scan = scan;
    worker->user = user;
    int rc = mdb_txn_begin(store_env_mdb(partition->env), NULL, MDB_RDONLY, &worker->txn);
    enum err err = rc ? store_env_error(rc, partition->file, scan->reterr) : E_OK;
    if (!err) {
        err = crypto_opener_new(partition->dek, store_partition_context(), &worker->opener);
        err = err ? proto_err_set(scan->reterr, err, "scanning") : E_OK;
    }
    return err;
}

static bool shows_text(const struct scan *scan)
{
    bool text = false;
    for (size_t i = 0; i < scan->question->count; i++) {
        text = text || scan->partition->columns[scan->question->columns[i]].form == STORE_FORM_TEXT;
    }
    return text;
}

static enum err prepare_worker(struct scan *scan, struct worker *worker)
{
    const struct store_partition *partition = scan->partition;
    size_t count = scan->column_count;
    worker->slots = arena_alloc(&scan->arena, count + 1, sizeof *worker->slots);
    worker->out = arena_alloc(&scan->arena, scan->question->count + 1, sizeof *worker->out);
    worker->part = arena_alloc(&scan->arena, scan->question->count + 1, sizeof *worker->part);
    size_t bitmaps = shows_text(scan) ? scan->question->count + 1 : 0;
    worker->part_bits = proto_alloc(bitmaps * STORE_CHUNK_WORDS + 1, sizeof *worker->part_bits);
    bool numbers = scan->question->with_unit && partition->unit < 0;
    worker->row_numbers =
        numbers ? proto_alloc(STORE_CHUNK_ROWS, sizeof *worker->row_numbers) : NULL;
    if (!worker->slots || !worker->out || !worker->part || !worker->part_bits ||
        (numbers && !worker->row_numbers)) {
        return proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    }
    for (size_t i = 0; i < count; i++) {
        struct store_slot *slot = &worker->slots[i];
        slot->column = scan->columns[i];
        slot->zones = &scan->zones[i];
        slot->plain.max = READ_MAX;
        slot->segment_plain.max = READ_MAX;
        store_partition_value_key(partition, STORE_PARTITION_CHUNK,
                                  partition->schema.columns[slot->column].name, &slot->key);
        store_partition_value_key(partition, STORE_PARTITION_SEGMENT, slot->key.name,
                                  &slot->segment_key);
    }
    worker->filter = (struct store_filter){.partition = partition,
                                           .slots = worker->slots,
                                           .slot_count = count,
                                           .load = load,
                                           .user = worker};
    return store_filter_init(&worker->filter, scan->question->where, scan->reterr);
}

static void close_worker(const struct scan *scan, struct worker *worker)
{
    for (size_t i = 0; worker->slots && i < scan->column_count; i++) {
        struct store_slot *slot = &worker->slots[i];
        store_chunk_fini(&slot->chunk);
        if (slot->plain.ptr) {
            crypto_wipe(slot->plain.ptr, slot->plain.cap);
        }
        buf_fini(&slot->plain);
        store_segment_fini(&slot->segment);
        crypto_buf_fini(&slot->segment_plain);
    }
    store_filter_fini(&worker->filter);
    proto_free(worker->part_bits);
    proto_free(worker->row_numbers);
    crypto_opener_free(worker->opener);
    if (worker->txn) {
        mdb_txn_abort(worker->txn);
    }
}

static void fail(struct scan *scan, enum err err, const struct err_info *info)
{
    pthread_mutex_lock(&scan->lock);
    if (!scan->err) {
        scan->err = err;
        if (scan->reterr && info->code) { /* else ON_BATCH told its caller in its own way */
            *scan->reterr = *info;
        }
    }
    pthread_mutex_unlock(&scan->lock);
    atomic_store(&scan->stop, true);
}

static void work(void *user, size_t index)
{
    struct scan *scan = user;
    struct worker *worker = &scan->workers[index];
    const struct store_scan_question *question = scan->question;
    while (!atomic_load(&scan->stop)) {
        if (index == 0 && question->cancelled && question->cancelled(question->cancel_user)) {
            fail(scan, proto_err_set(&worker->info, E_CANCELLED, "the scan was cancelled"),
                 &worker->info);
            return;
        }
        worker->chunk = (uint32_t)atomic_fetch_add(&scan->next, 1);
        if (worker->chunk >= scan->partition->chunks) {
            return;
        }
        enum err err = scan_chunk(worker);
        if (err) {
            fail(scan, err, &worker->info);
        }
    }
}

/* --- the scan ------------------------------------------------------------------------------ */

static enum err choose_columns(struct scan *scan)
{
    const struct store_scan_question *question = scan->question;
    if (question->count > STORE_SCAN_COLUMNS) {
        return refuse(scan, "too many columns at once");
    }
    size_t most = scan->partition->schema.count + 1;
    scan->columns = arena_alloc(&scan->arena, most, sizeof *scan->columns);
    scan->zones = arena_alloc(&scan->arena, most, sizeof *scan->zones);
    scan->shown = arena_alloc(&scan->arena, question->count + 1, sizeof *scan->shown);
    if (!scan->columns || !scan->zones || !scan->shown) {
        return proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    }
    enum err err =
        store_filter_columns(scan->partition, question->where, add_column, scan, scan->reterr);
    for (size_t i = 0; i < question->count && !err; i++) {
        err = add_column(scan, question->columns[i]);
        scan->shown[i] = err ? 0 : place_of(scan, question->columns[i]);
    }
    if (!err && question->with_unit && scan->partition->unit >= 0) {
        err = add_column(scan, scan->partition->unit);
        scan->unit = err ? 0 : place_of(scan, scan->partition->unit);
    }
    return err;
}

static enum err prepare(struct scan *scan)
{
    const struct store_scan_question *question = scan->question;
    scan->worker_count = store_scan_workers(scan->partition);
    scan->worker_count =
        question->user_count < scan->worker_count ? question->user_count : scan->worker_count;
    scan->workers = arena_alloc(&scan->arena, scan->worker_count, sizeof *scan->workers);
    enum err err =
        scan->workers ? choose_columns(scan) : proto_err_set(scan->reterr, E_NO_MEMORY, "scanning");
    for (size_t i = 0; i < scan->worker_count && !err; i++) {
        err = open_worker(scan, &scan->workers[i], question->users[i]);
    }
    for (size_t i = 0; i < scan->column_count && !err; i++) {
        err = load_zones(scan, &scan->workers[0], i);
    }
    for (size_t i = 0; i < scan->worker_count && !err; i++) {
        err = prepare_worker(scan, &scan->workers[i]);
    }
    return err;
}

static void finish(struct scan *scan)
{
    for (size_t i = 0; scan->workers && i < scan->worker_count; i++) {
        const struct store_scan_stats *from = &scan->workers[i].stats;
        scan->stats.chunks += from->chunks;
        scan->stats.chunks_skipped += from->chunks_skipped;
        scan->stats.values_opened += from->values_opened;
        scan->stats.bytes_opened += from->bytes_opened;
        close_worker(scan, &scan->workers[i]);
    }
    for (size_t i = 0; scan->zones && i < scan->column_count; i++) {
        drop_zones(scan, &scan->zones[i]);
    }
    arena_fini(&scan->arena);
    pthread_mutex_destroy(&scan->lock);
}

size_t store_scan_workers(const struct store_partition *partition)
{
    return store_crew_size(partition->chunks / CREW_CHUNKS);
}

enum err store_scan_ask(struct store_partition *partition,
                        const struct store_scan_question *question, struct store_scan_stats *stats,
                        struct err_info *reterr)
{
    struct scan scan = {.partition = partition,
                        .question = question,
                        .reterr = reterr,
                        .lock = PTHREAD_MUTEX_INITIALIZER};
    enum err err = prepare(&scan);
    if (!err) {
        store_crew_run(scan.worker_count, work, &scan);
        err = scan.err;
    }
    finish(&scan);
    if (stats) {
        *stats = scan.stats;
    }
    return err;
}

enum err store_scan_with(struct store_partition *partition, const int *columns, size_t count,
                         const struct proto_predicate *where, bool with_unit,
                         bool (*cancelled)(void *user), store_scan_fn *on_batch, void *user,
                         struct store_scan_stats *stats, struct err_info *reterr)
{
    const struct store_scan_question question = {.columns = columns,
                                                 .count = count,
                                                 .where = where,
                                                 .with_unit = with_unit,
                                                 .cancelled = cancelled,
                                                 .cancel_user = user,
                                                 .on_batch = on_batch,
                                                 .users = &user,
                                                 .user_count = 1};
    return store_scan_ask(partition, &question, stats, reterr);
}

enum err store_scan(struct store_partition *partition, const int *columns, size_t count,
                    const struct proto_predicate *where, bool (*cancelled)(void *user),
                    store_scan_fn *on_batch, void *user, struct err_info *reterr)
{
    return store_scan_with(partition, columns, count, where, true, cancelled, on_batch, user, NULL,
                           reterr);
}
