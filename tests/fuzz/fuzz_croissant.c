/* Any bytes as Croissant or a data set card: refused with a reason, or a draft that is YAML and of which the manifest's
 * reader says with a place what it still lacks. */
#include "config.h"

#include <stdlib.h>

#include "node/cli/draft.h"
#include "node/config/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct span text)
{
    struct err_info info = {0};
    struct proto_manifest manifest = {0};
    struct buf json = {.max = (size_t)64 << 20};
    if (text.len > CONFIG_YAML_BYTES_MAX) {
        return;
    }
    if (config_yaml_json(text, "draft", &json, &info)) {
        abort();
    }
    enum err err = config_yaml_manifest_bytes(text, "draft", &manifest, &info);
    if (err && err != E_INVALID && err != E_UNSUPPORTED && err != E_LIMIT) {
        abort();
    }
    proto_manifest_fini(&manifest);
    buf_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err_info info = {0};
    struct cli_draft draft = {0};
    struct buf text = {.max = (size_t)4 << 20};
    enum err err = cli_draft_read(span_of(data, size), "f", &draft, &info);
    if (err) {
        if (!info.text[0] && err != E_NO_MEMORY) {
            abort();
        }
    } else if (!cli_draft_print(&draft, &text)) {
        check(buf_span(&text));
    }
    cli_draft_fini(&draft);
    buf_fini(&text);
    return 0;
}
