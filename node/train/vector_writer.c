#include "config.h"
#include "node/train/vector_writer.h"

#include <pthread.h>

struct train_vector_writer {
    uint64_t left; /* numbers that are not written yet */
    uint8_t tag[TRAIN_VECTOR_TAG];
    struct store_blob_writer *blob; /* NULL: it was committed, or left */
    uint8_t hash[32];
    pthread_t thread;
    bool threaded;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    float *block;
    size_t filled; /* numbers in BLOCK that wait; 0: it is free */
    bool ended;    /* no more will come */
    enum err err;  /* the first error of the thread's */
    struct err_info info;
};

static enum err write_block(struct train_vector_writer *writer, const float *numbers, size_t n,
                            struct err_info *reterr)
{
    if (n > writer->left) {
        return proto_err_set(reterr, E_LIMIT, "more numbers than the vector has");
    }
    if (!train_vector_finite(numbers, n)) {
        return proto_err_set(reterr, E_INVALID, "a number became not finite");
    }
    enum err err = train_vector_append(writer->blob, numbers, n, reterr);
    if (!err) {
        writer->left -= n;
    }
    if (!err && writer->left == 0) {
        err = store_blob_append(writer->blob, span_of(writer->tag, sizeof writer->tag), reterr);
        if (!err) {
            err = store_blob_commit(writer->blob, writer->hash, reterr);
            writer->blob = NULL;
        }
    }
    return err;
}

static void *writer_main(void *user)
{
    struct train_vector_writer *writer = user;
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        while (!writer->filled && !writer->ended) {
            pthread_cond_wait(&writer->changed, &writer->lock);
        }
        size_t n = writer->filled;
        if (n == 0 || writer->err) {
            break;
        }
        pthread_mutex_unlock(&writer->lock);
        struct err_info info = {0};
        enum err err = write_block(writer, writer->block, n, &info);
        pthread_mutex_lock(&writer->lock);
        writer->filled = 0;
        writer->err = err;
        writer->info = info;
        pthread_cond_broadcast(&writer->changed);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

enum err train_vector_writer_open(struct store *store, uint64_t count,
                                  const uint8_t tag[TRAIN_VECTOR_TAG],
                                  struct train_vector_writer **ret, struct err_info *reterr)
{
    struct train_vector_writer *writer = proto_alloc(1, sizeof *writer);
    uint64_t offset;
    if (!writer) {
        return E_NO_MEMORY;
    }
    writer->left = count;
    memcpy(writer->tag, tag, sizeof writer->tag);
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->changed, NULL);
    writer->block = proto_alloc_raw(TRAIN_VECTOR_BLOCK, sizeof *writer->block);
    enum err err = writer->block
                       ? store_blob_begin(store, NULL, train_vector_size(count), STORE_BLOB_DURABLE,
                                          &writer->blob, &offset, reterr)
                       : E_NO_MEMORY;
    if (err) {
        return train_vector_writer_close(writer, err, NULL, reterr);
    }
    writer->threaded = pthread_create(&writer->thread, NULL, writer_main, writer) == 0;
    *ret = writer;
    return E_OK;
}

static enum err report(const struct train_vector_writer *writer, struct err_info *reterr)
{
    return writer->err ? proto_err_set(reterr, writer->err, "%s", writer->info.text) : E_OK;
}

enum err train_vector_writer_put(struct train_vector_writer *writer, const float *numbers, size_t n,
                                 struct err_info *reterr)
{
    if (!writer->threaded) {
        return write_block(writer, numbers, n, reterr);
    }
    pthread_mutex_lock(&writer->lock);
    while (writer->filled && !writer->err) {
        pthread_cond_wait(&writer->changed, &writer->lock);
    }
    enum err err = report(writer, reterr);
    if (!err) {
        memcpy(writer->block, numbers, n * sizeof *numbers);
        writer->filled = n;
        pthread_cond_broadcast(&writer->changed);
    }
    pthread_mutex_unlock(&writer->lock);
    return err;
}

enum err train_vector_writer_close(struct train_vector_writer *writer, enum err err,
                                   uint8_t ret_hash[32], struct err_info *reterr)
{
    if (!writer) {
        return err;
    }
    if (writer->threaded) {
        pthread_mutex_lock(&writer->lock);
        writer->ended = true;
        pthread_cond_broadcast(&writer->changed);
        pthread_mutex_unlock(&writer->lock);
        pthread_join(writer->thread, NULL);
    }
    err = err ? err : report(writer, reterr);
    if (!err && (writer->left || writer->blob)) {
        err = proto_err_set(reterr, E_TRUNCATED, "the vector ends too early");
    }
    if (writer->blob) {
        store_blob_leave(writer->blob);
    }
    if (!err) {
        memcpy(ret_hash, writer->hash, 32);
    }
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->lock);
    proto_free(writer->block);
    proto_free(writer);
    return err;
}
