/* May this requester do this with this dataset of ours, now? Gathers what the decision needs (the requester's MEMBER
 * record, our licence record, the published schema) and asks proto/policy. The ledger is not touched here.
 *
 *     struct query_admission admission = {0};
 *     err = query_admission_load(context, "flchain", &admission, reterr);          our record, licence, schema
 *     query_admission_decide(context, &admission, member, &message.purpose, &use, sites, count, now);
 *     ...
 *     query_admission_fini(&admission);
 *
 * Threads: an admission belongs to one thread. */
#ifndef CONCORDAT_NODE_QUERY_ADMISSION_H
#define CONCORDAT_NODE_QUERY_ADMISSION_H

#include "node/query/context.h"
#include "node/query/message.h"
#include "proto/policy.h"
#include "proto/schema.h"
#include "store/catalogue.h"
#include "store/ledger.h"

struct query_admission {
    struct arena arena;
    char dataset[65];
    bool model; /* it is none, but a model of ours */
    struct store_dataset row;
    struct proto_schema schema; /* published, from our own DATASET record */
    uint8_t schema_hash[32];
    bool has_record;
    bool forked;
    struct proto_record record;
    bool has_licence; /* false: there is none, or its body is not understood */
    struct proto_licence licence;
    int64_t
        agreement_start;   /* counts as the start of an agreement where none is in force; 0: none */
    bool agreed;           /* an agreement covers it, */
    uint8_t agreement[16]; /* this one */
    struct proto_decision decision;
};

/* Errors: E_NOT_FOUND we hold no such dataset; E_CORRUPT, E_AUTH; E_NO_MEMORY. */
MUST_CHECK enum err query_admission_load(struct query_context *context, const char *dataset,
                                         struct query_admission *ret, struct err_info *reterr);
/* Of a model that this node published: its licence alone, there are no rows and no schema. Errors: E_NOT_FOUND; as above. */
MUST_CHECK enum err query_admission_load_model(struct query_context *context, const char *model,
                                               struct query_admission *ret,
                                               struct err_info *reterr);
/* Total: fills admission->decision whatever was asked. SITES are the node ids of everybody who is asked. */
void query_admission_decide(struct query_context *context, struct query_admission *admission,
                            const struct peer_member *requester,
                            const struct proto_purpose *purpose, const struct proto_use *use,
                            const struct query_node_ref *sites, size_t site_count, int64_t now);
/* A use of a site's dataset or model, as far as this node knows the site's records. */
struct query_foreseen {
    const struct peer_member *requester; /* NULL: this node */
    const struct peer_member *site;
    const char *dataset;
    const struct proto_record *record; /* NULL: none */
    const struct proto_licence *licence;
    bool forked;
    bool
        model; /* whose licence leaves to people of several sites what no agreement with one of them can say */
    int64_t agreement_start; /* counts where no agreement with SITE is held; 0: none */
    const struct proto_purpose *purpose;
    const struct proto_use *use;
    const struct proto_party *sites;
    size_t site_count;
    int64_t now;
};
/* The verdict that the site will come to, but for what it alone knows: budget, clock, approvals. Total. */
void query_admission_foresee(struct query_context *context, const struct query_foreseen *what,
                             struct arena *arena, struct proto_decision *ret);
/* A party of a request as the council attests it; borrows from MEMBER. */
struct proto_party query_party(const struct peer_member *member);
/* The decision's clauses that did not pass, as peers and people read them: what stands in the way, or was no alternative. Each
 * clause is what `licence check` tells. Errors: E_NO_MEMORY. */
MUST_CHECK enum err query_admission_clauses(const struct query_admission *admission,
                                            struct arena *arena, struct proto_list *ret);
/* The caps below the dataset's, by the node's shares. In a federation of one institution it has no cap. */
struct store_caps query_admission_caps(struct query_context *context,
                                       const struct store_account *account);
/* What the audit chain keeps of the decision, as hexadecimal: SHA-256 over the hierarchy's digest, the licence record's
 * id and the decision's bytes. Who has record, request and hierarchy can make it again. "" when there is no memory. */
void query_admission_digest(const struct query_context *context,
                            const struct query_admission *admission, char ret[65]);
void query_admission_fini(struct query_admission *admission);

/* JSON text for the audit chain: a flat object of strings, escaped. Pairs of (key, value) end with NULL. */
MUST_CHECK enum err query_audit_text(struct buf *out, ...);

#endif
