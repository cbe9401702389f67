#include "config.h"
#include "proto/nearest.h"

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* Another case costs so little that a word in capitals is as near as no other, yet an exact spelling is nearer. */
#define EDIT 64

static size_t cost(uint8_t a, uint8_t b)
{
    return a == b ? 0 : lower(a) == lower(b) ? 1 : EDIT;
}

static size_t distance(struct span a, struct span b)
{
    size_t rows[3][PROTO_NEAREST_MAX + 1] = {{0}};
    for (size_t j = 0; j <= b.len; j++) {
        rows[0][j] = EDIT * j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        size_t *now = rows[i % 3];
        const size_t *last = rows[(i + 2) % 3];
        const size_t *before = rows[(i + 1) % 3];
        now[0] = EDIT * i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = last[j - 1] + cost(a.ptr[i - 1], b.ptr[j - 1]);
            best = last[j] + EDIT < best ? last[j] + EDIT : best;
            best = now[j - 1] + EDIT < best ? now[j - 1] + EDIT : best;
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1] &&
                before[j - 2] + EDIT < best) {
                best = before[j - 2] + EDIT;
            }
            now[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

struct proto_nearest proto_nearest_to(struct span wanted)
{
    size_t edits = wanted.len / 3;
    edits = edits < 1 ? 1 : edits > 4 ? 4 : edits;
    return (struct proto_nearest){.wanted = wanted, .least = EDIT * edits + EDIT - 1};
}

void proto_nearest_try(struct proto_nearest *nearest, struct span known)
{
    size_t wanted = nearest->wanted.len;
    size_t longer = wanted > known.len ? wanted - known.len : known.len - wanted;
    if (wanted == 0 || known.len == 0 || wanted > PROTO_NEAREST_MAX ||
        known.len > PROTO_NEAREST_MAX || EDIT * longer > nearest->least) {
        return;
    }
    size_t cost = distance(nearest->wanted, known);
    if (cost <= nearest->least && (!nearest->best.ptr || cost < nearest->least)) {
        nearest->least = cost;
        nearest->best = known;
    }
}

const char *proto_suggest(const char *const *names, size_t count, const char *name)
{
    struct proto_nearest nearest = proto_nearest_to(span_str(name));
    for (size_t i = 0; i < count; i++) {
        proto_nearest_try(&nearest, span_str(names[i]));
    }
    return (const char *)nearest.best.ptr; /* ends where its name does */
}
