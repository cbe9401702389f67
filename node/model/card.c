#include "config.h"
#include "node/model/card.h"

#include <ctype.h>
#include <math.h>

/* A YAML text in double quotes. */
static enum err put_quoted(struct buf *to, const char *text)
{
    enum err err = buf_put(to, span_str("\""));
    for (; !err && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            err = buf_printf(to, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            err = buf_printf(to, "\\x%02x", c);
        } else {
            err = buf_put(to, span_of((const uint8_t *)text, 1));
        }
    }
    return err ? err : buf_put(to, span_str("\""));
}

/* Text of Markdown without markup: what could start any is escaped, and lines do not end. */
static enum err put_plain(struct buf *to, const char *text)
{
    enum err err = E_OK;
    for (; !err && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) {
            err = buf_put(to, span_str(" "));
        } else if (strchr("\\`*_{}[]<>#|!~", c)) {
            err = buf_printf(to, "\\%c", c);
        } else {
            err = buf_put(to, span_of((const uint8_t *)text, 1));
        }
    }
    return err;
}

static enum err put_key(struct buf *to, const char *key, const char *text)
{
    if (!text || !*text) {
        return E_OK;
    }
    enum err err = buf_printf(to, "%s: ", key);
    err = err ? err : put_quoted(to, text);
    return err ? err : buf_put(to, span_str("\n"));
}

/* Hubs know licences by lower-case identifiers; an expression is "other" with a name. */
static enum err put_licence(struct buf *to, const char *licence)
{
    char lower[64];
    size_t n = strlen(licence ? licence : "");
    bool simple = n > 0 && n < sizeof lower && !strpbrk(licence, " ()");
    for (size_t i = 0; simple && i <= n; i++) {
        lower[i] = (char)tolower((unsigned char)licence[i]);
    }
    if (simple && strncmp(licence, "LicenseRef-", 11) != 0) {
        return put_key(to, "license", lower);
    }
    enum err err = put_key(to, "license", n ? "other" : NULL);
    return err ? err : put_key(to, "license_name", licence);
}

static enum err put_results(const struct model_card *c, struct buf *to)
{
    enum err err = buf_put(to, span_str("model-index:\n- name: "));
    err = err ? err : put_quoted(to, c->name);
    err = err ? err : buf_put(to, span_str("\n  results:\n  - task: {type: "));
    err = err ? err : put_quoted(to, c->task ? c->task : "other");
    err = err ? err : buf_put(to, span_str("}\n    dataset: {name: "));
    err = err ? err : put_quoted(to, c->dataset ? c->dataset : "");
    err = err ? err : buf_put(to, span_str(", type: "));
    err = err ? err : put_quoted(to, c->dataset ? c->dataset : "");
    err = err ? err : buf_put(to, span_str("}\n    metrics:\n"));
    for (size_t i = 0; !err && i < c->metric_count; i++) {
        err = buf_put(to, span_str("    - {type: "));
        err = err ? err : put_quoted(to, c->metrics[i].type);
        err = err ? err : buf_put(to, span_str(", name: "));
        err = err ? err : put_quoted(to, c->metrics[i].name);
        err = err ? err : buf_printf(to, ", value: %.4f}\n", c->metrics[i].value);
    }
    return err;
}

static enum err put_front(const struct model_card *c, struct buf *to)
{
    enum err err = buf_put(to, span_str("---\n"));
    err = err ? err : put_licence(to, c->licence);
    err = err ? err : put_key(to, "language", c->language);
    err = err ? err : put_key(to, "base_model", c->base);
    err = err ? err
              : put_key(to, "pipeline_tag",
                        c->task && strcmp(c->task, "masked-lm") == 0 ? "fill-mask" : c->task);
    err = err ? err : buf_put(to, span_str("tags: [\"concordat\", \"federated-learning\"]\n"));
    if (!err && c->dataset) {
        err = buf_put(to, span_str("datasets: ["));
        err = err ? err : put_quoted(to, c->dataset);
        err = err ? err : buf_put(to, span_str("]\n"));
    }
    err = err || c->metric_count == 0 ? err : put_results(c, to);
    return err ? err : buf_put(to, span_str("---\n"));
}

/* "- LABEL: text" */
static enum err put_item(struct buf *to, const char *label, const char *text)
{
    if (!text || !*text) {
        return E_OK;
    }
    enum err err = buf_printf(to, "- %s: ", label);
    err = err ? err : put_plain(to, text);
    return err ? err : buf_put(to, span_str("\n"));
}

static enum err put_model(const struct model_card *c, struct buf *to)
{
    enum err err = buf_put(to, span_str("# "));
    err = err ? err : put_plain(to, c->name);
    err = err ? err : buf_put(to, span_str("\n\n"));
    err = err ? err : put_item(to, "Task", c->task);
    err = err ? err : put_item(to, "Base model", c->base);
    err = err ? err : put_item(to, "Licence of the base model", c->base_licence);
    err = err ? err : put_item(to, "Tuning", c->tuning);
    err = err ? err : put_item(to, "This variant", c->variant);
    if (!err && c->parameters) {
        err = buf_printf(to, "- Parameters: %llu, of which trained: %llu\n",
                         (unsigned long long)c->parameters, (unsigned long long)c->trained);
    }
    for (size_t i = 0; !err && i < c->label_count; i++) {
        err = buf_put(to, span_str(i ? ", " : "- Labels: "));
        err = err ? err : put_plain(to, c->labels[i]);
    }
    err = err || c->label_count == 0 ? err : buf_put(to, span_str("\n"));
    err = err ? err : put_item(to, "Record", c->id);
    return err ? err : put_item(to, "Made", c->created);
}

