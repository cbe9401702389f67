/* The known word that a mistyped one most probably meant, for the texts of errors.
 *
 *     struct proto_nearest nearest = proto_nearest_to(word);
 *     for (each known word) { proto_nearest_try(&nearest, known); }
 *     if (nearest.best.ptr) { "... did you mean %.*s?" }
 *
 * Restricted edit distance (a swap of neighbours is one edit), almost without regard to case. A word is near when at
 * most a third of its letters differ: one at least, four at most. Of equally near ones the first wins.
 * Threads: pure. Limits: words longer than PROTO_NEAREST_MAX are far from everything. */
#ifndef CONCORDAT_PROTO_NEAREST_H
#define CONCORDAT_PROTO_NEAREST_H

#include "proto/span.h"

#define PROTO_NEAREST_MAX 64

struct proto_nearest {
    struct span wanted;
    struct span best; /* none: nothing is near */
    size_t least;     /* what the next one may cost at most */
};

struct proto_nearest proto_nearest_to(struct span wanted);
void proto_nearest_try(struct proto_nearest *nearest, struct span known);
/* The same over an array; NULL when none is near. */
const char *proto_suggest(const char *const *names, size_t count, const char *name);

#endif
