#include "config.h"
#include "node/config/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/config/bind.h"
#include "node/config/unlock.h"
#include "node/config/yaml.h"
#include "proto/body.h"
#include "proto/duo.h"
#include "proto/manifest.h"

#define NODE(m)      offsetof(struct config_node, m)
#define PERSON(m)    offsetof(struct config_person, m)
#define DOMAIN_AT(m) offsetof(struct config_domain, m)
#define TRAINER(m)   offsetof(struct config_trainer, m)

static const char *const org_types[] = {"nonprofit", "forprofit", "government", NULL};
static const char *const role_names[] = {"operator", "coordinator", "analyst", "auditor", NULL};
static const char *const level_names[] = {"error", "warn", "info", "debug", NULL};

static const struct config_row person_rows[] = {
    {.name = "uid",
     .type = CONFIG_U64,
     .offset = PERSON(uid),
     .present = PERSON(has_uid),
     .max = 4294967294.0},
    {.name = "user", .type = CONFIG_TEXT, .offset = PERSON(user), .min = 1, .max = 64},
    {.name = "id",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = PERSON(id),
     .min = 1,
     .max = 64},
    {.name = "roles",
     .type = CONFIG_FLAGS,
     .required = true,
     .offset = PERSON(roles),
     .names = role_names},
    CONFIG_ROWS_END,
};

static const struct config_row domain_rows[] = {
    {.name = "name",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = DOMAIN_AT(name),
     .min = 1,
     .max = 64},
    {.name = "epsilon_total",
     .type = CONFIG_NUMBER,
     .required = true,
     .offset = DOMAIN_AT(epsilon_total)},
    {.name = "delta", .type = CONFIG_NUMBER, .required = true, .offset = DOMAIN_AT(delta)},
    CONFIG_ROWS_END,
};

static const struct config_row budget_rows[] = {
    {.name = "institution_share", .type = CONFIG_NUMBER, .offset = NODE(shares.institution)},
    {.name = "person_share", .type = CONFIG_NUMBER, .offset = NODE(shares.person)},
    {.name = "project_share", .type = CONFIG_NUMBER, .offset = NODE(shares.project)},
    {.name = "domains",
     .type = CONFIG_LIST,
     .offset = NODE(domains),
     .count_offset = NODE(domain_count),
     .max = CONFIG_NODE_DOMAINS_MAX,
     .rows = domain_rows,
     .element_size = sizeof(struct config_domain)},
    CONFIG_ROWS_END,
};

static const struct config_row limit_rows[] = {
    {.name = "query_timeout_ms",
     .type = CONFIG_U64,
     .offset = NODE(limits.query_timeout_ms),
     .min = 100,
     .max = 3600000},
    {.name = "requests_per_second",
     .type = CONFIG_U64,
     .offset = NODE(limits.requests_per_second),
     .min = 5,
     .max = 10000},
    {.name = "scan_limit_ms",
     .type = CONFIG_U64,
     .offset = NODE(limits.scan_limit_ms),
     .min = 1,
     .max = 86400000},
    CONFIG_ROWS_END,
};

static const struct config_row training_rows[] = {
    {.name = "cores", .type = CONFIG_U64, .offset = NODE(training.cores), .min = 1, .max = 1024},
    {.name = "hours", .type = CONFIG_CHARS, .offset = NODE(training.hours), .max = 12},
    CONFIG_ROWS_END,
};

static const struct config_row trainer_rows[] = {
    {.name = "name",
     .type = CONFIG_TEXT,
     .required = true,
     .offset = TRAINER(name),
     .min = 1,
     .max = 64},
    {.name = "program",
     .type = CONFIG_TEXTS,
     .required = true,
     .offset = TRAINER(program),
     .count_offset = TRAINER(program_count),
     .min = 1,
     .max = 1024},
    {.name = "memory_mb",
     .type = CONFIG_U64,
     .offset = TRAINER(memory_mb),
     .min = 16,
     .max = 1 << 24},
    {.name = "jit", .type = CONFIG_BOOL, .offset = TRAINER(jit)},
    {.name = "read",
     .type = CONFIG_TEXTS,
     .offset = TRAINER(read),
     .count_offset = TRAINER(read_count),
     .min = 1,
     .max = 1024},
    CONFIG_ROWS_END,
};

