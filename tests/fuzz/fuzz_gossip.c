/* The gossip core against a peer that sends anything. Input: (op u8 | length u16 | bytes)*; op chooses event and link.
 * After every input the core's tables must agree, and what it sends must be a message that a core takes. */
#include <assert.h>

#include "proto/gossip.h"
#include "tests/lib/fake_hash.h"

static void answer(struct proto_gossip *core, struct proto_gossip_actions *actions,
                   struct proto_gossip_actions *more, uint64_t now)
{
    for (size_t i = 0; i < actions->count; i++) {
        const struct proto_gossip_action *action = &actions->items[i];
        struct proto_gossip_event event = {.now_ms = now, .wall_ms = now, .job = action->job};
        if (action->kind == PROTO_GOSSIP_SEND) {
            assert(action->bytes.len >= 2 && action->bytes.len <= PROTO_GOSSIP_MESSAGE_MAX);
        } else if (action->kind == PROTO_GOSSIP_VERIFY) {
            event.kind = PROTO_GOSSIP_VERIFIED;
            event.verdict = action->bytes.ptr[action->bytes.len - 1] & 1 ? PROTO_GOSSIP_ACCEPT
                                                                         : PROTO_GOSSIP_REJECT;
            proto_gossip_step(core, &event, more);
            event.kind = PROTO_GOSSIP_STORED;
            event.ok = true;
            proto_gossip_step(core, &event, more);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct proto_gossip_actions *actions, *more;
    struct proto_gossip_config config = {
        .hash = &fake_hash, .seed = 1, .links = 4, .records = 64, .issuers = 16};
    struct proto_gossip *core = proto_gossip_new(&config);
    uint64_t now = 1000;
    actions = actions ? actions : proto_gossip_actions_new();
    more = more ? more : proto_gossip_actions_new();
    if (!core || !actions || !more) {
        proto_gossip_free(core);
        return 0;
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct proto_gossip_event up = {
            .kind = PROTO_GOSSIP_LINK_UP, .link = i, .now_ms = now, .wall_ms = now};
        proto_gossip_step(core, &up, actions);
    }
    while (size >= 3) {
        size_t len = get_be16(data + 1);
        len = len < size - 3 ? len : size - 3;
        now += data[0] * 16u;
        struct proto_gossip_event event = {.kind = (enum proto_gossip_event_kind)(data[0] % 7),
                                           .link = data[0] / 7 % 5,
                                           .job = data[0],
                                           .bytes = span_of(data + 3, len),
                                           .now_ms = now,
                                           .wall_ms = now};
        proto_gossip_step(core, &event, actions);
        answer(core, actions, more, now);
        data += 3 + len;
        size -= 3 + len;
    }
    assert(proto_gossip_valid(core));
    proto_gossip_free(core);
    return 0;
}
