/* Runs an external trainer for one task: makes its cell (confine.h), speaks trainer/1 with it (trainer_message.h) and ends it. What
 * it gives back is bytes that nobody has looked at yet.
 *
 *     err = train_trainer_run(&wish, &result, reterr);
 *     if (!err) { .. model_safetensors_bytes(buf_span(&result.output), ..) }
 *     train_trainer_result_fini(&result);
 *
 * The trainer gets the rows after it has greeted: a program that is missing, cannot start or says nonsense fails before, and
 * `result.saw_data` is then false: telling that failure tells nothing of the data. It is ended (SIGKILL) when it has answered, when
 * its time is over, when it floods (TRAIN_TRAINER_TALK bytes), and when the caller's thread is cancelled; whatever it started ends
 * with it. Its output is copied once before it is looked at, so that it does not change under our eyes.
 * Threads: any; a call blocks. Memory: data, weights and output once more, in memory files. */
#ifndef CONCORDAT_NODE_TRAIN_TRAINER_H
#define CONCORDAT_NODE_TRAIN_TRAINER_H

#include "node/config/node.h"
#include "node/train/trainer_message.h"

#define TRAIN_TRAINER_TALK ((size_t)256 << 10) /* bytes that it may say in one task */

struct train_trainer_wish {
    const struct config_trainer *trainer;
    const struct train_trainer_task *task; /* time_ms is the limit */
    struct span data, weights;             /* safetensors */
    size_t output_max;
    bool (*cancelled)(void *user); /* may be NULL */
    void (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};
struct train_trainer_result {
    bool namespaces; /* what was in force */
    uint64_t landlock;
    bool saw_data;
    struct buf output;
};
/* RET is set also on failure, and freed by the caller. Errors: E_UNSUPPORTED the cell cannot be made; E_NOT_FOUND the program cannot
 * be run; E_TIMEOUT; E_CANCELLED; E_INVALID it broke the contract, failed or ended; E_IO, E_NO_MEMORY. */
MUST_CHECK enum err train_trainer_run(const struct train_trainer_wish *wish,
                                      struct train_trainer_result *ret, struct err_info *reterr);
void train_trainer_result_fini(struct train_trainer_result *result);
/* Makes a cell and runs nothing in it: what would be in force here. Errors: E_UNSUPPORTED and why. */
MUST_CHECK enum err train_trainer_probe(struct train_trainer_result *ret, struct err_info *reterr);

#endif