static void trainer_defaults(void *element)
{
    ((struct config_trainer *)element)->memory_mb = 4096;
}

static const struct config_row approval_rows[] = {
    {.name = "pending",
     .type = CONFIG_DURATION,
     .offset = NODE(approvals.pending_ms),
     .min = 1000,
     .max = 365.0 * 86400000},
    {.name = "valid",
     .type = CONFIG_DURATION,
     .offset = NODE(approvals.valid_ms),
     .min = 1000,
     .max = 3650.0 * 86400000},
    CONFIG_ROWS_END,
};

static const struct config_row notify_rows[] = {
    {.name = "command",
     .type = CONFIG_TEXTS,
     .required = true,
     .offset = NODE(notify.command),
     .count_offset = NODE(notify.count),
     .min = 1,
     .max = 1024},
    {.name = "timeout",
     .type = CONFIG_DURATION,
     .offset = NODE(notify.timeout_ms),
     .min = 100,
     .max = 600000},
    CONFIG_ROWS_END,
};

static const char *read_purpose(void *object, const char *text, struct arena *arena)
{
    struct config_node *node = object;
    uint64_t code;
    (void)arena;
    if (strlen(text) >= sizeof node->console_purpose || proto_duo_parse(text, &code, NULL) ||
        !proto_duo_is_purpose(code)) {
        return "must be a purpose of DUO, such as DUO:0000042";
    }
    snprintf(node->console_purpose, sizeof node->console_purpose, "%s", text);
    return NULL;
}

static const struct config_row console_rows[] = {
    {.name = "listen", .type = CONFIG_CHARS, .required = true, .offset = NODE(console), .max = 64},
    {.name = "predict", .type = CONFIG_BOOL, .offset = NODE(console_predict)},
    {.name = "purpose", .type = CONFIG_CUSTOM, .custom = read_purpose},
    {.name = "project", .type = CONFIG_CHARS, .offset = NODE(console_project), .max = 65},
    {.name = "disease",
     .type = CONFIG_TEXTS,
     .offset = NODE(console_diseases.items),
     .count_offset = NODE(console_diseases.count),
     .min = 1,
     .max = 64},
    CONFIG_ROWS_END,
};

static const char *read_methods(void *object, const char *text, struct arena *arena)
{
    struct config_node *node = object;
    (void)arena;
    node->methods_on_ds_denied = strcmp(text, "deny") == 0;
    return node->methods_on_ds_denied || strcmp(text, "allow") == 0 ? NULL
                                                                    : "must be allow or deny";
}

static const struct config_row node_rows[] = {
    {.name = "node", .type = CONFIG_CHARS, .required = true, .offset = NODE(node), .max = 65},
    {.name = "org", .type = CONFIG_CHARS, .required = true, .offset = NODE(org), .max = 65},
    {.name = "org_type",
     .type = CONFIG_CHARS,
     .required = true,
     .offset = NODE(org_type),
     .max = 12},
    {.name = "country", .type = CONFIG_CHARS, .required = true, .offset = NODE(country), .max = 3},
    {.name = "federation",
     .type = CONFIG_CHARS,
     .required = true,
     .offset = NODE(federation),
     .max = 33},
    {.name = "listen", .type = CONFIG_CHARS, .required = true, .offset = NODE(listen), .max = 256},
    {.name = "advertise", .type = CONFIG_CHARS, .offset = NODE(advertise), .max = 256},
    {.name = "unlock", .type = CONFIG_CHARS, .offset = NODE(unlock), .max = 512},
    {.name = "commercial",
     .type = CONFIG_BOOL,
     .offset = NODE(commercial),
     .present = NODE(has_commercial)},
    {.name = "ontology", .type = CONFIG_CHARS, .offset = NODE(ontology), .max = 256},
    {.name = "methods_on_ds", .type = CONFIG_CUSTOM, .custom = read_methods},
    {.name = "seeds",
     .type = CONFIG_TEXTS,
     .offset = NODE(seeds.items),
     .count_offset = NODE(seeds.count),
     .min = 1,
     .max = 255},
    {.name = "people",
     .type = CONFIG_LIST,
     .offset = NODE(people),
     .count_offset = NODE(person_count),
     .max = CONFIG_NODE_PEOPLE_MAX,
     .rows = person_rows,
     .element_size = sizeof(struct config_person)},
    {.name = "budget", .type = CONFIG_MAP, .rows = budget_rows},
    {.name = "release_tick_ms",
     .type = CONFIG_U64,
     .offset = NODE(release_tick_ms),
     .min = 100,
     .max = 60000},
    {.name = "log_level", .type = CONFIG_ENUM, .offset = NODE(log_level), .names = level_names},
    {.name = "limits", .type = CONFIG_MAP, .rows = limit_rows},
    {.name = "training", .type = CONFIG_MAP, .rows = training_rows},
    {.name = "approvals", .type = CONFIG_MAP, .rows = approval_rows},
    {.name = "console", .type = CONFIG_MAP, .rows = console_rows},
    {.name = "notify", .type = CONFIG_MAP, .rows = notify_rows},
    {.name = "trainers",
     .type = CONFIG_LIST,
     .offset = NODE(trainers),
     .count_offset = NODE(trainer_count),
     .max = CONFIG_NODE_TRAINERS_MAX,
     .rows = trainer_rows,
     .element_size = sizeof(struct config_trainer),
     .defaults = trainer_defaults},
    CONFIG_ROWS_END,
};