static enum err put_training(const struct model_card *c, struct buf *to)
{
    enum err err = buf_put(to, span_str("\n## Training\n"));
    err = err ? err : put_item(to, "Dataset", c->dataset);
    if (!err && c->rounds) {
        err = buf_printf(to, "- Rounds: %llu\n", (unsigned long long)c->rounds);
    }
    err = err ? err : put_item(to, "Aggregation", c->aggregation);
    err = err ? err : put_item(to, "Optimiser", c->optimiser);
    if (!err && c->site_count) {
        err = buf_printf(
            to, "- Participants: %zu\n\n| institution | rounds | epsilon |\n|---|---|---|\n",
            c->site_count);
    }
    for (size_t i = 0; !err && i < c->site_count; i++) {
        err = buf_put(to, span_str("| "));
        err = err ? err : put_plain(to, c->sites[i].institution);
        err = err ? err : buf_printf(to, " | %llu | ", (unsigned long long)c->sites[i].rounds);
        err = err                             ? err
              : isfinite(c->sites[i].epsilon) ? buf_printf(to, "%.3f |\n", c->sites[i].epsilon)
                                              : buf_put(to, span_str("none |\n"));
    }
    return err;
}

static enum err put_privacy(const struct model_card *c, struct buf *to)
{
    enum err err = buf_put(to, span_str("\n## Privacy\n"));
    if (!err && !isfinite(c->epsilon)) {
        return buf_put(to,
                       span_str("Trained without noise, where the licences of all sites allow it: "
                                "this model carries no privacy guarantee.\n"));
    }
    err =
        err ? err
            : buf_printf(to, "(epsilon, delta) = (%.3f, %.3g) at each site", c->epsilon, c->delta);
    if (!err && c->unit) {
        err = buf_put(to, span_str(", for adding or removing one "));
        err = err ? err : put_plain(to, c->unit);
    }
    err = err ? err : buf_put(to, span_str(".\n"));
    if (!err && c->clip > 0) {
        err = buf_printf(to, "- Gradients clipped to an L2 norm of %g\n", c->clip);
    }
    return err || !(c->sigma > 0) ? err : buf_printf(to, "- Noise multiplier: %.4g\n", c->sigma);
}

static enum err put_evaluation(const struct model_card *c, struct buf *to)
{
    if (c->metric_count == 0 && !c->report) {
        return E_OK;
    }
    enum err err = buf_put(to, span_str("\n## Evaluation\n"));
    if (!err && c->split) {
        err = put_plain(to, c->split);
        err = err ? err : buf_put(to, span_str("\n"));
    }
    if (!err && c->variant) {
        err = buf_put(to, span_str("Measured before the weights of this variant were changed.\n"));
    }
    err = err || c->metric_count == 0
              ? err
              : buf_put(to, span_str("\n| metric | value | 95 % of the noise |\n|---|---|---|\n"));
    for (size_t i = 0; !err && i < c->metric_count; i++) {
        const struct model_card_metric *m = &c->metrics[i];
        err = buf_put(to, span_str("| "));
        err = err ? err : put_plain(to, m->name);
        err = err ? err : buf_printf(to, " | %.4f | ", m->value);
        err = err             ? err
              : m->margin > 0 ? buf_printf(to, "+- %.4f |\n", m->margin)
                              : buf_put(to, span_str("exact |\n"));
    }
    /* Indented, so that no line of the report can end the block. */
    for (const char *line = c->report; !err && line && *line;) {
        size_t n = strcspn(line, "\n");
        err = line == c->report ? buf_put(to, span_str("\n")) : E_OK;
        err = err ? err : buf_printf(to, "    %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    return err;
}

static enum err put_duties(const struct model_card *c, struct buf *to)
{
    enum err err = buf_put(to, span_str("\n## Licence and duties\n"));
    err = err ? err : put_item(to, "Licence", c->licence);
    for (size_t i = 0; !err && i < c->obligation_count; i++) {
        err = put_item(to, "Duty", c->obligations[i]);
    }
    return err ? err
               : buf_put(to,
                         span_str("\nWhat the model says about a person is no medical advice. It "
                                  "knows what its training data "
                                  "know, and errs where they do.\n"));
}

enum err model_card_write(const struct model_card *c, struct buf *to)
{
    enum err err = put_front(c, to);
    err = err ? err : put_model(c, to);
    err = err ? err : put_training(c, to);
    err = err ? err : put_privacy(c, to);
    err = err ? err : put_evaluation(c, to);
    return err ? err : put_duties(c, to);
}
