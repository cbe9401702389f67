#include "config.h"
#include "node/console/predict.h"

#include "crypto/memory.h"
#include "node/config/home.h"
#include "node/console/api.h"
#include "node/console/token.h"
#include "node/control/dispatch.h"
#include "node/model/deploy.h"
#include "node/query/clock.h"

#include <stdlib.h>

struct console_predict {
    struct node *node;
    char token[CONSOLE_TOKEN_SIZE + 1];
    struct control_kept kept;
    struct arena arena;
    const char *diseases; /* of node.yaml, with commas; NULL: none */
    pthread_mutex_t lock; /* of what follows */
    unsigned waiting;
    double credit; /* requests that may come at once */
    uint64_t seen_ms;
};

static enum err join_diseases(struct console_predict *service)
{
    const struct proto_text_list *list = &service->node->config.console_diseases;
    struct buf text = {.max = 8192};
    enum err err = E_OK;
    for (size_t i = 0; !err && i < list->count; i++) {
        err = buf_printf(&text, "%s%s", i ? "," : "", list->items[i]);
    }
    service->diseases = err || !text.len ? NULL : arena_strdup(&service->arena, buf_span(&text));
    err = err || !text.len || service->diseases ? err : E_NO_MEMORY;
    buf_fini(&text);
    return err;
}

enum err console_predict_open(struct node *node, struct console_predict **ret,
                              struct err_info *reterr)
{
    if (!node->config.console_predict) {
        *ret = NULL;
        return E_OK;
    }
    struct console_predict *service = proto_alloc(1, sizeof *service);
    if (!service) {
        return E_NO_MEMORY;
    }
    service->node = node;
    service->credit = CONSOLE_PREDICT_BURST;
    service->seen_ms = query_now_ms();
    pthread_mutex_init(&service->lock, NULL);
    pthread_mutex_init(&service->kept.lock, NULL);
    enum err err = join_diseases(service);
    err = err ? err : console_token_make(node->home, HOME_PREDICT_TOKEN, service->token, reterr);
    if (err) {
        console_predict_close(service);
        return err;
    }
    *ret = service;
    return E_OK;
}

void console_predict_close(struct console_predict *service)
{
    if (!service) {
        return;
    }
    model_predictor_close(service->kept.predictor);
    arena_fini(&service->arena);
    pthread_mutex_destroy(&service->kept.lock);
    pthread_mutex_destroy(&service->lock);
    crypto_wipe(service->token, sizeof service->token);
    proto_free(service);
}

bool console_predict_token(const struct console_predict *service, const char *shown)
{
    return service && console_token_shown(service->token, shown);
}

static unsigned refuse(unsigned status, const char *why, char **ret_json)
{
    struct err_info info = {0};
    enum err err = proto_err_set(&info, E_BUSY, "%s", why);
    *ret_json = control_error_text(err, &info, NULL, NULL);
    return status;
}

/* One more that waits; 0, or the status of a refusal. */
static unsigned enter(struct console_predict *service, char **ret_json)
{
    unsigned status = 0;
    pthread_mutex_lock(&service->lock);
    uint64_t now = query_now_ms();
    service->credit += (double)(now - service->seen_ms) / 1000 * CONSOLE_PREDICT_PER_SECOND;
    service->credit =
        service->credit < CONSOLE_PREDICT_BURST ? service->credit : CONSOLE_PREDICT_BURST;
    service->seen_ms = now;
    if (service->credit < 1) {
        status = 429;
    } else if (service->waiting == CONSOLE_PREDICT_WAITING) {
        status = 503;
    } else {
        service->credit -= 1;
        service->waiting++;
    }
    pthread_mutex_unlock(&service->lock);
    return status == 0     ? 0
           : status == 429 ? refuse(429, "too many requests: send several texts in one", ret_json)
                           : refuse(503, "others are being answered: ask again", ret_json);
}

static void leave(struct console_predict *service)
{
    pthread_mutex_lock(&service->lock);
    service->waiting--;
    pthread_mutex_unlock(&service->lock);
}

/* What the operator fixed in node.yaml; a program that asks cannot say another purpose. */
static size_t name_purpose(const struct console_predict *service, const char *id,
                           struct proto_control_argument items[4])
{
    const struct config_node *config = &service->node->config;
    const struct {
        const char *name, *value;
    } stated[] = {{"--purpose", config->console_purpose},
                  {"--project", config->console_project},
                  {"--disease", service->diseases ? service->diseases : ""}};
    size_t count = 0;
    items[count++] = (struct proto_control_argument){span_str("ID"), span_str(id)};
    for (size_t i = 0; i < sizeof stated / sizeof *stated; i++) {
        if (stated[i].value[0]) {
            items[count++] = (struct proto_control_argument){span_str(stated[i].name),
                                                             span_str(stated[i].value)};
        }
    }
    return count;
}

unsigned console_predict_answer(struct console_predict *service, const char *id, struct span body,
                                char **ret_json)
{
    unsigned refused = enter(service, ret_json);
    if (refused) {
        return refused;
    }
    struct proto_control_argument items[4];
    struct proto_control_request request = {.operation = span_str("model predict"),
                                            .arguments = {items, name_purpose(service, id, items)}};
    struct control_call call = {.node = service->node,
                                .request = &request,
                                .person = "predict-service",
                                .roles = PROTO_ROLE_ANALYST,
                                .uid = UINT32_MAX, /* reads no file */
                                .gid = UINT32_MAX,
                                .socket = -1,
                                .body = body,
                                .kept = &service->kept};
    int exit_code = 1;
    control_dispatch(&call, ret_json, &exit_code);
    control_call_fini(&call);
    leave(service);
    return console_status(exit_code);
}
