/* YAML documents into structures by tables of typed rows. Only this folder includes it; callers use yaml.h.
 *
 *     static const struct config_row rows[] = {
 *         {.name = "rounds", .type = CONFIG_U64, .offset = offsetof(struct proto_job, rounds), .min = 1, .max = 10000},
 *         CONFIG_ROWS_END,
 *     };
 *     err = config_bind(bytes, "job.yaml", rows, &job, &job.arena, check, reterr);
 *
 * A row whose key is absent leaves the member as it was: defaults are set before. What a row's type accepts is below.
 * Threads: none shared. */
#ifndef CONCORDAT_NODE_CONFIG_BIND_H
#define CONCORDAT_NODE_CONFIG_BIND_H

#include "proto/alloc.h"
#include "proto/err.h"

enum config_type {
    CONFIG_CHARS,     /* char[max]: a scalar that fits with its zero */
    CONFIG_TEXT,      /* const char *: a scalar of at most max bytes, in the arena */
    CONFIG_TEXTS,     /* const char **items, size_t count: a list of scalars, or one scalar; each
                        min..max bytes */
    CONFIG_U64,       /* uint64_t within min..max */
    CONFIG_U32,       /* uint32_t within min..max */
    CONFIG_NUMBER,    /* double, finite; its range is the check's business */
    CONFIG_BOOL,      /* bool: true or false */
    CONFIG_ENUM,      /* an enum (unsigned): the index in names */
    CONFIG_FLAGS,     /* unsigned: a list of names, bit 1 << index */
    CONFIG_TIME,      /* int64_t unix seconds; a bare date is the end of that day */
    CONFIG_TIME_FROM, /* the same; a bare date is the beginning of that day */
    CONFIG_DURATION,  /* uint64_t milliseconds: 500ms, 30s, 10m, 2h, 7d */
    CONFIG_MAP,       /* the members of rows, at the same structure */
    CONFIG_LIST,      /* void *items of element_size, count at count_offset: a list of maps */
    CONFIG_CUSTOM,    /* what custom() makes of a scalar */
};

/* Reads one scalar's TEXT into OBJECT. Returns NULL, or why it cannot be. */
typedef const char *config_custom(void *object, const char *text, struct arena *arena);

struct config_row {
    const char *name; /* NULL ends a table */
    enum config_type type;
    bool required;
    size_t offset;
    size_t present; /* offset of a bool that is set when the key is there; 0: none, so it may not be
                     * the structure's first member */
    size_t count_offset;
    double min;
    double max;
    const char *const *names; /* NULL-terminated */
    const struct config_row *rows;
    size_t element_size;
    /* Of CONFIG_LIST: sets an element's defaults. */
    void (*defaults)(void *element);
    config_custom *custom;
    bool or_texts; /* CONFIG_CUSTOM also takes a list, as CONFIG_TEXTS with offset and count_offset
                    */
};

#define CONFIG_ROWS_END                                                                            \
    {                                                                                              \
        .name = NULL                                                                               \
    }

/* Whole-object check after binding; its texts start with a path ("columns[2].min: ..."), which
 * becomes file:line:column. */
typedef enum err config_check(void *object, struct err_info *reterr);

/* Binds the one document of BYTES to OBJECT and then calls CHECK. NAME stands for the file in
 * texts. Errors: E_INVALID, E_UNSUPPORTED, E_LIMIT, E_NO_MEMORY, each "name:line:column: ...". */
MUST_CHECK enum err config_bind(struct span bytes, const char *name, const struct config_row *rows,
                                void *object, struct arena *arena, config_check *check,
                                struct err_info *reterr);

/* Reads the file PATH of at most CONFIG_YAML_BYTES_MAX bytes. Errors: E_NOT_FOUND, E_IO, E_LIMIT,
 * E_NO_MEMORY. */
MUST_CHECK enum err config_read_file(const char *path, struct buf *ret, struct err_info *reterr);

#endif
