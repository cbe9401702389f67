/* The way of a question through the code that serves it: parse, bind, plan, scan sealed rows, bound each patient, noise, minimum
 * cohort, threshold of private groups. Each run asks with another constant outside of the data's range, as an asker would to get fresh
 * noise.
 *
 * Two tables that differ by one patient: `with` has beside the rows of `without`, which are all harmless, those of "victim": 2,000
 * rows at the highest value, most of them in group "d", where nobody else is, and in 100 private groups of its own. Questions with
 * private groups are released with a delta0 that is large enough to be seen. */
#include "config.h"
#include "tests/audit/audit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/query/release.h"
#include "proto/privacy.h"
#include "proto/sql.h"
#include "tests/unit/store/dataset.h"

#define HEAVY_ROWS 2000
#define ROWS_KEPT  4
#define EPSILON    2.0
#define DELTA_E12  UINT64_C(1000000000)
#define OWN_KEYS   100
#define DELTA0_E18 UINT64_C(9000000000000000) /* just below one of the deltas that are judged */

static const char *groups[] = {"a", "b", "c", "d"};
static struct proto_column columns[] = {
    {.name = "patient", .type = PROTO_COLUMN_TEXT},
    {.name = "g", .type = PROTO_COLUMN_CATEGORY, .values = groups, .value_count = 4},
    {.name = "k", .type = PROTO_COLUMN_CATEGORY, .values_private = true},
    {.name = "x", .type = PROTO_COLUMN_REAL, .has_bounds = true, .max = 100},
    {.name = "y", .type = PROTO_COLUMN_INTEGER, .has_bounds = true, .min = 0, .max = 7},
};

struct tables {
    struct home home;
    struct store_partition *partition;
    const struct proto_schema *schema;
};

static void write_rows(const char *path, bool with)
{
    FILE *file = fopen(path, "w");
    if (!file) {
        abort();
    }
    fputs("patient,g,k,x,y\n", file);
    for (int i = 0; i < 60; i++) {
        fprintf(file, "p%d,%s,common,%s,%d\n", i / 2, groups[i % 3], i % 5 ? "0" : "", i % 3);
    }
    for (int i = 0; with && i < HEAVY_ROWS; i++) {
        fprintf(file, "victim,%s,rare%d,100,7\n", groups[i % 8 ? 3 : i / 8 % 3], i % OWN_KEYS);
    }
    if (fclose(file)) {
        abort();
    }
}

static void tables_make(struct tables *tables)
{
    static const char *const names[2] = {"without", "with"};
    struct err_info info = {0};
    home_open(&tables->home);
    for (int side = 0; side < 2; side++) {
        char path[128];
        struct proto_manifest manifest;
        struct store_import_report report;
        snprintf(path, sizeof path, "%s/rows.csv", tables->home.path);
        write_rows(path, side);
        manifest_init(&manifest, names[side], columns, sizeof columns / sizeof *columns, "patient");
        manifest.schema.max_rows_per_unit = ROWS_KEPT;
        struct store_import_options options = {.data_path = path};
        if (proto_manifest_check(&manifest, &info) ||
            store_import_run(&tables->home.store, &manifest, &options, &report, &info)) {
            fprintf(stderr, "%s\n", info.text);
            abort();
        }
    }
    if (store_partition_open(&tables->home.store, "with", &tables->partition, &info)) {
        abort();
    }
    tables->schema = store_partition_schema(tables->partition);
}

struct question {
    struct tables *tables;
    const char *select; /* up to FROM */
    const char *group;  /* from GROUP BY on */
    const char *key;    /* of private groups: how those begin that are looked for */
    uint64_t asked;
    size_t dims;
    size_t looked[JUDGE_DIMS]; /* numbers of the answer at which the tables differ */
    double shift[JUDGE_DIMS];
};

struct asked {
    struct proto_query query;
    struct query_layout layout;
    struct query_sums sums;
    struct proto_privacy_price price;
};

/* What a site does before it releases. */
static void execute(struct question *question, int side, struct asked *ret)
{
    char sql[512];
    struct err_info info = {0};
    snprintf(sql, sizeof sql, "%s FROM %s WHERE x < %llu %s", question->select,
             side ? "with" : "without", (unsigned long long)(1000 + question->asked++),
             question->group);
    memset(ret, 0, sizeof *ret);
    enum err err = proto_sql_parse(sql, &ret->query, &info);
    err = err ? err : proto_query_bind(&ret->query, question->tables->schema, &info);
    err = err ? err
              : query_layout_plan(&ret->query, &(struct query_limits){0, 0}, &ret->layout, &info);
    ret->price = proto_privacy_price(EPSILON, DELTA_E12, ret->layout.thresholds);
    err = err ? err : query_layout_noise(&ret->layout, ret->price.nano, &info);
    err = err ? err
              : query_execute(&question->tables->home.store, side ? "with" : "without", &ret->query,
                              &ret->layout, NULL, NULL, &ret->sums, &info);
    if (err) {
        fprintf(stderr, "%s: %s\n", sql, info.text);
        abort();
    }
}

