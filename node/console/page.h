/* The files of page/, as the build puts them into the program. Threads: constants. */
#ifndef CONCORDAT_NODE_CONSOLE_PAGE_H
#define CONCORDAT_NODE_CONSOLE_PAGE_H

#include <stddef.h>
#include <stdint.h>

struct console_page {
    const char *name;
    const uint8_t *bytes;
    size_t len;
};

extern const struct console_page console_pages[];
extern const size_t console_page_count;

#endif
