/* A model's card: README.md with YAML front matter, as the field's hubs read it.
 *
 *     struct model_card card = {.name = "disease-ner", .licence = "CC-BY-4.0", .task = "token-classification", ...};
 *     err = model_card_write(&card, &buf);
 *
 * Every text is written so that it can be nothing else: quoted in YAML, without markup characters or line breaks in Markdown. What is not
 * known (NULL, 0 or NAN) is left out. The card says what was spent and on whom; it must hold released figures only.
 * Threads: free of state. */
#ifndef CONCORDAT_NODE_MODEL_CARD_H
#define CONCORDAT_NODE_MODEL_CARD_H

#include "proto/alloc.h"

struct model_card_metric {
    const char *name, *type; /* "Disease F1", "f1" */
    double value, margin;    /* 95 %, 0: exact */
};
struct model_card_site {
    const char *institution;
    double epsilon;
    uint64_t rounds;
};
struct model_card {
    const char *name, *id, *created;
    const char *
        licence; /* SPDX; anything else than a short identifier is told as "other" with the expression beside */
    const char *task; /* of the job: token-classification, .. */
    const char *language;
    const char *base, *base_licence; /* NULL: from scratch */
    const char *dataset;
    const char *
        variant; /* what this export changed of the model, NULL: nothing; figures were measured before */
    const char *tuning; /* "full", "lora r=8 alpha=16 on query, value", .. */
    const char *const *labels;
    size_t label_count;
    uint64_t parameters, trained;
    /* Federation */
    uint64_t rounds;
    const struct model_card_site *sites;
    size_t site_count;
    const char *aggregation, *optimiser;
    /* Privacy; epsilon NAN: trained without noise */
    double epsilon, delta, clip, sigma;
    const char *unit;
    /* Evaluation */
    const char *split; /* "held-out 10 % of each site's patients" */
    const struct model_card_metric *metrics;
    size_t metric_count;
    const char *report; /* a table, put into a code block */
    /* Duties */
    const char *const *obligations;
    size_t obligation_count;
};
/* Appends the card. Errors: E_LIMIT TO is full; E_NO_MEMORY. */
MUST_CHECK enum err model_card_write(const struct model_card *card, struct buf *to);

#endif
