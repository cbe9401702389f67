/* The ready mappings, compiled in: they stand in deploy/mappings and are installed beside the documents, to be copied and
 * edited. */
#include "config.h"
#include "node/config/bind.h"
#include "node/config/home.h"
#include "node/config/yaml.h"

#include "node/config/mappings_text.h"

size_t config_mapping_count(void)
{
    return sizeof shipped / sizeof *shipped;
}

const char *config_mapping_name(size_t i)
{
    return shipped[i].name;
}

struct span config_mapping_text(const char *name)
{
    for (size_t i = 0; i < config_mapping_count(); i++) {
        if (strcmp(shipped[i].name, name) == 0) {
            return span_str(shipped[i].text);
        }
    }
    return SPAN_NONE;
}

enum err config_mapping_load(const char *home, const char *name, struct buf *ret,
                             struct err_info *reterr)
{
    struct buf path = {.max = 4096};
    ret->max = CONFIG_YAML_BYTES_MAX;
    enum err err = buf_printf(&path, "%s/" HOME_MAPPINGS_DIR "/%s.yaml", home, name);
    err = err ? err : buf_put(&path, span_of("", 1));
    err = err ? proto_err_set(reterr, err, "the path of mapping %.64s is too long", name)
              : config_read_file((const char *)path.ptr, ret, reterr);
    buf_fini(&path);
    if (err != E_NOT_FOUND) {
        return err;
    }
    struct span text = config_mapping_text(name);
    return text.ptr ? buf_put(ret, text)
                    : proto_err_set(reterr, E_NOT_FOUND,
                                    "there is no mapping %.64s: `concordat dataset mapping` lists "
                                    "the ready ones; a file of yours needs its ending, .yaml",
                                    name);
}
