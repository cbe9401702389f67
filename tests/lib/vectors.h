/* Opens files of tests/vectors, or of $VECTORS, for tests with cmocka; include <cmocka.h> before. */
#ifndef CONCORDAT_TESTS_LIB_VECTORS_H
#define CONCORDAT_TESTS_LIB_VECTORS_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

static inline const char *vectors_path(const char *name)
{
    static char path[PATH_MAX];
    const char *folder = getenv("VECTORS"), *top = getenv("top_srcdir");
    int n = folder ? snprintf(path, sizeof path, "%s/%s", folder, name)
                   : snprintf(path, sizeof path, "%s/tests/vectors/%s", top ? top : ".", name);
    assert_true(n > 0 && (size_t)n < sizeof path);
    return path;
}

static inline json_t *vectors_json(const char *name)
{
    json_error_t why;
    json_t *root = json_load_file(vectors_path(name), 0, &why);
    if (!root) {
        fail_msg("%s:%d: %s", vectors_path(name), why.line, why.text);
    }
    return root;
}

#endif