void config_node_defaults(struct config_node *node)
{
    *node = (struct config_node){
        .unlock = "keyfile:keyfile",
        .shares = {.institution = 0.5, .person = 1, .project = 1},
        .release_tick_ms = 100,
        .log_level = CONFIG_LOG_INFO,
        .limits = {.query_timeout_ms = 30000, .requests_per_second = 400, .scan_limit_ms = 600000},
        .approvals = {.pending_ms = UINT64_C(7) * 86400000, .valid_ms = UINT64_C(30) * 86400000},
        .notify = {.timeout_ms = 10000}};
}

const char *config_role_name(enum config_role role)
{
    for (unsigned i = 0; role_names[i]; i++) {
        if (role == 1u << i) {
            return role_names[i];
        }
    }
    return "none";
}

bool config_url_split(const char *url, char host[254], uint16_t *ret_port)
{
    static const char scheme[] = "tls+tcp://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0) {
        return false;
    }
    const char *start = url + sizeof scheme - 1;
    const char *end = strrchr(start, ':');
    if (start[0] == '[') {
        const char *close = strchr(start, ']');
        if (!close || close + 1 != end) {
            return false;
        }
    }
    size_t bracket = start[0] == '[';
    size_t len = end ? (size_t)(end - start) : 0;
    if (len <= 2 * bracket || len - 2 * bracket > 253 || strlen(end + 1) < 1 ||
        strlen(end + 1) > 5 || strspn(end + 1, "0123456789") != strlen(end + 1)) {
        return false;
    }
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%";
    size_t clean = strspn(
        start + bracket,
        bracket ? allowed : "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    unsigned long port = strtoul(end + 1, NULL, 10);
    if (clean != len - 2 * bracket || port < 1 || port > 65535) {
        return false;
    }
    memcpy(host, start + bracket, len - 2 * bracket);
    host[len - 2 * bracket] = '\0';
    *ret_port = (uint16_t)port;
    return true;
}

static bool url_valid(const char *url)
{
    char host[254];
    uint16_t port;
    return config_url_split(url, host, &port);
}

static bool word_valid(const char *text)
{
    return text[0] &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_@+") ==
               strlen(text);
}

static enum err check_people(const struct config_node *node, struct err_info *reterr)
{
    for (size_t i = 0; i < node->person_count; i++) {
        const struct config_person *person = &node->people[i];
        if (person->has_uid == (person->user != NULL)) {
            return proto_err_set(reterr, E_INVALID, "people[%zu]: give one of uid and user", i);
        }
        if ((person->user && !word_valid(person->user)) || !person->id || !word_valid(person->id)) {
            return proto_err_set(reterr, E_INVALID,
                                 "people[%zu].id: letters, digits and . - _ @ + only", i);
        }
        if (!person->roles || person->roles >= 16) {
            return proto_err_set(reterr, E_INVALID, "people[%zu].roles: at least one", i);
        }
        for (size_t j = 0; j < i; j++) {
            const struct config_person *other = &node->people[j];
            bool same = person->has_uid ? other->has_uid && other->uid == person->uid
                                        : other->user && strcmp(other->user, person->user) == 0;
            if (same) {
                return proto_err_set(reterr, E_INVALID, "people[%zu]: this user stands there twice",
                                     i);
            }
        }
    }
    return E_OK;
}

