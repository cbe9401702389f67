/* Which of our own datasets' files questions and rounds found damaged since the start. A value is checked when it is read, so a
 * file that opens may still be damaged; whoever looks at the dataset afterwards is told without a second reading of it.
 *
 *     query_damage_note(context->damage, row.partition_uuid);          a question met damaged data
 *     if (query_damage_met(context->damage, row.partition_uuid)) ...
 *
 * It stays so until a check of all finds nothing (fsck), another import takes the file's place, or a restart: a question reads a few columns,
 * so that one which goes well says nothing of the others.
 * Threads: any. Limits: QUERY_DAMAGE_MAX files, the newest ones. */
#ifndef CONCORDAT_NODE_QUERY_DAMAGE_H
#define CONCORDAT_NODE_QUERY_DAMAGE_H

#include "proto/span.h"

#define QUERY_DAMAGE_MAX 64

struct query_damage;

struct query_damage *query_damage_new(void); /* NULL: no memory */
void query_damage_free(struct query_damage *damage);

/* DAMAGE NULL: nothing is kept and nothing known. */
void query_damage_note(struct query_damage *damage, const uint8_t uuid[16]);
void query_damage_forget_all(struct query_damage *damage);
bool query_damage_met(struct query_damage *damage, const uint8_t uuid[16]);

#endif
