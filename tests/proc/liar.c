/* For tests only: linked into a daemon in place of query_answer_put and query_message_seal (ld --wrap), it changes the answers to questions that leave this
 * site, in the way that the file named by CONCORDAT_LIE says at that moment:
 *
 *     cell       one cell more than the question has        short      a number less
 *     noise      another sigma than was planned             below      a count far below zero
 *     huge       the largest integer as a count             fraction   a fraction where a whole number belongs
 *     flood      900 KB of numbers                          replay     the bytes of the first answer of this process
 *     rubbish    bytes that are no message
 *
 * and, where that says "updates:LETTERS", its updates of training rounds, the n-th letter in its n-th update:
 *
 *     r  of another round    p  of another plan     b  of other weights
 *     s  of another length   n  with a NaN          a  of the round before
 *     w  named by the weights that it began with    -  the truth
 *
 * and, in the records of models that it publishes:
 *
 *     lineage:HASH:SIZE  names the blob HASH as its lineage statement
 *     hoard:HASH:SIZE    names it as its weights, and as trained, but by nobody and under no licence
 *
 * Everything else about the site is real; it signs its updates. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/query/message.h"
#include "proto/body.h"
#include "node/train/message.h"
#include "node/train/vector.h"

#define FIELDS_MAX 64
#define NUMBERS    900000
#define LIE_MAX    128

enum err __real_query_message_seal(const struct proto_message *message, const void *object,
                                   const char *domain, const struct crypto_identity *identity,
                                   const uint8_t federation_id[16], struct buf *out,
                                   struct err_info *reterr);
enum err __wrap_query_message_seal(const struct proto_message *message, const void *object,
                                   const char *domain, const struct crypto_identity *identity,
                                   const uint8_t federation_id[16], struct buf *out,
                                   struct err_info *reterr);

enum err __wrap_query_answer_put(const struct query_answer *told, struct buf *out,
                                 struct err_info *reterr);

/* "" : the truth. */
static void read_lie(char to[LIE_MAX])
{
    const char *path = getenv("CONCORDAT_LIE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t got = fd < 0 ? 0 : read(fd, to, LIE_MAX - 1);
    to[got > 0 ? got : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
}

/* Of this update; '-' elsewhere. */
static char letter(unsigned number)
{
    char lie[LIE_MAX];
    read_lie(lie);
    size_t at = strlen("updates:") + number - 1;
    return number && strncmp(lie, "updates:", 8) == 0 && at < strlen(lie) ? lie[at] : '-';
}

static unsigned updates; /* begun by this process; one job is at work at a time */

enum err __real_train_vector_put(struct store *store, const float *from, size_t count,
                                 const uint8_t tag[TRAIN_VECTOR_TAG], enum store_blob_keep keep,
                                 uint8_t ret_hash[32], struct err_info *reterr);
enum err __wrap_train_vector_put(struct store *store, const float *from, size_t count,
                                 const uint8_t tag[TRAIN_VECTOR_TAG], enum store_blob_keep keep,
                                 uint8_t ret_hash[32], struct err_info *reterr);
enum err __wrap_train_vector_put(struct store *store, const float *from, size_t count,
                                 const uint8_t tag[TRAIN_VECTOR_TAG], enum store_blob_keep keep,
                                 uint8_t ret_hash[32], struct err_info *reterr)
{
    float *bent = calloc(count, sizeof *bent);
    if (!bent) {
        abort();
    }
    memcpy(bent, from, count * sizeof *bent);
    if (letter(++updates) == 'n') {
        memset(&bent[count - 1], 0xff, sizeof *bent);
    }
    enum err err = __real_train_vector_put(store, bent, count, tag, keep, ret_hash, reterr);
    free(bent);
    return err;
}

bool __real_store_blob_has(struct store *store, const uint8_t hash[32]);
bool __wrap_store_blob_has(struct store *store, const uint8_t hash[32]);
/* Whoever names a vector that is not its own does not look for it first. */
bool __wrap_store_blob_has(struct store *store, const uint8_t hash[32])
{
    return letter(updates) == 'w' || __real_store_blob_has(store, hash);
}

static enum err seal_update(const struct train_update *object, const char *domain,
                            const struct crypto_identity *identity, const uint8_t federation_id[16],
                            struct buf *out, struct err_info *reterr)
{
    static const uint8_t other[32] = {1, 2, 3};
    struct train_update update = *object;
    char lie = update.answer == TRAIN_UPDATED ? letter(updates) : '-';
    update.round += lie == 'r';
    update.round -= lie == 'a' ? 1 : 0;
    update.plan_hash = lie == 'p' ? span_of(other, 32) : update.plan_hash;
    update.base = lie == 'b' ? span_of(other, 32) : update.base;
    update.update.size -= lie == 's' ? 4 : 0;
    update.update.hash = lie == 'w' ? update.base : update.update.hash;
    return __real_query_message_seal(&train_update_message, &update, domain, identity,
                                     federation_id, out, reterr);
}

enum err __real_proto_model_encode(const struct proto_model *model, struct buf *out,
                                   struct err_info *reterr);
enum err __wrap_proto_model_encode(const struct proto_model *model, struct buf *out,
                                   struct err_info *reterr);
enum err __wrap_proto_model_encode(const struct proto_model *model, struct buf *out,
                                   struct err_info *reterr)
{
    char lie[LIE_MAX];
    char hex[65];
    uint8_t hash[32];
    unsigned long long size = 0;
    struct proto_model forged = *model;
    read_lie(lie);
    if (sscanf(lie, "lineage:%64[0-9a-f]:%llu", hex, &size) == 2 && span_from_hex(hex, hash, 32)) {
        forged.lineage = span_of(hash, 32);
        forged.lineage_size = size;
    } else if (sscanf(lie, "hoard:%64[0-9a-f]:%llu", hex, &size) == 2 &&
               span_from_hex(hex, hash, 32)) {
        forged.weights = span_of(hash, 32);
        forged.size = size;
        forged.task = span_str("tabular-classification");
    }
    return __real_proto_model_encode(&forged, out, reterr);
}

/* The field NAME of the answer, in a table that may be changed. */
static struct proto_field *field(struct proto_field *fields, const char *name)
{
    size_t i = 0;
    while (strcmp(fields[i].name, name) != 0) {
        i++;
    }
    return &fields[i];
}

/* Changes ANSWER, or how it is written. NUMBERS bytes at ROOM are for its numbers. */
static void lie_about(const char *lie, struct query_answer *answer, struct proto_field *fields,
                      struct query_coordinate *coordinate, uint8_t *room)
{
    if (strcmp(lie, "cell") == 0) {
        answer->cells++;
    } else if (strcmp(lie, "short") == 0) {
        answer->values.len -= 8;
    } else if (strcmp(lie, "noise") == 0) {
        memcpy(coordinate, answer->coordinates.items,
               answer->coordinates.count * sizeof *coordinate);
        coordinate[1].sigma2_num *= 4;
        answer->coordinates.items = coordinate;
    } else if (strcmp(lie, "below") == 0 || strcmp(lie, "huge") == 0) {
        memcpy(room, answer->values.ptr, answer->values.len);
        put_be64(room, lie[0] == 'h' ? INT64_MAX : (uint64_t)-1000000000);
        answer->values.ptr = room;
    } else if (strcmp(lie, "fraction") == 0) {
        double fraction = 1.5;
        memcpy(&answer->cost_nano, &fraction, sizeof fraction);
        field(fields, "cells")->type = PROTO_F64;
        field(fields, "cells")->offset = offsetof(struct query_answer, cost_nano);
    } else if (strcmp(lie, "flood") == 0) {
        answer->values = span_of(room, NUMBERS);
        field(fields, "values")->max = NUMBERS;
    }
}

/* What was encoded, bent. FIRST: the bytes of the first answer. */
static enum err bend(const char *lie, struct buf *out)
{
    static struct buf first = {.max = PROTO_CODEC_MAX};
    enum err err = E_OK;
    if (strcmp(lie, "replay") == 0) {
        out->len = 0;
        err = buf_put(out, buf_span(&first));
    } else if (strcmp(lie, "rubbish") == 0) {
        memset(out->ptr, 0xc1, out->len);
    } else if (first.len == 0) {
        err = buf_put(&first, buf_span(out));
    }
    return err;
}

enum err __wrap_query_message_seal(const struct proto_message *message, const void *object,
                                   const char *domain, const struct crypto_identity *identity,
                                   const uint8_t federation_id[16], struct buf *out,
                                   struct err_info *reterr)
{
    return message == &train_update_message
               ? seal_update(object, domain, identity, federation_id, out, reterr)
               : __real_query_message_seal(message, object, domain, identity, federation_id, out,
                                           reterr);
}

enum err __wrap_query_answer_put(const struct query_answer *told, struct buf *out,
                                 struct err_info *reterr)
{
    char lie[LIE_MAX];
    struct query_answer answer = *told;
    struct proto_field fields[FIELDS_MAX];
    struct query_coordinate coordinates[QUERY_COORDINATES_MAX];
    struct proto_message table = query_answer_message;
    uint8_t *room = calloc(NUMBERS, 1);
    if (!room || table.count > FIELDS_MAX) {
        abort();
    }
    read_lie(lie);
    memcpy(fields, table.fields, table.count * sizeof *fields);
    table.fields = fields;
    if (answer.status == QUERY_ANSWERED) {
        lie_about(lie, &answer, fields, coordinates, room);
    }
    enum err err = proto_codec_encode(&table, &answer, out, reterr);
    free(room);
    return err ? err : bend(lie, out);
}