static bool clock_time(const char *text, uint32_t *ret)
{
    bool digits = text[0] >= '0' && text[0] <= '2' && text[1] >= '0' && text[1] <= '9' &&
                  text[2] == ':' && text[3] >= '0' && text[3] <= '5' && text[4] >= '0' &&
                  text[4] <= '9';
    if (!digits) {
        return false;
    }
    *ret = (uint32_t)((text[0] - '0') * 10 + text[1] - '0') * 60 +
           (uint32_t)((text[3] - '0') * 10 + text[4] - '0');
    return *ret < 24 * 60;
}

bool config_hours(const char *text, uint32_t *ret_from, uint32_t *ret_to)
{
    return strlen(text) == 11 && text[5] == '-' && clock_time(text, ret_from) &&
           clock_time(text + 6, ret_to) && *ret_from != *ret_to;
}

static enum err check_addresses(const struct config_node *node, struct err_info *reterr)
{
    bool none = strcmp(node->listen, "none") == 0;
    if (!none && !url_valid(node->listen)) {
        return proto_err_set(reterr, E_INVALID, "listen: must be tls+tcp://HOST:PORT or none");
    }
    uint32_t from, to;
    if (node->training.hours[0] && !config_hours(node->training.hours, &from, &to)) {
        return proto_err_set(reterr, E_INVALID,
                             "training.hours: two times of the day, such as 20:00-06:00");
    }
    if (node->advertise[0] && (none || !url_valid(node->advertise))) {
        return proto_err_set(reterr, E_INVALID,
                             "advertise: must be tls+tcp://HOST:PORT, and needs listen");
    }
    if (node->seeds.count > CONFIG_NODE_SEEDS_MAX) {
        return proto_err_set(reterr, E_INVALID, "seeds: more than %d", CONFIG_NODE_SEEDS_MAX);
    }
    for (size_t i = 0; i < node->seeds.count; i++) {
        if (!url_valid(node->seeds.items[i])) {
            return proto_err_set(reterr, E_INVALID, "seeds[%zu]: must be tls+tcp://HOST:PORT", i);
        }
    }
    return E_OK;
}

static bool share_valid(double share)
{
    return share > 0 && share <= 1;
}

static enum err check_budget(const struct config_node *node, struct err_info *reterr)
{
    if (!share_valid(node->shares.institution) || !share_valid(node->shares.person) ||
        !share_valid(node->shares.project)) {
        return proto_err_set(reterr, E_INVALID, "budget: a share is above 0 and at most 1");
    }
    for (size_t i = 0; i < node->domain_count; i++) {
        const struct config_domain *domain = &node->domains[i];
        if (!proto_dataset_name_valid(span_str(domain->name))) {
            return proto_err_set(reterr, E_INVALID,
                                 "budget.domains[%zu].name: must match [a-z0-9][a-z0-9._-]{0,63}",
                                 i);
        }
        if (!(domain->epsilon_total >= 1e-6 && domain->epsilon_total <= PROTO_EPSILON_MAX) ||
            !(domain->delta >= PROTO_DELTA_MIN && domain->delta <= PROTO_DELTA_MAX)) {
            return proto_err_set(
                reterr, E_INVALID,
                "budget.domains[%zu]: epsilon_total is 1e-6 to %g and delta %g to %g", i,
                PROTO_EPSILON_MAX, PROTO_DELTA_MIN, PROTO_DELTA_MAX);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(node->domains[j].name, domain->name) == 0) {
                return proto_err_set(reterr, E_INVALID,
                                     "budget.domains[%zu]: %s stands there twice", i, domain->name);
            }
        }
    }
    return E_OK;
}