static void forget(struct asked *asked)
{
    query_sums_fini(&asked->sums);
    proto_query_fini(&asked->query);
}

/* Where the exact sums differ most, against their noise; a look that only a test can take, so that no event is missed. */
static void look(struct question *question)
{
    struct asked asked[2];
    execute(question, 0, &asked[0]);
    execute(question, 1, &asked[1]);
    const struct query_layout *layout = &asked[1].layout;
    question->dims = 0;
    for (size_t cell = 0; cell < asked[1].sums.cells && cell < asked[0].sums.cells; cell++) {
        for (size_t part = 0; part < layout->count; part++) {
            for (size_t i = 0; i < layout->parts[part].width; i++) {
                size_t at = cell * layout->slots + layout->offsets[part] + i;
                if (question->dims < JUDGE_DIMS - 8 && !question->key &&
                    asked[0].sums.sums[at] != asked[1].sums.sums[at]) {
                    question->looked[question->dims++] = at;
                }
            }
        }
    }
    forget(&asked[0]);
    forget(&asked[1]);
}

/* Numbers that are looked at, and which of the first cells were withheld; of private groups: whether one that is looked for was told. */
static void read_answer(const struct question *question, const struct query_answer *answer,
                        double *to)
{
    if (question->key) {
        const struct proto_text *keys = answer->keys.items;
        to[0] = 0;
        for (size_t i = 0; i < answer->keys.count; i++) {
            size_t len = strlen(question->key);
            if (keys[i].text.len >= len && memcmp(keys[i].text.ptr, question->key, len) == 0) {
                to[0] = 1;
            }
        }
        return;
    }
    for (size_t i = 0; i < question->dims; i++) {
        to[i] = (double)(int64_t)get_be64(answer->values.ptr + 8 * question->looked[i]);
    }
    for (size_t i = 0; i < 8; i++) {
        to[question->dims + i] = i < answer->withheld.len ? answer->withheld.ptr[i] : 0;
    }
}

static void run_question(void *user, int side, double *to, size_t runs)
{
    struct question *question = user;
    (void)runs;
    struct asked asked;
    struct arena arena = {0};
    struct query_answer answer = {0};
    struct err_info info = {0};
    execute(question, side, &asked);
    struct query_release_terms terms = {.min_cohort = 2,
                                        .delta0_e18 = question->key ? DELTA0_E18 : 0};
    if (query_release(NULL, &asked.query, &asked.layout, &asked.sums, &terms, &arena, &answer,
                      &info)) {
        fprintf(stderr, "%s\n", info.text);
        abort();
    }
    read_answer(question, &answer, to);
    arena_fini(&arena);
    forget(&asked);
}

static bool judge_question(struct tables *tables, const char *select, const char *group,
                           const char *key, double runs)
{
    struct question question = {.tables = tables, .select = select, .group = group, .key = key};
    char name[256];
    snprintf(name, sizeof name, "%s ... %s", select, group);
    look(&question);
    struct asked asked;
    execute(&question, 0, &asked);
    const struct audit_case audited = {
        .name = name,
        .promise = {.rho = (double)asked.price.nano / 1e9,
                    .delta0 = key ? (double)DELTA0_E18 / 1e18 : 0},
        .dims = key ? 1 : question.dims + 8,
        .batch = 1,
        .run = run_question,
        .user = &question,
        .pilots = 100,
        .least = 200,
        .most = runs,
    };
    forget(&asked);
    return !audit_judge(&audited);
}

size_t audit_paths(double runs)
{
    static const struct {
        const char *select, *group, *key;
    } questions[] = {
        {"SELECT COUNT(*), COUNT(DISTINCT patient)", "", NULL},
        {"SELECT SUM(x), AVG(x)", "", NULL},
        {"SELECT g, COUNT(*), SUM(x)", "GROUP BY g", NULL},
        {"SELECT g, AVG(x), STDDEV(x)", "GROUP BY g", NULL},
        {"SELECT CORR(x, y)", "", NULL},
        {"SELECT MEDIAN(y)", "", NULL},
        {"SELECT HISTOGRAM(x, 5)", "", NULL},
        {"SELECT k, COUNT(*)", "GROUP BY k", "rare"},
    };
    _Static_assert(sizeof questions / sizeof *questions == AUDIT_PATHS, "their time is planned");
    static struct tables tables;
    size_t broken = 0;
    tables_make(&tables);
    for (size_t i = 0; i < AUDIT_PATHS; i++) {
        broken += judge_question(&tables, questions[i].select, questions[i].group, questions[i].key,
                                 runs);
    }
    store_partition_close(tables.partition);
    home_remove(&tables.home);
    return broken;
}
