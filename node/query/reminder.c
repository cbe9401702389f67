#include "config.h"
#include "node/query/reminder.h"

#include "crypto/provider.h"
#include "node/query/agreement.h"
#include "node/query/visa.h"
#include "proto/project.h"
#include "proto/time.h"
#include "store/agreement.h"
#include "store/catalogue.h"
#include "store/records.h"

#include <stdio.h>

#define PAST_S ((int64_t)86400)

struct finding {
    struct query_context *context;
    int64_t now;
    query_reminder_fn *each;
    void *user;
};

static enum err tell(const struct finding *f, struct query_reminder *reminder, const char *what,
                     int64_t due, const char *text)
{
    reminder->what = what;
    reminder->due = due;
    reminder->text = text;
    return f->each(f->user, reminder);
}

/* Something ends: told in time. */
static enum err tell_end(const struct finding *f, struct query_reminder *reminder, const char *what,
                         int64_t due, const char *text)
{
    bool soon = due > 0 && f->now >= due - QUERY_REMINDER_S && f->now < due + PAST_S;
    return soon ? tell(f, reminder, what, due, text) : E_OK;
}

/* --- agreements ------------------------------------------------------------------------------------------ */

/* A duty's date: as it stands, or months from the agreement's start; else the agreement's end. */
static int64_t due_of(const struct proto_agreement_parts *parts,
                      const struct proto_agreement_duty *duty)
{
    char text[32];
    int64_t due = 0;
    int32_t months;
    if (!duty->text.ptr || !span_to_cstr(duty->text, text, sizeof text) || !text[0]) {
        return parts->offer.ends;
    }
    if (proto_time_parse(text, &due)) {
        return due;
    }
    return proto_time_parse_months(text, &months)
               ? proto_time_add_months(parts->agreement.time, months)
               : parts->offer.ends;
}

static enum err tell_duties(const struct finding *f, const struct proto_agreement_parts *parts,
                            struct query_reminder *reminder)
{
    static const struct {
        const char *id;
        const char *text;
        bool end; /* told only when it comes near */
    } table[] = {
        {"return-results", "results are to be returned to the data holder", false},
        {"publish", "results are to be published", false},
        {"embargo-until", "nothing may be published before", false},
        {"delete-by", "what was obtained is to be deleted", true},
    };
    const struct proto_agreement_duty *duties = parts->offer.duties.items;
    enum err err = E_OK;
    for (size_t i = 0; !err && i < parts->offer.duties.count; i++) {
        for (size_t t = 0; !err && t < sizeof table / sizeof *table; t++) {
            if (!span_is(duties[i].id, table[t].id)) {
                continue;
            }
            int64_t due = due_of(parts, &duties[i]);
            err = table[t].end            ? tell_end(f, reminder, table[t].id, due, table[t].text)
                  : due > f->now - PAST_S ? tell(f, reminder, table[t].id, due, table[t].text)
                                          : E_OK;
        }
    }
    return err;
}

static enum err of_agreement(void *user, const struct store_agreement *row)
{
    const struct finding *f = user;
    struct arena arena = {0};
    struct proto_agreement_parts parts;
    struct peer_member peer = {0};
    struct query_reminder reminder = {0};
    enum err err = E_OK;
    if (row->state == PROTO_AGREEMENT_FINALIZED &&
        proto_agreement_open(row->document, &crypto_proto_hash, &arena, &parts, NULL) == E_OK) {
        const char *lapsed = query_agreement_lapsed(f->context, &parts, f->now);
        (void)peer_member_by_id(f->context->peer, row->peer, &peer);
        span_to_hex(span_of(row->id, 16), reminder.id);
        (void)span_to_cstr(row->dataset, reminder.name, sizeof reminder.name);
        snprintf(reminder.node, sizeof reminder.node, "%s", peer.name);
        bool ours = row->side == PROTO_AGREEMENT_CONSUMER;
        err = ours && !lapsed ? tell_duties(f, &parts, &reminder) : E_OK;
        if (!err && !lapsed) {
            err = tell_end(f, &reminder, "agreement-ends", parts.offer.ends,
                           "the agreement ends with its licence");
        }
    }
    arena_fini(&arena);
    return err;
}

/* --- our own records --------------------------------------------------------------------------------------- */

