/* What the files of a site's side share; nobody else includes it. A `site_work` is everything about one request of a
 * coordinator: site_work.c opens, decides and seals; site_offer.c admits and ends; site_round.c works. */
#ifndef CONCORDAT_NODE_TRAIN_SITE_INTERNAL_H
#define CONCORDAT_NODE_TRAIN_SITE_INTERNAL_H

#include "node/query/admission.h"
#include "node/train/internal.h"
#include "node/train/learner.h"
#include "proto/privacy.h"

struct site_work {
    struct train_service *service;
    struct query_context *context;
    struct peer_request *incoming; /* NULL: the work of a round, which outlives requests */
    uint64_t started_ms;
    struct arena arena;
    struct peer_member requester;
    struct span job_id;
    uint8_t plan_hash[32];
    struct train_plan plan;
    char person[129], project[129], dataset[65];
    const char **columns; /* that the job uses, for licences that name columns */
    size_t column_count;
    struct query_admission admission;
    enum proto_reason reason;
    char detail[512];
    struct train_cost cost;
    struct store_account account;
    uint64_t domain_step_nano;
    /* of an offer */
    struct train_offer offer;
    struct train_admit admit;
    bool goes_on; /* the plan of a job that was stopped here: `part` is what it left */
    /* of a round */
    struct train_round round;
    struct train_update update;
    struct train_part part;
    struct span replaced; /* a control variate that the part no longer names */
    bool stored;          /* this round was answered, and the answer is in bytes */
    uint64_t granted;     /* steps of this round */
    struct train_effort *effort;
    struct train_learner *learner;
    uint64_t checked_ms;
    bool withdrawn;
    uint8_t passing[2][32]; /* blobs that came here for this round alone */
    size_t passing_count;
    struct buf bytes; /* what leaves */
};

/* NULL when out of memory. */
struct site_work *site_work_new(struct train_service *service, struct peer_request *request);
void site_work_free(struct site_work *work);
/* Ends the request and the work; _at: not before AT_MS of query_now_ms. */
void site_reply(struct site_work *work, enum err err);
void site_reply_at(struct site_work *work, uint64_t at_ms, enum err err);
bool site_refusing(const struct query_context *context);

/* Notes why, and returns E_REFUSED. DETAIL NULL or "": the reason's own text. */
enum err site_refuse(struct site_work *work, enum proto_reason reason, const char *detail);
void site_log(const struct site_work *work, const char *event, const char *detail);

/* Who sent it is a member and signed it; spans point into the request. */
MUST_CHECK enum err site_open(struct site_work *work, const struct proto_message *message,
                              const char *domain, void *object, struct err_info *reterr);
MUST_CHECK enum err site_addressed(const struct site_work *work, struct span to, int64_t time,
                                   struct err_info *reterr);
/* The plan is decoded: its names as C strings. */
MUST_CHECK enum err site_name_plan(struct site_work *work, struct err_info *reterr);
/* Our own schema decides what the plan means. */
MUST_CHECK enum err site_understand(struct site_work *work, struct err_info *reterr);
/* The licence records that the plan relies on are those that we know. Errors: E_BUSY one has not reached us yet. */
MUST_CHECK enum err site_check_licences(struct site_work *work);
/* A model that was begun with a site's data is not gone on with once that site has withdrawn them, forked its licence or was
 * expelled: every site leaves off by itself, whatever the coordinator says. Errors: E_REFUSED. */
MUST_CHECK enum err site_check_others(struct site_work *work);
/* The licence's verdict on this plan now. ADMISSION is loaded. A verdict of HOLD is left to the next two. */
MUST_CHECK enum err site_decide(struct site_work *work, struct query_admission *admission);
/* The part of it that is about the job's base model; LOOK_INSIDE: see use.h. A HOLD is ADMISSION's. */
MUST_CHECK enum err site_decide_base(struct site_work *work, struct query_admission *admission,
                                     bool look_inside);
/* A verdict of HOLD is a permission once a person has approved the job; an approval that was taken back ends it. */
MUST_CHECK enum err site_check_approval(struct site_work *work, struct query_admission *admission);
/* The same for an offer: where nobody has decided yet, it is put before a person. */
MUST_CHECK enum err site_wait_for_person(struct site_work *work, struct err_info *reterr);
/* Whether the requester may ask for rounds of this plan. */
bool site_may_coordinate(const struct site_work *work);
/* What the machine of proto/round_site.h says about the part as it is on disk. */
MUST_CHECK enum err site_ask_machine(struct site_work *work, enum proto_round_site_event_kind kind,
                                     struct proto_round_site *site,
                                     struct proto_round_site_reply *ret);
MUST_CHECK enum err site_machine_refuses(struct site_work *work, const char *reason);
MUST_CHECK enum err site_part_store(struct site_work *work, struct err_info *reterr);
MUST_CHECK enum err site_audit(struct site_work *work, const char *kind, const char *verdict,
                               struct err_info *reterr);
MUST_CHECK enum err site_audit_body(struct site_work *work, const char *verdict, struct buf *out);
MUST_CHECK enum err site_head(struct site_work *work, struct span *ret);

/* --- site_control.c: what is kept from round to round. SCAFFOLD's c_i, which is computed from updates that left and is known to who has them; still it stays here,
 * sealed, and goes with the job. A personal head, which no update holds: it stays after the job. All do nothing in other jobs. */
/* What the coordinator counted becomes ours; what it did not is forgotten. Changes the part in memory (true), which the caller stores;
 * _settled then removes what the part no longer names. */
bool site_control_settle(struct site_work *work);
void site_control_settled(struct site_work *work);
/* c of the round, before steps are taken. Errors: as site_fetch. */
MUST_CHECK enum err site_control_fetch(struct site_work *work, struct err_info *reterr);
/* It, and c - c_i: numbers of the plan each, freed by the caller; NULL: another method. Errors: those of reading. */
MUST_CHECK enum err site_control_open(struct site_work *work, float **ret_control,
                                      float **ret_correction, struct err_info *reterr);
/* After CHANGE: what c_i becomes, as a blob that the part names. */
MUST_CHECK enum err site_control_next(struct site_work *work, const float *control,
                                      const float *change, struct err_info *reterr);
void site_control_forget(struct site_work *work);
/* The job has ended: c_i goes, the last head stays. Changes the part in memory; then _settled. */
void site_control_end(struct site_work *work);
/* The learner gets the head of the rounds before; after training, its head is what ours becomes. Errors: those of the store. */
MUST_CHECK enum err site_head_open(struct site_work *work, struct err_info *reterr);
MUST_CHECK enum err site_head_next(struct site_work *work, struct err_info *reterr);

/* site_round.c. A vector of this round from whoever asked for it; it goes when the round is computed. Errors: E_BUSY not now;
 * E_REFUSED it is not what was named. */
MUST_CHECK enum err site_fetch_passing(struct site_work *work, const struct peer_blob *blob,
                                       struct err_info *reterr);

/* Kinds of a site's reservations. */
enum site_charge {
    SITE_CHARGE_STEPS,
    SITE_CHARGE_SUMS,
    SITE_CHARGE_HISTOGRAM,
    SITE_CHARGES
};
void site_charge_id(const struct site_work *work, enum site_charge kind, uint8_t ret[16]);

/* --- site_round.c: one at work for a job at a time */
/* Ends what is under way for the job, waits for it, and keeps others out until _leave. Errors: E_BUSY the daemon stops. */
MUST_CHECK enum err site_effort_close(struct train_service *service, const uint8_t job_id[16],
                                      struct train_effort **ret);
void site_effort_leave(struct train_service *service, struct train_effort *effort);

#endif
