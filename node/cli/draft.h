/* What somebody else's description of a data set says that a manifest needs, and the draft manifest made of it.
 *
 *     struct cli_draft draft = {0};
 *     err = cli_draft_croissant(json, &draft, reterr);      // or cli_draft_card
 *     err = cli_draft_print(&draft, &text);
 *     cli_draft_fini(&draft);
 *
 * A description is a claim, and its hosts are wrong about licences more often than not, so a draft permits less than it
 * could: each use waits for the holder's yes, and what the description leaves open stands there as a comment.
 * Threads: none shared. */
#ifndef CONCORDAT_NODE_CLI_DRAFT_H
#define CONCORDAT_NODE_CLI_DRAFT_H

#include "proto/alloc.h"
#include "proto/err.h"

#include <jansson.h>

#define CLI_DRAFT_COLUMNS 256
#define CLI_DRAFT_VALUES  64
#define CLI_DRAFT_NOTES   64
#define CLI_DRAFT_CODES   8

struct cli_draft_column {
    const char *name;   /* as a question can write it */
    const char *source; /* as the file's header has it */
    const char *type;   /* of a manifest */
    const char *values[CLI_DRAFT_VALUES];
    size_t value_count;
    const char *note; /* NULL: none */
};

struct cli_draft {
    struct arena arena;
    const char *name;  /* [a-z0-9._-] */
    const char *title; /* NULL: none */
    const char *version;
    const char *spdx; /* NOASSERTION when nothing can be made of what it says */
    const char *contact;
    uint64_t size;                   /* 0: not said */
    uint64_t codes[CLI_DRAFT_CODES]; /* of DUO */
    size_t code_count;
    const char *obsolete[CLI_DRAFT_CODES]; /* codes that nobody may state any more */
    size_t obsolete_count;
    struct cli_draft_column *columns; /* CLI_DRAFT_COLUMNS */
    size_t column_count;
    const char *notes[CLI_DRAFT_NOTES]; /* what a person has to look at */
    size_t note_count;
    bool short_of_memory;
};

/* JSON-LD of Croissant 1.0 or 1.1. Errors: E_INVALID it is none; E_NO_MEMORY. */
MUST_CHECK enum err cli_draft_croissant(const json_t *json, struct cli_draft *ret,
                                        struct err_info *reterr);
/* The front matter of a data set card of Hugging Face, each scalar a string. The same errors. */
MUST_CHECK enum err cli_draft_card(const json_t *json, struct cli_draft *ret,
                                   struct err_info *reterr);
/* Which of the two BYTES is, and the draft of it. Errors: E_INVALID, E_LIMIT, E_NO_MEMORY. */
MUST_CHECK enum err cli_draft_read(struct span bytes, const char *name, struct cli_draft *ret,
                                   struct err_info *reterr);
/* As a manifest, YAML; it is accepted once what its comments ask for is filled in. */
MUST_CHECK enum err cli_draft_print(const struct cli_draft *draft, struct buf *out);
void cli_draft_fini(struct cli_draft *draft);

/* --- for the two readers --- */

/* TEXT without what a manifest may not hold, at most MAX bytes; NULL stays NULL. */
const char *cli_draft_clean(struct cli_draft *draft, const char *text, size_t max);
void cli_draft_note(struct cli_draft *draft, const char *format, ...) PRINTF_LIKE(2, 3);
void cli_draft_name(struct cli_draft *draft, const char *text);
/* Adds a column named by the end of SOURCE; NULL when no more fit, which is noted. */
struct cli_draft_column *cli_draft_column(struct cli_draft *draft, const char *source,
                                          const char *type);
/* What a licence is called elsewhere: an SPDX id in any case, or the address of a well-known licence. Several:
 * all of them apply. */
void cli_draft_licence(struct cli_draft *draft, const char *said);
/* The codes of DUO in TEXT. */
void cli_draft_codes(struct cli_draft *draft, const char *text);
#endif
