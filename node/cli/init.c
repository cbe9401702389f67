/* init: the home of one node, by founding a federation or by an invitation's token. */
#include "config.h"
#include "node/cli/cli.h"

#include "crypto/provider.h"
#include "node/cli/provision.h"
#include "node/config/unlock.h"
#include "node/peer/enrol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define INIT_DEADLINE_MS (UINT64_C(24) * 3600 * 1000) /* a person has to compare fingerprints */

struct text_option {
    const char *option;
    char *to;
    size_t size;
    bool in_token; /* the inviter attests it, so it need not be given again */
};

static enum err fill(struct config_node *config, const struct cli_call *call,
                     struct err_info *reterr)
{
    const struct text_option texts[] = {
        {"--name", config->node, sizeof config->node, true},
        {"--org", config->org, sizeof config->org, true},
        {"--org-type", config->org_type, sizeof config->org_type, true},
        {"--country", config->country, sizeof config->country, true},
        {"--listen", config->listen, sizeof config->listen, false}};
    config_node_defaults(config);
    snprintf(config->unlock, sizeof config->unlock, "%s",
             cli_text(call, "--unlock") ? cli_text(call, "--unlock") : CLI_UNLOCK_DEFAULT);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text = cli_text(call, texts[i].option);
        bool later =
            cli_text(call, "--prepare") || (texts[i].in_token && cli_text(call, "--token-file"));
        if (!text && !later) {
            return proto_err_set(reterr, E_USAGE, "%s is missing", texts[i].option);
        }
        int n = text ? snprintf(texts[i].to, texts[i].size, "%s", text) : 0;
        if (n < 0 || (size_t)n >= texts[i].size) {
            return proto_err_set(reterr, E_USAGE, "%s is too long", texts[i].option);
        }
    }
    if (strcmp(config->listen, "none") != 0) {
        snprintf(config->advertise, sizeof config->advertise, "%s", config->listen);
    }
    return E_OK;
}

static json_t *view(const struct cli_provision_node *node, const char *federation,
                    const uint8_t federation_id[16], const char *state)
{
    char id[33];
    char federation_hex[33] = "";
    char fingerprint[65];
    span_to_hex(span_of(node->id, 16), id);
    if (federation_id) {
        span_to_hex(span_of(federation_id, 16), federation_hex);
    }
    crypto_identity_fingerprint(crypto_identity_point(node->identity), fingerprint);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "node", node->config.node, "node_id",
                     id, "home", node->home, "federation", federation, "federation_id",
                     federation_hex, "fingerprint", fingerprint, "state", state);
}

static enum err found(struct cli_provision_node *node, const char *name, json_t **ret,
                      struct err_info *reterr)
{
    struct cli_provision_federation federation = {0};
    int64_t now = (int64_t)time(NULL);
    snprintf(node->config.federation, sizeof node->config.federation, "%s", name);
    enum err err = config_node_check(&node->config, reterr);
    err = err ? err : cli_provision_keys(node, reterr);
    err = err ? err : cli_provision_found(&federation, name, node, now, reterr);
    err = err ? err : cli_provision_admit(&federation, node, now, reterr);
    err = err ? err
              : cli_provision_write(node, buf_span(&federation.root_der),
                                    buf_span(&federation.charter), buf_span(&federation.records),
                                    reterr);
    if (!err) {
        *ret = view(node, name, federation.id, "founded");
    }
    cli_provision_federation_fini(&federation);
    return err;
}

static enum err read_token(const char *path, char to[PEER_TOKEN_TEXT], struct err_info *reterr)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *from = standard ? stdin : fopen(path, "re");
    if (!from) {
        return proto_err_set(reterr, errno == ENOENT ? E_NOT_FOUND : E_IO, "%s: %s", path,
                             strerror(errno));
    }
    if (standard && isatty(STDIN_FILENO)) {
        fputs("paste the invitation's token, then press Enter and control-D:\n", stderr);
    }
    size_t got = fread(to, 1, PEER_TOKEN_TEXT - 1, from);
    to[got] = 0;
    if (!standard) {
        fclose(from);
    }
    return got ? E_OK
               : proto_err_set(reterr, E_INVALID, "there is no token in %s",
                               standard ? "standard input" : path);
}

/* Neither wait ends before a day is over, and where no terminal is nobody would know what for. */
static void waiting(void *user, const char *fingerprint)
{
    const char *node = user;
    fprintf(stderr,
            "waiting to be admitted, for up to 24 hours: the invitation names no key. The inviting "
            "node's\noperator compares this fingerprint with you, by telephone or on paper, and "
            "runs\n"
            "  concordat federation admit %s --key %s\n"
            "Control-C ends the waiting; the same command goes on with it.\n",
            node, fingerprint);
}