static enum err of_dataset(void *user, const struct store_dataset *row)
{
    const struct finding *f = user;
    struct arena arena = {0};
    struct span bytes;
    struct proto_record record;
    struct query_reminder reminder = {0};
    uint8_t key[16];
    enum err err = E_OK;
    proto_record_key(&crypto_proto_hash, row->name, key);
    if (store_records_get(f->context->store, f->context->node_id, key, PROTO_RECORD_LICENCE, &arena,
                          &bytes, NULL) == E_OK &&
        proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        !(record.envelope.flags & PROTO_RECORD_FINAL)) {
        span_to_hex(span_of(record.id, 16), reminder.id);
        snprintf(reminder.name, sizeof reminder.name, "%s", row->name);
        snprintf(reminder.node, sizeof reminder.node, "%.32s", f->context->name);
        err = tell_end(f, &reminder, "licence-expires", (int64_t)record.envelope.expires,
                       "the dataset's licence expires; `concordat dataset update` renews it");
    }
    arena_fini(&arena);
    return err;
}

static enum err of_project(void *user, struct span bytes, bool forked)
{
    const struct finding *f = user;
    struct arena arena = {0};
    struct proto_record record;
    struct proto_project project;
    struct query_reminder reminder = {0};
    enum err err = E_OK;
    (void)forked;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        memcmp(record.envelope.issuer.ptr, f->context->node_id, 16) == 0 &&
        !(record.envelope.flags & PROTO_RECORD_FINAL) &&
        proto_project_decode(record.envelope.body, &arena, &project, NULL) == E_OK) {
        span_to_hex(span_of(record.id, 16), reminder.id);
        (void)span_to_cstr(project.name, reminder.name, sizeof reminder.name);
        snprintf(reminder.node, sizeof reminder.node, "%.32s", f->context->name);
        err = tell_end(f, &reminder, "project-ends", (int64_t)project.ends, "the project ends");
        err = err ? err
                  : tell_end(f, &reminder, "ethics-expires", (int64_t)project.ethics_expires,
                             "the project's ethics approval expires");
    }
    arena_fini(&arena);
    return err;
}

/* Visas about people and projects of this node, and those that it issued. */
static enum err of_visa(void *user, struct span bytes, bool forked)
{
    const struct finding *f = user;
    struct arena arena = {0};
    struct proto_record record;
    struct proto_visa visa;
    struct peer_member peer = {0};
    struct query_reminder reminder = {0};
    enum err err = E_OK;
    if (proto_record_decode(bytes, &crypto_proto_hash, &record, NULL) == E_OK &&
        proto_visa_decode(record.envelope.body, &arena, &visa, NULL) == E_OK &&
        strcmp(query_visa_state(f->context, &record, forked, f->now), "revoked") != 0) {
        bool held = memcmp(visa.node.ptr, f->context->node_id, 16) == 0;
        bool issued = memcmp(record.envelope.issuer.ptr, f->context->node_id, 16) == 0;
        (void)peer_member_by_id(f->context->peer, held ? record.envelope.issuer.ptr : visa.node.ptr,
                                &peer);
        span_to_hex(visa.id, reminder.id);
        snprintf(reminder.name, sizeof reminder.name, "%.*s", (int)visa.type.len,
                 (const char *)visa.type.ptr);
        snprintf(reminder.node, sizeof reminder.node, "%s", peer.name);
        err = held || issued
                  ? tell_end(f, &reminder, "visa-expires", (int64_t)record.envelope.expires,
                             held ? "a visa expires; ask its issuer for another"
                                  : "a visa that this node issued expires")
                  : E_OK;
    }
    arena_fini(&arena);
    return err;
}

static enum err of_membership(const struct finding *f)
{
    struct peer_member self;
    struct query_reminder reminder = {0};
    if (!peer_member_by_id(f->context->peer, f->context->node_id, &self)) {
        return E_OK;
    }
    snprintf(reminder.name, sizeof reminder.name, "%s", self.org);
    snprintf(reminder.node, sizeof reminder.node, "%s", self.name);
    return tell_end(f, &reminder, "membership-ends", self.expires,
                    "this node's membership ends; ask the council to renew it");
}

enum err query_reminders(struct query_context *context, int64_t now, query_reminder_fn *each,
                         void *user, struct err_info *reterr)
{
    struct finding finding = {context, now, each, user};
    enum err err = store_agreement_each(context->store, of_agreement, &finding, reterr);
    err = err ? err : store_catalogue_each(context->store, of_dataset, &finding, reterr);
    err =
        err ? err : store_records_each(context->store, PROTO_RECORD_PROJECT, of_project, &finding);
    err = err ? err : store_records_each(context->store, PROTO_RECORD_VISA, of_visa, &finding);
    return err ? err : of_membership(&finding);
}
