/* How well stored rows hide a person: k-anonymity (Samarati and Sweeney 1998), l-diversity (Machanavajjhala and others 2007) and
 * t-closeness (Li, Li and Venkatasubramanian 2007) over columns that somebody declared, for the operator of the node alone.
 * All figures are exact and so stay on the node.
 *
 *     int quasi[] = {1, 2};
 *     struct store_risk risk;
 *     err = store_risk_measure(partition, quasi, 2, 5, cancelled, user, &risk, reterr);
 *     struct store_diversity diversity;
 *     err = store_risk_diversity(partition, quasi, 2, sensitive, 2, 0.2, cancelled, user, &diversity, reterr);
 *
 * A class is the rows that agree in every quasi-identifier; a missing value is a value, not a wildcard. Its size is its
 * number of privacy units, so that one patient with many rows does not hide himself. l counts rows.
 * Classes are told apart by 64-bit hashes: among a million classes two meet with a chance of 3e-8, which would make
 * them look larger.
 * Threads: any. Limits: STORE_RISK_ROWS rows, 16 bytes of memory each, with sensitive columns up to 40; STORE_RISK_COLUMNS columns. */
#ifndef CONCORDAT_STORE_RISK_H
#define CONCORDAT_STORE_RISK_H

#include "store/partition.h"

#define STORE_RISK_ROWS    ((uint64_t)1 << 23)
#define STORE_RISK_COLUMNS 32

struct store_risk {
    uint64_t rows;
    uint64_t classes;
    uint64_t smallest; /* units of the smallest class: the k that holds */
    uint64_t unique;   /* classes of one unit */
    /* What must go so that K holds. */
    uint64_t below_classes;
    uint64_t below_rows;
};

struct store_diversity {
    uint64_t distinct; /* values in the class that has fewest: the distinct l that holds */
    double entropy;    /* exp(H) of the class where it is least */
    double
        recursive; /* least c for which every class is recursively (c, L)-diverse: r1 < c (rL + ... + rm);
                        * infinite when a class has fewer than L values */
    uint64_t below_classes; /* with fewer than L values */
    uint64_t below_rows;
    /* Earth mover's distance of the class that differs most from all rows: the t that holds. Between numbers and dates the
     * ordered distance, between categories the equal one; a missing value is one, in front of the least. */
    double closeness;
    uint64_t far_classes; /* whose distance is above T */
    uint64_t far_rows;
};

/* Errors: E_INVALID no column, or a text one; E_LIMIT too many rows or columns; E_CANCELLED; those of store_scan. */
MUST_CHECK enum err store_risk_measure(struct store_partition *partition, const int *quasi,
                                       size_t count, uint64_t k, bool (*cancelled)(void *),
                                       void *user, struct store_risk *ret, struct err_info *reterr);
MUST_CHECK enum err store_risk_diversity(struct store_partition *partition, const int *quasi,
                                         size_t count, int sensitive, uint64_t l, double t,
                                         bool (*cancelled)(void *), void *user,
                                         struct store_diversity *ret, struct err_info *reterr);

#endif
