/* Runs a fuzz target over its committed corpus, and over every prefix of each file: what `make check` does with it.
 * TAP on standard output. The corpus is tests/fuzz/corpus/NAME, where the program is called replay_NAME. */
#include "config.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILES_MAX    1024
#define PREFIX_TRIES 64

/* In a block of exactly its size, so that a sanitizer sees any read past the end. */
static void run(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy) {
        exit(1);
    }
    memcpy(copy, bytes, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static int run_file(const char *path)
{
    struct stat st;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &st) != 0) {
        return 0;
    }
    size_t len = (size_t)st.st_size;
    uint8_t *bytes = malloc(len ? len : 1);
    int ok = bytes && fread(bytes, 1, len, file) == len;
    fclose(file);
    if (ok) {
        run(bytes, len);
        for (size_t i = 0; i < PREFIX_TRIES && i < len; i++) {
            run(bytes, len * i / PREFIX_TRIES);
        }
    }
    free(bytes);
    return ok;
}

int main(int argc, char **argv)
{
    const char *srcdir = getenv("top_srcdir");
    const char *name = strstr(argv[0], "replay_");
    char folder[4096];
    (void)argc;
    snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".",
             name ? name + 7 : "");
    DIR *dir = opendir(folder);
    int files = 0;
    int good = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL && files < FILES_MAX;) {
        char path[sizeof folder + 300];
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            good += run_file(path);
            files++;
        }
    }
    if (dir) {
        closedir(dir);
    }
    printf("1..1\n%s 1 - %d corpus files of %s\n", files > 0 && good == files ? "ok" : "not ok",
           files, name ? name + 7 : "?");
    return files > 0 && good == files ? 0 : 1;
}
