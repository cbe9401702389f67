/* From a bound query to the integer vector that is released for each cell.
 *
 * Both sides derive it from the query and the published schema alone, so it is public: the site fills and noises it,
 * the asking node reads it (node/query/estimate, node/query/table). The vector is made of parts; a part is one number,
 * or a vector of counters of which a row touches one. Part 0 counts privacy units (the minimum cohort is tested on it).
 * Where a unit has at most one row in a cell it is the row count as well. A sum is centred on the middle of the
 * column's bounds when a mean is asked (half the sensitivity), plain when only SUM is asked. A product adds (x -
 * centre) (y - centre) of two columns, or of one with itself; the middle of a square's range h^2 (h: half the width) is
 * taken off each, which halves its sensitivity too. A histogram counts rows in classes. A quantile counts them in fine
 * classes (leaves) and, level by level, in groups of neighbouring classes, so that a rank is the sum of few numbers
 * (node/query/tree). SURVIVAL does the same with classes of time, once for rows with the event and once for those
 * without.
 *
 * How the charge is split over the parts: node/query/share. Threads: pure. */
#ifndef CONCORDAT_NODE_QUERY_COORDINATES_H
#define CONCORDAT_NODE_QUERY_COORDINATES_H

#include "node/privacy/mechanism.h"
#include "node/query/message.h"
#include "proto/query.h"

#define QUERY_LEAVES_MAX 8192 /* classes below a quantile */
#define QUERY_NO_PART    UINT8_MAX

enum query_part {
    QUERY_PART_UNITS,  /* units in the cell */
    QUERY_PART_ROWS,   /* rows of the cell after contribution bounding */
    QUERY_PART_VALUES, /* rows in which every needed column has a value */
    QUERY_PART_SUM,    /* sum over those of (value - centre) */
    QUERY_PART_PRODUCT, /* sum over those of (value - centre) (factor's value - its centre) - shift */
    QUERY_PART_BINS, /* those rows in classes of the value; with a factor: first where it is true, then where false */
    QUERY_PART_LEVEL, /* sums of `span` neighbouring classes of part `leaf` */
};

struct query_term {
    enum query_part part;
    int column; /* -1 of units, rows and counts of several columns */
    int factor; /* of a product; may be the column itself; the event of BINS; else -1 */
    int needs[PROTO_QUERY_ARGUMENTS_MAX]; /* columns that must have a value, ascending */
    size_t need_count;
    double centre;
    /* Bounds, as declared or as the condition leaves them; values are clamped to them. */
    double low;
    double high;
    double factor_centre;
    double factor_low;
    double factor_high;
    double shift;
    size_t bins;  /* of BINS: classes, of equal width from low to top; the last one includes top */
    double top;   /* of BINS: high, or high + 1 where each class is one integer */
    size_t width; /* numbers in a cell: bins, twice as many with a factor; 1 of single numbers */
    size_t leaf;  /* of LEVEL */
    size_t span;
};

/* Which parts a select item reads; QUERY_NO_PART where it has none. */
struct query_reads {
    uint8_t values;
    uint8_t sums[PROTO_QUERY_ARGUMENTS_MAX];                                /* by argument */
    uint8_t products[PROTO_QUERY_ARGUMENTS_MAX][PROTO_QUERY_ARGUMENTS_MAX]; /* i <= j */
    uint8_t levels; /* first of `height` consecutive parts, from the coarsest to the leaves */
    uint8_t height;
};

/* What the person who asks may tighten; 0: as the dataset declares. */
struct query_limits {
    uint32_t rows;   /* of one unit in one group */
    uint32_t groups; /* that one unit may be in */
};

struct query_layout {
    struct query_term parts[QUERY_COORDINATES_MAX];
    struct privacy_coordinate coordinates[QUERY_COORDINATES_MAX];
    size_t offsets[QUERY_COORDINATES_MAX]; /* of the part's first number in a cell */
    size_t count;
    bool thresholds;  /* cells of private keys are kept by a threshold: delta0 */
    size_t slots;     /* numbers in a cell */
    size_t rows_part; /* what COUNT(*) reads */
    struct query_reads reads[PROTO_QUERY_ITEMS_MAX];
    struct privacy_bounds bounds;
    uint32_t
        nodes; /* that may know the same person: what all of them answer costs this person one charge */
};

/* Everything but grids and noise.
 * Errors: E_LIMIT too many numbers for one answer. */
MUST_CHECK enum err query_layout_plan(const struct proto_query *query,
                                      const struct query_limits *limits, struct query_layout *ret,
                                      struct err_info *reterr);

/* Grids and noise for a charge of NANO: each of `nodes` sites gets as much noise as their share of it asks for.
 * Errors: those of privacy_mechanism_plan_bounded. */
MUST_CHECK enum err query_layout_noise(struct query_layout *layout, uint64_t nano,
                                       struct err_info *reterr);

/* The class of VALUE, which lies within the bounds: the one whose edges it lies between as they are printed. */
size_t query_term_class(const struct query_term *term, double value);
/* Lower edge of class I; of class `bins` the upper edge of the last. */
double query_term_edge(const struct query_term *term, size_t i);

#endif
