/* Learning curves as a picture: lines over rounds, as SVG that needs no script and no font.
 *
 *     const double loss[] = {0.9, 0.6, NAN, 0.5};
 *     const struct model_curve curves[] = {{.name = "loss", .values = loss}};
 *     err = model_curves_svg("disease-ner", "round", curves, 1, 4, &buf);
 *
 * All curves share the axis of rounds 1 .. COUNT and one axis of values, from the least to the greatest of them (0 included when all are
 * within 0 and 1). NAN is a gap. MARGINS (may be NULL) are drawn as a band. Texts are escaped. Threads: free of state.
 * Limits: MODEL_CURVES_MAX curves of MODEL_CURVE_POINTS_MAX points. */
#ifndef CONCORDAT_NODE_MODEL_CURVE_H
#define CONCORDAT_NODE_MODEL_CURVE_H

#include "proto/alloc.h"

#define MODEL_CURVES_MAX       8u
#define MODEL_CURVE_POINTS_MAX 100000u

struct model_curve {
    const char *name;
    const double *values, *margins;
};
/* Appends the document. Errors: E_USAGE; E_LIMIT; E_NO_MEMORY. */
MUST_CHECK enum err model_curves_svg(const char *title, const char *axis,
                                     const struct model_curve *curves, size_t curve_count,
                                     size_t count, struct buf *to);

#endif
