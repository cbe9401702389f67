/* The files that people write, read into structures: dataset manifests, training jobs and node.yaml. Each is a table of
 * typed rows (name, type, range, required, offset) over one YAML document; what a file means is checked by
 * proto/manifest and proto/job.
 *
 *     struct config_node node = {0};
 *     enum err err = config_yaml_node("/srv/a/node.yaml", &node, reterr);   // "/srv/a/node.yaml:7:3: listen: ..."
 *     config_node_fini(&node);
 *
 * Every refusal is E_INVALID or E_UNSUPPORTED and its text starts with file:line:column. Unknown and repeated keys,
 * aliases, anchors, tags, more than one document, and what exceeds CONFIG_YAML_* are refused.
 * Threads: none shared; call from any. */
#ifndef CONCORDAT_NODE_CONFIG_YAML_H
#define CONCORDAT_NODE_CONFIG_YAML_H

#include "proto/job.h"
#include "proto/manifest.h"
#include "proto/mapping.h"
#include "node/config/node.h"

/* A project's file:
 *     project: heart                    # [a-z0-9][a-z0-9._-]{0,63}
 *     purpose: "DUO:0000007"
 *     diseases: ["MONDO:0005015"]
 *     research: [genetic]               # absent: not said
 *     commercial: false                 # absent: not said
 *     ethics: {ref: "EK 12/2026", expires: 2027-12-31}
 *     recipients: [org-a]               # who else gets results
 *     obligations: [publish, return-results]    # promises; also `accept`
 *     people: [ada, eve]                # ids of people: in node.yaml; absent: all of this node
 *     ends: 2028-12-31 */
struct config_texts {
    const char **items;
    size_t count;
};
struct config_project {
    struct arena arena;
    char name[65];
    char purpose[32];
    struct config_texts diseases, research, recipients, accepted, people;
    bool has_commercial;
    bool commercial;
    char ethics_ref[129];
    int64_t ethics_expires;
    int64_t ends;
};

#define CONFIG_YAML_BYTES_MAX ((size_t)1 << 20)
#define CONFIG_YAML_DEPTH_MAX 16
#define CONFIG_YAML_NODES_MAX 50000

/* RET is zeroed by the caller and freed by it with ..._fini, also on failure.
 * Errors: E_NOT_FOUND, E_IO the file; E_INVALID, E_UNSUPPORTED its contents; E_LIMIT its size;
 * E_NO_MEMORY. */
MUST_CHECK enum err config_yaml_manifest(const char *path, struct proto_manifest *ret,
                                         struct err_info *reterr);
MUST_CHECK enum err config_yaml_job(const char *path, struct proto_job *ret,
                                    struct err_info *reterr);
MUST_CHECK enum err config_yaml_node(const char *path, struct config_node *ret,
                                     struct err_info *reterr);

/* The same from bytes; NAME stands for the file in texts. */
MUST_CHECK enum err config_yaml_manifest_bytes(struct span bytes, const char *name,
                                               struct proto_manifest *ret, struct err_info *reterr);
/* A file that holds `licence:` alone; the dataset gets the name "dataset" and version "1". */
MUST_CHECK enum err config_yaml_licence_bytes(struct span bytes, const char *name,
                                              struct proto_manifest *ret, struct err_info *reterr);
MUST_CHECK enum err config_yaml_job_bytes(struct span bytes, const char *name,
                                          struct proto_job *ret, struct err_info *reterr);
MUST_CHECK enum err config_yaml_mapping_bytes(struct span bytes, const char *name,
                                              struct proto_mapping *ret, struct err_info *reterr);
/* RET->arena is the caller's to free. */
MUST_CHECK enum err config_yaml_project_bytes(struct span bytes, const char *name,
                                              struct config_project *ret, struct err_info *reterr);
MUST_CHECK enum err config_yaml_node_bytes(struct span bytes, const char *name,
                                           struct config_node *ret, struct err_info *reterr);

/* One document of somebody else's making as JSON text, each scalar a string, appended to RET. */
MUST_CHECK enum err config_yaml_json(struct span bytes, const char *name, struct buf *ret,
                                     struct err_info *reterr);

/* The ready mappings by name: how many, their names, and the YAML of one (SPAN_NONE: there is none of that name). */
size_t config_mapping_count(void);
const char *config_mapping_name(size_t i);
struct span config_mapping_text(const char *name);
/* The YAML of HOME/mappings/NAME.yaml, which an operator put there, else of the ready one of that name.
 * Errors: E_NOT_FOUND neither; E_IO; E_LIMIT; E_NO_MEMORY. */
MUST_CHECK enum err config_mapping_load(const char *home, const char *name, struct buf *ret,
                                        struct err_info *reterr);

#endif
