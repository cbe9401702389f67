/* What a home that was put back from an older copy lost (store_ledger_accept). Nobody knows on which dataset it was spent, so
 * each pays all of it, also one whose account opens later. Nothing above store/ includes this. */
#ifndef CONCORDAT_STORE_LEDGER_LOST_H
#define CONCORDAT_STORE_LEDGER_LOST_H

#include "store/ledger_book.h"

/* Charges a freshly opened account of DATASET, and its domain when nothing was charged to that before. */
MUST_CHECK enum err store_lost_charge_new(struct store_book *book, struct span dataset,
                                          bool unspent_domain, int64_t now);

#endif
