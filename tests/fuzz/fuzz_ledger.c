/* Rows of the ledger behind their seal, in the present format and the one before, and the frame of stored answers. The first byte
 * says which. What decodes must encode to the same bytes, or, of the older format, decode to the same again. */
#include "config.h"

#include <stdlib.h>

#include "store/answer.h"
#include "store/ledger_row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_row(enum store_table table, struct span bytes)
{
    union {
        struct store_ledger_account account;
        struct store_ledger_charge charge;
    } row, again;
    const struct proto_message *message = table == STORE_TABLE_ACCOUNTS
                                              ? &store_ledger_account_message
                                              : &store_ledger_charge_message;
    struct arena arena = {.max = (size_t)1 << 24};
    struct buf out = {.max = (size_t)1 << 20};
    enum err err = store_ledger_row_decode(table, bytes, &arena, &row, NULL);
    if (err == E_OK) {
        if (proto_codec_encode(message, &row, &out, NULL)) {
            abort();
        }
        bool same = span_equal(buf_span(&out), bytes);
        if (!same && (out.len <= bytes.len ||
                      store_ledger_row_decode(table, buf_span(&out), &arena, &again, NULL))) {
            abort(); /* the older rows are shorter, as they lack fields */
        }
    } else if (err != E_CORRUPT && err != E_NO_MEMORY) {
        abort();
    }
    buf_fini(&out);
    arena_fini(&arena);
}

static void check_answer(struct span bytes)
{
    struct span note;
    struct span answer;
    if (store_answer_split(bytes, &note, &answer) == E_OK &&
        (note.len + answer.len + 4 != bytes.len || answer.ptr != note.ptr + note.len)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    /* An exact copy, so that a read behind the end is seen. */
    uint8_t *copy = malloc(size);
    if (!copy) {
        return 0;
    }
    memcpy(copy, data, size);
    struct span bytes = span_of(copy + 1, size - 1);
    if (copy[0] % 3 == 2) {
        check_answer(bytes);
    } else {
        check_row(copy[0] % 3 ? STORE_TABLE_CHARGES : STORE_TABLE_ACCOUNTS, bytes);
    }
    free(copy);
    return 0;
}