static enum err check_trainers(const struct config_node *node, struct err_info *reterr)
{
    for (size_t i = 0; i < node->trainer_count; i++) {
        const struct config_trainer *trainer = &node->trainers[i];
        bool paths = trainer->program_count <= CONFIG_NODE_TRAINER_ARGUMENTS &&
                     trainer->read_count <= CONFIG_NODE_TRAINER_READ &&
                     trainer->program[0][0] == '/';
        for (size_t j = 0; j < trainer->read_count; j++) {
            paths = paths && trainer->read[j][0] == '/';
        }
        if (!proto_dataset_name_valid(span_str(trainer->name))) {
            return proto_err_set(reterr, E_INVALID,
                                 "trainers[%zu].name: must match [a-z0-9][a-z0-9._-]{0,63}", i);
        }
        if (!paths) {
            return proto_err_set(
                reterr, E_INVALID,
                "trainers[%zu]: program is an absolute path and at most %d arguments; "
                "read is at most %d absolute paths",
                i, CONFIG_NODE_TRAINER_ARGUMENTS - 1, CONFIG_NODE_TRAINER_READ);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(node->trainers[j].name, trainer->name) == 0) {
                return proto_err_set(reterr, E_INVALID, "trainers[%zu]: %s stands there twice", i,
                                     trainer->name);
            }
        }
    }
    return E_OK;
}

