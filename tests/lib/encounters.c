#include "tests/lib/encounters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_DAY 16436 /* 2015-01-01 */
#define DAYS      3652.0

static uint64_t turn(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

/* xoshiro256** (Blackman and Vigna 2018) */
static uint64_t draw(struct encounters *table)
{
    uint64_t *s = table->state;
    uint64_t result = turn(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = turn(s[3], 45);
    return result;
}

/* SplitMix64, which its authors give for filling the state. */
static uint64_t split_mix(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double uniform(struct encounters *table)
{
    return (double)(draw(table) >> 11) * 0x1.0p-53;
}

static double normal(struct encounters *table)
{
    double a = uniform(table);
    double b = uniform(table);
    return sqrt(-2 * log(fmax(a, 1e-300))) * cos(6.283185307179586 * b);
}

static void name_diagnoses(struct encounters *table)
{
    for (int i = 0; i < ENCOUNTERS_DIAGNOSES; i++) {
        int j = (i * 7 + 11) % 2600;
        snprintf(table->diagnosis[i], sizeof table->diagnosis[i], "%c%02d.%d",
                 (char)('A' + (j * 3 + i / 97) % 26), i * 37 % 100, i % 10);
    }
    memcpy(table->diagnosis[4], "E11.9", 6);
    table->diagnosis_count = 0;
    for (int i = 0; i < ENCOUNTERS_DIAGNOSES; i++) { /* some names come twice */
        bool known = false;
        for (size_t j = 0; j < table->diagnosis_count && !known; j++) {
            known = strcmp(table->diagnoses[j], table->diagnosis[i]) == 0;
        }
        if (!known) {
            table->diagnoses[table->diagnosis_count++] = table->diagnosis[i];
        }
    }
}

void encounters_init(struct encounters *table, uint64_t rows, uint32_t patients, uint64_t seed)
{
    table->rows = rows;
    table->made = 0;
    table->patients = patients;
    for (int i = 0; i < 4; i++) {
        table->state[i] = split_mix(&seed);
    }
    double total = 0;
    for (int i = 0; i < ENCOUNTERS_DIAGNOSES; i++) {
        total += 1.0 / (i + 1);
        table->cumulated[i] = total;
    }
    for (int i = 0; i < ENCOUNTERS_DIAGNOSES; i++) {
        table->cumulated[i] /= total;
    }
    name_diagnoses(table);
    for (int i = 0; i < ENCOUNTERS_SITES; i++) {
        snprintf(table->site[i], sizeof table->site[i], "site%02d", i);
        table->sites[i] = table->site[i];
    }
}

static int draw_diagnosis(struct encounters *table)
{
    double at = uniform(table);
    int low = 0;
    int high = ENCOUNTERS_DIAGNOSES - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (table->cumulated[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool encounters_next(struct encounters *table, struct encounter *ret)
{
    if (table->made == table->rows) {
        return false;
    }
    /* The order of draws is part of the table. */
    ret->patient = 1 + (uint32_t)(draw(table) % table->patients);
    double age = uniform(table) < 0.12 ? (double)(draw(table) % 18) : 52 + 21 * normal(table);
    ret->age = (int)fmin(fmax(age, 0), 100);
    ret->sex = uniform(table) < 0.53 ? 'F' : 'M';
    double skew = uniform(table);
    ret->site = (int)(ENCOUNTERS_SITES * skew * sqrt(skew));
    ret->diagnosis = table->diagnosis[draw_diagnosis(table)];
    ret->admitted = FIRST_DAY + (int64_t)(DAYS * (double)table->made / (double)table->rows) +
                    (int64_t)(draw(table) % 61) - 30;
    ret->admitted = ret->admitted < FIRST_DAY ? FIRST_DAY : ret->admitted;
    ret->los_days = (int)fmin(-log(1 - uniform(table)) * 4.6, 120);
    ret->cost = exp(6.9 + 0.55 * normal(table)) * (1 + 0.35 * ret->los_days);
    table->made++;
    return true;
}

void encounters_head(FILE *to)
{
    fputs("patient_id,age,sex,site,diagnosis,admit_date,los_days,cost\n", to);
}

/* Day number to calendar date, proleptic Gregorian, years counted from March (Hinnant). */
static void put_date(int64_t day, FILE *to)
{
    uint64_t z = (uint64_t)(day + 719468);
    uint64_t era = z / 146097;
    uint64_t doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t march = (5 * doy + 2) / 153;
    uint64_t month = march < 10 ? march + 3 : march - 9;
    fprintf(to, "%04u-%02u-%02u", (unsigned)(yoe + era * 400 + (month <= 2)), (unsigned)month,
            (unsigned)(doy - (153 * march + 2) / 5 + 1));
}

void encounters_line(const struct encounter *row, FILE *to)
{
    fprintf(to, "%u,%d,%c,site%02d,%s,", row->patient, row->age, row->sex, row->site,
            row->diagnosis);
    put_date(row->admitted, to);
    fprintf(to, ",%d,%.2f\n", row->los_days, row->cost);
}

/* The same with each field behind the patient missing in PERCENT of the rows, by bits that are not the table's own. */
static void line_with_gaps(const struct encounter *row, unsigned percent, uint64_t *state, FILE *to)
{
    char *line = NULL;
    size_t len = 0;
    FILE *text = open_memstream(&line, &len);
    if (!text) {
        return;
    }
    encounters_line(row, text);
    fclose(text);
    for (char *at = line, *end; *at; at = end) {
        end = at + strcspn(at, ",\n");
        *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        if (at == line || (*state >> 33) % 100 >= percent) {
            fwrite(at, 1, (size_t)(end - at), to);
        }
        fputc(*end, to);
        end++;
    }
    free(line);
}

bool encounters_write(const char *path, uint64_t rows, uint32_t patients, uint64_t seed,
                      unsigned missing_percent)
{
    uint64_t gaps = seed;
    static struct encounters table;
    FILE *file = fopen(path, "w");
    if (!file) {
        return false;
    }
    encounters_init(&table, rows, patients, seed);
    encounters_head(file);
    for (struct encounter row; encounters_next(&table, &row);) {
        if (missing_percent) {
            line_with_gaps(&row, missing_percent, &gaps, file);
        } else {
            encounters_line(&row, file);
        }
    }
    bool good = !ferror(file);
    return fclose(file) == 0 && good;
}
