/* Projects: what a requester's people have published that they do, and which purposes that covers.
 *
 *     proto_project_purpose(&project, span_str("ada"), &outer);      what the project stands for
 *     fault = proto_project_fault(&project, &stated, now, ontology); may this stand in a question of the project?
 *
 * A person may narrow a project, never widen it: another disease below its own, fewer kinds of research, non-commercial.
 * Each site checks that against the gossiped PROJECT record, so that a node cannot say one thing and publish another.
 * Threads: pure. */
#ifndef CONCORDAT_PROTO_PROJECT_H
#define CONCORDAT_PROTO_PROJECT_H

#include "proto/body.h"
#include "proto/ontology.h"
#include "proto/request.h"

/* Borrows from PROJECT and PERSON. */
void proto_project_purpose(const struct proto_project *project, struct span person,
                           struct proto_purpose *ret);

/* X(NAME, text) */
#define PROTO_PROJECT_FAULTS(X)                                                                    \
    X(NONE, "it is covered")                                                                       \
    X(ENDED, "the project has ended")                                                              \
    X(PERSON, "the person is not of the project")                                                  \
    X(PURPOSE, "the purpose is wider than the project's")                                          \
    X(DISEASE, "a disease lies outside the project's")                                             \
    X(RESEARCH, "a kind of research is not the project's")                                         \
    X(COMMERCIAL, "the project is not commercial")                                                 \
    X(ETHICS, "the ethics approval is not the project's")

enum proto_project_fault {
#define X(name, text) PROTO_PROJECT_##name,
    PROTO_PROJECT_FAULTS(X)
#undef X
};
const char *proto_project_fault_text(enum proto_project_fault fault);

enum proto_project_fault proto_project_fault(const struct proto_project *project,
                                             const struct proto_purpose *purpose, int64_t now,
                                             const struct proto_ontology *ontology);
/* The same between two purposes: INNER says nothing that OUTER does not cover. */
enum proto_project_fault proto_purpose_fault(const struct proto_purpose *outer,
                                             const struct proto_purpose *inner,
                                             const struct proto_ontology *ontology);

/* STATED over OUTER: what was stated stands, all else is OUTER's; promises are united (in ARENA).
 * Errors: E_NO_MEMORY, E_LIMIT. */
MUST_CHECK enum err proto_purpose_fill(const struct proto_purpose *outer,
                                       const struct proto_purpose *stated, struct arena *arena,
                                       struct proto_purpose *ret);

#endif
