/* A made table of hospital encounters, the same bytes for the same seed: for tests of contribution bounds and for benchmarks.
 *
 * Rows come in the order of admission (ten years from 2015-01-01, 30 days of jitter either way); patients are drawn evenly,
 * ages from a newborn-to-adolescent part and a bell around 52, sites with skewed sizes, diagnoses by Zipf's law over 500
 * codes, lengths of stay exponential, costs log-normal to the cent and growing with the stay. Nothing is missing.
 *
 *     struct encounters table;
 *     encounters_init(&table, 5000000, 2000000, 42);
 *     struct encounter row;
 *     while (encounters_next(&table, &row)) { ... }
 *
 * With 2,000,000 patients rows and text are those that the reference's measurements were made with.
 * Threads: each table belongs to one. */
#ifndef CONCORDAT_TESTS_LIB_ENCOUNTERS_H
#define CONCORDAT_TESTS_LIB_ENCOUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define ENCOUNTERS_DIAGNOSES 500
#define ENCOUNTERS_SITES     20
#define ENCOUNTERS_PATIENTS  2000000

struct encounters {
    uint64_t state[4];
    uint64_t rows;
    uint64_t made;
    uint32_t patients;
    double cumulated[ENCOUNTERS_DIAGNOSES];
    char diagnosis[ENCOUNTERS_DIAGNOSES][8];
    const char
        *diagnoses[ENCOUNTERS_DIAGNOSES]; /* the different ones, as a manifest declares them */
    size_t diagnosis_count;
    char site[ENCOUNTERS_SITES][8];
    const char *sites[ENCOUNTERS_SITES];
};

struct encounter {
    uint32_t patient; /* from 1 */
    int age;
    char sex; /* F, M */
    int site; /* index into sites */
    const char *diagnosis;
    int64_t admitted; /* days since 1970-01-01 */
    int los_days;
    double cost; /* as drawn; the text has two decimals */
};

void encounters_init(struct encounters *table, uint64_t rows, uint32_t patients, uint64_t seed);
bool encounters_next(struct encounters *table, struct encounter *ret);
/* The header line, and one row as a line of CSV. */
void encounters_head(FILE *to);
void encounters_line(const struct encounter *row, FILE *to);
/* Writes the whole table; false when the disk says no. MISSING_PERCENT of the values of each column but the patient are
 * left out, 0 as a rule. */
bool encounters_write(const char *path, uint64_t rows, uint32_t patients, uint64_t seed,
                      unsigned missing_percent);

#endif