enum err config_node_check(const struct config_node *node, struct err_info *reterr)
{
    if (!proto_name_valid(span_str(node->node))) {
        return proto_err_set(reterr, E_INVALID, "node: must match [a-z0-9][a-z0-9-]{0,31}");
    }
    if (!word_valid(node->org)) {
        return proto_err_set(reterr, E_INVALID, "org: letters, digits and . - _ @ + only");
    }
    bool known = false;
    for (size_t i = 0; org_types[i]; i++) {
        known |= strcmp(node->org_type, org_types[i]) == 0;
    }
    if (!known) {
        return proto_err_set(reterr, E_INVALID,
                             "org_type: must be one of nonprofit, forprofit, government");
    }
    if (strlen(node->country) != 2 || strspn(node->country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 2) {
        return proto_err_set(reterr, E_INVALID, "country: must be two capital letters, as DE");
    }
    if (!proto_name_valid(span_str(node->federation))) {
        return proto_err_set(reterr, E_INVALID, "federation: must match [a-z0-9][a-z0-9-]{0,31}");
    }
    enum err unlock = config_unlock_check(node->unlock, reterr);
    if (unlock) {
        return unlock;
    }
    if (node->notify.count > CONFIG_NODE_NOTIFY_MAX ||
        (node->notify.count && node->notify.command[0][0] != '/')) {
        return proto_err_set(reterr, E_INVALID,
                             "notify.command: an absolute path and at most %d arguments",
                             CONFIG_NODE_NOTIFY_MAX - 1);
    }
    enum err err = check_addresses(node, reterr);
    err = err ? err : check_budget(node, reterr);
    err = err ? err : check_trainers(node, reterr);
    return err ? err : check_people(node, reterr);
}

/* ---- reading ------------------------------------------------------------------------------- */

static enum err check_node(void *object, struct err_info *reterr)
{
    return config_node_check(object, reterr);
}

enum err config_yaml_node_bytes(struct span bytes, const char *name, struct config_node *ret,
                                struct err_info *reterr)
{
    config_node_defaults(ret);
    return config_bind(bytes, name, node_rows, ret, &ret->arena, check_node, reterr);
}

enum err config_yaml_node(const char *path, struct config_node *ret, struct err_info *reterr)
{
    struct buf bytes = {0};
    enum err err = config_read_file(path, &bytes, reterr);
    err = err ? err : config_yaml_node_bytes(buf_span(&bytes), path, ret, reterr);
    buf_fini(&bytes);
    return err;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Single quotes keep every character as it is; only the quote itself is doubled. Control characters
 * were refused by the check. */
static enum err put_text(struct buf *to, const char *key, const char *text)
{
    enum err err = buf_printf(to, "%s'", key);
    for (; *text && !err; text++) {
        err = buf_put(to, span_of(text, 1));
        err = !err && *text == '\'' ? buf_put(to, span_of("'", 1)) : err;
    }
    return err ? err : buf_put(to, span_str("'"));
}

static enum err put_line(struct buf *to, const char *key, const char *text)
{
    enum err err = put_text(to, key, text);
    return err ? err : buf_put(to, span_str("\n"));
}

static enum err put_person(struct buf *to, const struct config_person *person)
{
    enum err err = person->has_uid
                       ? buf_printf(to, "  - {uid: %llu", (unsigned long long)person->uid)
                       : put_text(to, "  - {user: ", person->user);
    err = err ? err : put_text(to, ", id: ", person->id);
    const char *before = ", roles: [";
    for (unsigned i = 0; role_names[i] && !err; i++) {
        if (person->roles & 1u << i) {
            err = buf_printf(to, "%s%s", before, role_names[i]);
            before = ", ";
        }
    }
    return err ? err : buf_put(to, span_str("]}\n"));
}

static enum err put_budget(struct buf *to, const struct config_node *node)
{
    enum err err = buf_printf(
        to, "budget:\n  institution_share: %.9g\n  person_share: %.9g\n  project_share: %.9g\n",
        node->shares.institution, node->shares.person, node->shares.project);
    if (!err && node->domain_count) {
        err = buf_put(to, span_str("  domains:\n"));
    }
    for (size_t i = 0; i < node->domain_count && !err; i++) {
        const struct config_domain *domain = &node->domains[i];
        err = put_text(to, "    - {name: ", domain->name);
        err = err ? err
                  : buf_printf(to, ", epsilon_total: %.17g, delta: %.17g}\n", domain->epsilon_total,
                               domain->delta);
    }
    return err;
}

static enum err put_limits(struct buf *to, const struct config_limits *limits)
{
    return buf_printf(
        to,
        "limits:\n  query_timeout_ms: %llu\n  requests_per_second: %llu\n  scan_limit_ms: %llu\n",
        (unsigned long long)limits->query_timeout_ms,
        (unsigned long long)limits->requests_per_second, (unsigned long long)limits->scan_limit_ms);
}

static enum err put_training(struct buf *to, const struct config_training *training)
{
    enum err err = buf_put(to, span_str("training:\n"));
    if (training->cores) {
        err = err ? err : buf_printf(to, "  cores: %llu\n", (unsigned long long)training->cores);
    }
    if (training->hours[0]) {
        err = err ? err : put_line(to, "  hours: ", training->hours);
    }
    return err;
}

static enum err put_texts(struct buf *to, const char *key, const char *const *texts, size_t count)
{
    enum err err = E_OK;
    for (size_t i = 0; !err && i < count; i++) {
        err = put_text(to, i ? ", " : key, texts[i]);
    }
    return err || !count ? err : buf_put(to, span_str("]\n"));
}

static enum err put_trainers(struct buf *to, const struct config_node *node)
{
    enum err err = node->trainer_count ? buf_put(to, span_str("trainers:\n")) : E_OK;
    for (size_t i = 0; !err && i < node->trainer_count; i++) {
        const struct config_trainer *trainer = &node->trainers[i];
        err = put_line(to, "  - name: ", trainer->name);
        err = err ? err
                  : put_texts(to, "    program: [", (const char *const *)trainer->program,
                              trainer->program_count);
        err = err ? err
                  : put_texts(to, "    read: [", (const char *const *)trainer->read,
                              trainer->read_count);
        err = err ? err
                  : buf_printf(to, "    memory_mb: %llu\n    jit: %s\n",
                               (unsigned long long)trainer->memory_mb,
                               trainer->jit ? "true" : "false");
    }
    return err;
}

static enum err put_approvals(struct buf *to, const struct config_node *node)
{
    enum err err = buf_printf(to, "approvals: {pending: %llums, valid: %llums}\n",
                              (unsigned long long)node->approvals.pending_ms,
                              (unsigned long long)node->approvals.valid_ms);
    for (size_t i = 0; !err && i < node->notify.count; i++) {
        err = put_text(to, i ? ", " : "notify:\n  command: [", node->notify.command[i]);
    }
    return err || !node->notify.count ? err
                                      : buf_printf(to, "]\n  timeout: %llums\n",
                                                   (unsigned long long)node->notify.timeout_ms);
}

enum err config_node_format(const struct config_node *node, struct buf *ret)
{
    enum err err = put_line(ret, "node: ", node->node);
    err = err ? err : put_line(ret, "org: ", node->org);
    err = err ? err : put_line(ret, "org_type: ", node->org_type);
    err = err ? err : put_line(ret, "country: ", node->country);
    err = err ? err : put_line(ret, "federation: ", node->federation);
    err = err ? err : put_line(ret, "listen: ", node->listen);
    if (node->advertise[0]) {
        err = err ? err : put_line(ret, "advertise: ", node->advertise);
    }
    err = err ? err : put_line(ret, "unlock: ", node->unlock);
    if (node->has_commercial) {
        err = err ? err : buf_printf(ret, "commercial: %s\n", node->commercial ? "true" : "false");
    }
    if (node->ontology[0]) {
        err = err ? err : put_line(ret, "ontology: ", node->ontology);
    }
    if (node->methods_on_ds_denied) {
        err = err ? err : put_line(ret, "methods_on_ds: ", "deny");
    }
    if (node->console[0]) {
        err = err ? err : put_line(ret, "console:\n  listen: ", node->console);
        err = err || !node->console_predict ? err : buf_put(ret, span_str("  predict: true\n"));
        err = err || !node->console_purpose[0]
                  ? err
                  : put_line(ret, "  purpose: ", node->console_purpose);
        err = err || !node->console_project[0]
                  ? err
                  : put_line(ret, "  project: ", node->console_project);
        err =
            err || !node->console_diseases.count
                ? err
                : put_texts(ret, "  disease: [", (const char *const *)node->console_diseases.items,
                            node->console_diseases.count);
    }
    err = err ? err : buf_put(ret, span_str(node->seeds.count ? "seeds:\n" : "seeds: []\n"));
    for (size_t i = 0; i < node->seeds.count && !err; i++) {
        err = put_line(ret, "  - ", node->seeds.items[i]);
    }
    err = err ? err : buf_put(ret, span_str(node->person_count ? "people:\n" : "people: []\n"));
    for (size_t i = 0; i < node->person_count && !err; i++) {
        err = put_person(ret, &node->people[i]);
    }
    err = err ? err : put_budget(ret, node);
    err = err ? err
              : buf_printf(ret, "release_tick_ms: %llu\nlog_level: %s\n",
                           (unsigned long long)node->release_tick_ms, level_names[node->log_level]);
    err = err ? err : put_limits(ret, &node->limits);
    if (node->training.cores || node->training.hours[0]) {
        err = err ? err : put_training(ret, &node->training);
    }
    err = err ? err : put_trainers(ret, node);
    return err ? err : put_approvals(ret, node);
}

static enum err io_error(const char *path, struct err_info *reterr)
{
    return proto_err_set(reterr, errno == ENOSPC || errno == EDQUOT ? E_DISK_FULL : E_IO,
                         "%.200s: %s", path, strerror(errno));
}

/* The directory's entry must be on disk as well before the new file counts. */
static enum err sync_directory(const char *path, struct err_info *reterr)
{
    char directory[512];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) + (slash == path) : 1;
    snprintf(directory, sizeof directory, "%.*s", (int)len, slash ? path : ".");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return io_error(directory, reterr);
    }
    enum err err = fsync(fd) ? io_error(directory, reterr) : E_OK;
    close(fd);
    return err;
}

