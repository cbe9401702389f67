/* Any bytes as a manifest and as a job file: refused with a place, or valid by the checks of proto.
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>

#include "node/config/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err_info info = {0};
    struct proto_manifest manifest = {0};
    struct proto_job job = {0};
    struct config_node node = {0};
    enum err err = config_yaml_manifest_bytes(span_of(data, size), "f", &manifest, &info);
    if ((!err && proto_manifest_check(&manifest, &info)) ||
        (err && info.text[0] != 'f' && err != E_NO_MEMORY)) {
        abort();
    }
    if (!config_yaml_job_bytes(span_of(data, size), "f", &job, &info) &&
        proto_job_check(&job, &info)) {
        abort();
    }
    if (!config_yaml_node_bytes(span_of(data, size), "f", &node, &info) &&
        config_node_check(&node, &info)) {
        abort();
    }
    proto_manifest_fini(&manifest);
    proto_job_fini(&job);
    config_node_fini(&node);
    return 0;
}
