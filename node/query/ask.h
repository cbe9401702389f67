/* The asking node's side of a query: find the sites by the gossiped records, ask all at once, combine what comes back.
 *
 *     struct query_result result = {0};
 *     err = query_ask(context, &ask, &result, reterr);      E_OK: at least min_sites institutions' nodes answered
 *     ... result.site[i], result.table ...
 *     query_result_fini(&result);
 *
 * A site is named in the result whatever became of it. Sums of independent noisy answers are added, and so are their
 * variances; a cell that a site withheld lacks that site, and the site says how many it withheld. An answer that is not
 * what the question asks for is left out of the sums, named and logged (node/query/partial).
 * Threads: a worker thread; blocks until every site has answered or the deadline is over. */
#ifndef CONCORDAT_NODE_QUERY_ASK_H
#define CONCORDAT_NODE_QUERY_ASK_H

#include "node/query/context.h"
#include "node/query/table.h"
#include "node/query/wanted.h"
#include "proto/policy.h"
#include "proto/privacy.h"

struct query_ask {
    const char *sql;
    struct proto_purpose purpose;
    double epsilon;             /* 0: the smaller of 0.5 and the smallest per-query cap */
    double delta;               /* 0: the licences' */
    struct query_wanted wanted; /* in place of epsilon: it is what this error costs */
    const char *const *sites;   /* names; none: every node that publishes the dataset */
    size_t site_count;
    size_t min_sites;
    bool secure;
    bool explain;
    struct query_limits limits; /* contribution bounds, where tighter than the dataset's */
    uint64_t timeout_ms;
    bool (*cancelled)(void *user);
    /* Told now and then while sites are waited for, NULL: nobody. EXPECTED_MS is when the slowest of them may be expected, by
     * the declared sizes alone: nothing that is shown depends on data. */
    void (*waiting)(void *user, size_t answered, size_t asked, uint64_t elapsed_ms,
                    uint64_t expected_ms);
    void *user;
};

enum query_site_status {
    QUERY_SITE_ANSWERED,
    QUERY_SITE_REFUSED,
    QUERY_SITE_UNREACHABLE,
    QUERY_SITE_UNAVAILABLE,
    QUERY_SITE_WAITING, /* for a person at the site; the same question again fetches the answer */
};

struct query_site {
    uint8_t id[16];
    char node[33];
    char org[65];
    enum query_site_status status;
    enum err error; /* what decides the exit code when too few answered */
    char reason[64];
    char detail[512];
    char version[64];
    uint64_t size; /* declared order of magnitude */
    bool replayed;
    uint8_t approval[16]; /* while it waits: its number in the site's queue */
    uint64_t cost_nano;
    uint64_t cap_nano;
    uint64_t spent_nano;
    uint64_t left_nano; /* for us, of all scopes the least */
    double budget_delta;
    double epsilon_total;
    /* The most that its licence lets one question of ours take; 0: not told. */
    double epsilon_per_query;
    size_t withheld;
    const struct query_clause *clauses; /* of --explain */
    size_t clause_count;
    uint64_t elapsed_ms;
};

struct query_result {
    struct arena arena;
    uint8_t id[16];
    struct proto_schema schema;
    struct proto_query query;
    struct query_layout layout;
    bool planned; /* the layout's noise is set: expected margins may be shown */
    double epsilon;
    double delta;
    struct proto_privacy_price price; /* of them */
    uint64_t
        threshold; /* of private groups: how many people a site's noisy count must reach; 0: none are asked */
    struct query_site *site;
    size_t site_count;
    size_t answered;
    size_t answered_institutions;
    bool replayed;            /* every answer was */
    struct query_cells cells; /* sums over the sites that answered */
    struct query_table table;
    struct peer_reply *replies; /* what spans of the result point into */
};

/* Errors: E_QUERY, E_SCHEMA, E_UNSUPPORTED the text; E_NOT_FOUND nobody publishes the dataset, or no such site; else, with
 * RET's sites filled, the first of refused, budget, busy, unreachable that a site has. RET is freed by the caller always. */
MUST_CHECK enum err query_ask(struct query_context *context, const struct query_ask *ask,
                              struct query_result *ret, struct err_info *reterr);
void query_result_fini(struct query_result *result);

/* The code that a whole operation ends with when too few sites took part: refused, budget, busy, then unreachable. */
enum err query_worst(enum err a, enum err b);

/* Every member's DATASET record of this name whose issuer has not withdrawn it. Returns how many were written. */
struct query_publisher {
    struct peer_member member;
    struct proto_dataset dataset; /* spans live in the arena */
    struct proto_schema schema;
    uint8_t schema_hash[32];
    bool has_licence;
    struct proto_licence licence;
    uint8_t licence_id[16];
};
MUST_CHECK enum err query_publishers(struct query_context *context, const char *dataset,
                                     struct arena *arena, struct query_publisher **ret,
                                     size_t *ret_count, struct err_info *reterr);
/* The schema that most of them share, one's own first. Returns an index; COUNT must not be 0. */
size_t query_publishers_schema(const struct query_context *context,
                               const struct query_publisher *publishers, size_t count);

#endif
