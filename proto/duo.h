/* The Data Use Ontology's codes as numbers: DUO:0000042 is 42. Data only; what a code means for a
 * request is in policy.c. Threads: pure. Source: EBISPOT/DUO, duo.csv (CC-BY-4.0). DUO is not
 * validated as a compliance tool for any law. */
#ifndef CONCORDAT_PROTO_DUO_H
#define CONCORDAT_PROTO_DUO_H

#include "proto/err.h"
#include "proto/span.h"

/* X(number, SHORT, kind, label); kind P permission, M modifier, R research type of a request */
#define PROTO_DUO_CODES(X)                                                                         \
    X(4, NRES, P, "no restriction")                                                                \
    X(6, HMB, P, "health or medical or biomedical research")                                       \
    X(7, DS, P, "disease specific research")                                                       \
    X(11, POA, P, "population origins or ancestry research only")                                  \
    X(42, GRU, P, "general research use")                                                          \
    X(12, RS, M, "research specific restrictions")                                                 \
    X(15, NMDS, M, "no general methods research")                                                  \
    X(16, GSO, M, "genetic studies only")                                                          \
    X(18, NPUNCU, M, "not for profit, non commercial use only")                                    \
    X(19, PUB, M, "publication required")                                                          \
    X(20, COL, M, "collaboration required")                                                        \
    X(21, IRB, M, "ethics approval required")                                                      \
    X(22, GS, M, "geographical restriction")                                                       \
    X(24, MOR, M, "publication moratorium")                                                        \
    X(25, TS, M, "time limit on use")                                                              \
    X(26, US, M, "user specific restriction")                                                      \
    X(27, PS, M, "project specific restriction")                                                   \
    X(28, IS, M, "institution specific restriction")                                               \
    X(29, RTN, M, "return to database or resource")                                                \
    X(43, CC, M, "clinical care use")                                                              \
    X(44, NPOA, M, "population origins or ancestry research prohibited")                           \
    X(45, NPU, M, "not for profit organisation use only")                                          \
    X(46, NCU, M, "non-commercial use only")                                                       \
    X(31, MDS, R, "method development")

enum proto_duo {
#define X(number, name, kind, label) PROTO_DUO_##name = number,
    PROTO_DUO_CODES(X)
#undef X
};

/* "DUO:0000042", "DUO:00000044" (the ontology file's own misspelling) or "GRU".
 * Errors: E_INVALID unknown; E_UNSUPPORTED obsolete, the text names what replaced it. */
MUST_CHECK enum err proto_duo_parse(const char *text, uint64_t *ret_code, struct err_info *reterr);
const char *proto_duo_name(uint64_t code);  /* "GRU"; "unknown" for others */
const char *proto_duo_label(uint64_t code); /* for people */
/* Writes "DUO:0000042" and returns it. */
#define PROTO_DUO_SIZE 16
const char *proto_duo_format(uint64_t code, char text[PROTO_DUO_SIZE]);
bool proto_duo_is_permission(uint64_t code);
bool proto_duo_is_modifier(uint64_t code);
/* What a request may name as its purpose: a permission except NRES, clinical care (CC), or method
 * development (MDS). */
bool proto_duo_is_purpose(uint64_t code);

#endif
