/* What falls due soon, and which duties are open: of agreements, licences, projects and this node's membership.
 *
 *     err = query_reminders(context, now, add, &list, reterr);
 *
 * Duties that were accepted (return of results, publication, a moratorium, deletion) are told while the agreement is in
 * force; what merely ends is told QUERY_REMINDER_S ahead, and for a day after. Threads: any. */
#ifndef CONCORDAT_NODE_QUERY_REMINDER_H
#define CONCORDAT_NODE_QUERY_REMINDER_H

#include "node/query/context.h"

#define QUERY_REMINDER_S ((int64_t)30 * 86400)

struct query_reminder {
    const char *
        what; /* "return-results", "publish", "embargo-until", "delete-by", "agreement-ends", "licence-expires",
                         "project-ends", "ethics-expires", "visa-expires", "membership-ends" */
    char id[33];   /* of the agreement or record; "" for the membership */
    char name[65]; /* dataset or project */
    char node[33]; /* the other side, or ours */
    int64_t due;
    const char *text; /* for people */
};
typedef enum err query_reminder_fn(void *user, const struct query_reminder *reminder);
/* Stops at the first error and returns it. */
MUST_CHECK enum err query_reminders(struct query_context *context, int64_t now,
                                    query_reminder_fn *each, void *user, struct err_info *reterr);

#endif
