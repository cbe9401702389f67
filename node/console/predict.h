/* The inference service behind the API: POST /api/v1/model/predict/ID, for programs on this machine.
 *
 *     console: {listen: "127.0.0.1:7480", predict: true}      in node.yaml; off otherwise
 *
 *     curl -H "Authorization: Bearer $(cat HOME/predict.token)" -H "Content-Type: application/json" \
 *          -d '{"texts": ["No sign of breast cancer."]}' http://127.0.0.1:7480/api/v1/model/predict/ID
 *
 * For which purpose it answers is fixed in node.yaml (`purpose:`, `project:`, `disease:` beside `predict:`; default: what is on record,
 * as of the command) and decided anew at each request: a licence that was withdrawn or has ended refuses at once.
 * It is `model predict` with the texts in the request (node/model/inputs.h) and the same JSON back: the same decision whether this node may use
 * the model, the same audit entry before the answer. Its token opens nothing else, and no other token opens it.
 * Limits: those of inputs.h, CONSOLE_PREDICT_* below, CONTROL_PREDICT_S. The model that was asked last stays in memory.
 * Threads: open and close on one, the rest on any. */
#ifndef CONCORDAT_NODE_CONSOLE_PREDICT_H
#define CONCORDAT_NODE_CONSOLE_PREDICT_H

#include "node/control/call.h"

#define CONSOLE_PREDICT_PER_SECOND 5  /* requests, on average */
#define CONSOLE_PREDICT_BURST      20 /* at once after a pause */
#define CONSOLE_PREDICT_WAITING    2  /* at work or waiting for the model */

struct console_predict;
/* NODE is borrowed until close. *ret is NULL when node.yaml does not ask for the service. */
MUST_CHECK enum err console_predict_open(struct node *node, struct console_predict **ret,
                                         struct err_info *reterr);
void console_predict_close(struct console_predict *service);
/* Whether SHOWN, after "Bearer ", is the service's token; in constant time. SERVICE and SHOWN may be NULL. */
bool console_predict_token(const struct console_predict *service, const char *shown);
/* The answer of the model ID to BODY. Returns the HTTP status (429: too often, 503: too many at once) and a text for free() in
 * *ret_json, NULL when memory is short. */
unsigned console_predict_answer(struct console_predict *service, const char *id, struct span body,
                                char **ret_json);

#endif
