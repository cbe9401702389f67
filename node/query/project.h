/* Projects by their gossiped records: those of this node's people, and what a requester's project covers at a site.
 * Threads: any. */
#ifndef CONCORDAT_NODE_QUERY_PROJECT_H
#define CONCORDAT_NODE_QUERY_PROJECT_H

#include "node/query/context.h"
#include "proto/project.h"

/* ISSUER's project NAME; RET's spans live in ARENA. Errors: E_NOT_FOUND there is none, it was withdrawn, or its body is not
 * understood here. */
MUST_CHECK enum err query_project_get(struct query_context *context, const uint8_t issuer[16],
                                      struct span name, struct arena *arena,
                                      struct proto_project *ret);
/* PURPOSE as stated by a person of this node: what was left open is the project's. A project that is named after its person
 * needs no record.
 * Errors: E_NOT_FOUND this node has published no such project; E_ROLE the person is not of it; E_USAGE it has ended, or
 * what was stated is wider. */
MUST_CHECK enum err query_project_fill(struct query_context *context, struct arena *arena,
                                       struct proto_purpose *purpose, int64_t now,
                                       struct err_info *reterr);
/* Whether PURPOSE is what the requester has published: an ad-hoc project, named after its person, needs no record; any
 * other must be published by the requester's node and cover all that is stated. */
bool query_project_covers(struct query_context *context, const uint8_t requester[16],
                          const struct proto_purpose *purpose, int64_t now);

#endif
