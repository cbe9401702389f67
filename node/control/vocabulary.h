/* A licence and its dataset in the words of others: ODRL 2.2, Croissant 1.1 with its RAI fields, DCAT 3. Views only:
 * they are made from the signed record, and nothing reads them back or decides by them.
 *
 *     json_t *document = control_vocabulary(VOCABULARY_ODRL, &source);
 *
 * ODRL: each grant is a permission, its purpose and limits are constraints, its promises duties; what a modifier excludes
 * is a prohibition, and `conflict: prohibit` says that a prohibition wins, as it does here. Purposes and parties are named
 * by DUO and by DUODRL (https://w3id.org/duodrl, CC BY 4.0), places by ISO 3166, diseases by their OBO address. What ODRL
 * has no word for (privacy, kinds of question, cohorts) has one of ours, under urn:concordat:.
 * Croissant: no distribution, since rows never leave; the record set names the published columns.
 * Threads: pure. */
#ifndef CONCORDAT_NODE_CONTROL_VOCABULARY_H
#define CONCORDAT_NODE_CONTROL_VOCABULARY_H

#include "node/peer/peer.h"
#include "proto/licence.h"
#include "proto/ontology.h"

#include <jansson.h>

struct control_vocabulary_source {
    const struct proto_licence *licence;
    const struct proto_record *record;
    const struct proto_dataset *dataset; /* NULL: of a model */
    const struct peer_member *member;    /* who publishes it */
    const struct proto_ontology *ontology;
};

json_t *control_vocabulary_odrl(const struct control_vocabulary_source *source);
json_t *control_vocabulary_croissant(const struct control_vocabulary_source *source);
json_t *control_vocabulary_dcat(const struct control_vocabulary_source *source);

#endif