static void trying(void *user, const char *address)
{
    (void)user;
    fprintf(stderr,
            "%s does not answer; trying again, for up to 24 hours. The inviting node must run, and "
            "its\nport for enrolment be open to this machine. Control-C ends the trying.\n",
            address);
}

/* What the inviter attests stands; who gave something else here should hear of it before any key is shown. */
static enum err take_attested(struct config_node *config, const struct peer_token *token,
                              struct err_info *reterr)
{
    const struct {
        const char *option, *attested;
        char *to;
        size_t size;
    } texts[] = {{"--name", token->name, config->node, sizeof config->node},
                 {"--org", token->org, config->org, sizeof config->org},
                 {"--org-type", token->org_type, config->org_type, sizeof config->org_type},
                 {"--country", token->country, config->country, sizeof config->country}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i].to[0] && strcmp(texts[i].to, texts[i].attested) != 0) {
            return proto_err_set(
                reterr, E_INVALID,
                "the invitation attests %s %s, not %s: leave the option out, or ask the inviter "
                "for another token",
                texts[i].option, texts[i].attested, texts[i].to);
        }
        int n = snprintf(texts[i].to, texts[i].size, "%s", texts[i].attested);
        if (n < 0 || (size_t)n >= texts[i].size) {
            return proto_err_set(reterr, E_INVALID, "%s of the token is too long", texts[i].option);
        }
    }
    snprintf(config->federation, sizeof config->federation, "%s", token->federation);
    return E_OK;
}

static enum err join(struct cli_provision_node *node, const char *path, json_t **ret,
                     struct err_info *reterr)
{
    char text[PEER_TOKEN_TEXT];
    struct peer_token token;
    struct peer_enrol_result result = {0};
    enum err err = read_token(path, text, reterr);
    err = err ? err : peer_token_decode(text, strlen(text), &token, reterr);
    err = err ? err : take_attested(&node->config, &token, reterr);
    err = err ? err : config_node_check(&node->config, reterr);
    err = err ? err : cli_provision_keys(node, reterr);
    if (!err) {
        struct peer_enrol_join_options options = {.token = text,
                                                  .name = node->config.node,
                                                  .listen = node->config.listen,
                                                  .identity = node->identity,
                                                  .tls_key = node->tls_key,
                                                  .deadline_ms = INIT_DEADLINE_MS,
                                                  .waiting = waiting,
                                                  .trying = trying,
                                                  .user = node->config.node};
        err = peer_enrol_join(&options, &result, reterr);
    }
    if (!err) {
        node->certificate.max = result.certificate.max;
        err = buf_put(&node->certificate, buf_span(&result.certificate));
    }
    err = err ? err
              : cli_provision_write(node, buf_span(&result.root), buf_span(&result.charter),
                                    buf_span(&result.records), reterr);
    if (!err) {
        *ret = view(node, result.federation, result.federation_id, "member");
    }
    peer_enrol_result_fini(&result);
    return err;
}

enum err cli_init(struct cli_call *call, json_t **ret, int *ret_exit, struct err_info *reterr)
{
    (void)ret_exit;
    char asked[CONFIG_UNLOCK_SECRET_MAX + 1];
    struct cli_provision_node node = {.home = call->home};
    const char *federation = cli_text(call, "--found");
    const char *token = cli_text(call, "--token-file");
    bool prepare = cli_text(call, "--prepare") != NULL;
    if ((federation != NULL) + (token != NULL) + prepare != 1) {
        return proto_err_set(reterr, E_USAGE,
                             "give one of --found FEDERATION, --token-file FILE and --prepare");
    }
    enum err err = fill(&node.config, call, reterr);
    err = err ? err : crypto_init(reterr);
    struct span secret = err ? SPAN_NONE : config_unlock_secret(node.config.unlock, true, asked);
    node.passphrase = (const char *)secret.ptr; /* both of its places end in a zero */
    if (!err && prepare) {
        err = cli_provision_keys(&node, reterr);
        *ret = err ? NULL : view(&node, "", NULL, "prepared");
    } else if (!err) {
        err = federation ? found(&node, federation, ret, reterr) : join(&node, token, ret, reterr);
    }
    crypto_wipe(asked, sizeof asked);
    cli_provision_node_fini(&node);
    return err;
}
