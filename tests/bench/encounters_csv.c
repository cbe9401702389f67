/* encounters_csv FILE ROWS [MISSING_PERCENT [PATIENTS [SEED]]]: writes the table of tests/lib/encounters.h. */
#include "tests/lib/encounters.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: encounters_csv FILE ROWS [MISSING_PERCENT [PATIENTS [SEED]]]\n");
        return 2;
    }
    uint64_t rows = strtoull(argv[2], NULL, 10);
    unsigned missing = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    uint32_t patients = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : ENCOUNTERS_PATIENTS;
    uint64_t seed = argc > 5 ? strtoull(argv[5], NULL, 10) : 42;
    if (patients == 0 || !encounters_write(argv[1], rows, patients, seed, missing)) {
        fprintf(stderr, "encounters_csv: cannot write %s\n", argv[1]);
        return 1;
    }
    return 0;
}