static enum err write_new(const char *path, struct span text, struct err_info *reterr)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return io_error(path, reterr);
    }
    enum err err = fchmod(fd, 0600) ? io_error(path, reterr) : E_OK;
    size_t done = 0;
    while (!err && done < text.len) {
        ssize_t n = write(fd, text.ptr + done, text.len - done);
        if (n < 0 && errno != EINTR) {
            err = io_error(path, reterr);
        }
        done += n > 0 ? (size_t)n : 0;
    }
    err = !err && fsync(fd) ? io_error(path, reterr) : err;
    if (close(fd) && !err) {
        err = io_error(path, reterr);
    }
    return err;
}

enum err config_node_write(const char *path, const struct config_node *node,
                           struct err_info *reterr)
{
    char fresh[500];
    int n = snprintf(fresh, sizeof fresh, "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof fresh) {
        return proto_err_set(reterr, E_INVALID, "the path is too long");
    }
    struct buf text = {.max = CONFIG_YAML_BYTES_MAX};
    enum err err = config_node_check(node, reterr);
    err = err ? err : config_node_format(node, &text);
    err = err ? err : write_new(fresh, buf_span(&text), reterr);
    if (!err && rename(fresh, path)) {
        err = io_error(path, reterr);
    }
    if (err) {
        (void)unlink(fresh);
    }
    buf_fini(&text);
    return err ? err : sync_directory(path, reterr);
}

void config_node_fini(struct config_node *node)
{
    arena_fini(&node->arena);
    memset(node, 0, sizeof *node);
}
