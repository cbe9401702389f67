/* A model as one blob: what a node stores, hashes, sends to peers and names in a plan.
 *
 *     err = model_package_import("bert-tiny-biomed", "bert-tiny-biomed", "CC-BY-4.0", &blob, reterr);   // a folder
 *     struct model_package *package = NULL;
 *     err = model_package_open(buf_span(&blob), &package, reterr);       // BLOB is borrowed until close
 *     model_package_info(package)->labels ...
 *     model_package_close(package);
 *
 * It is a safetensors file, readable by any tool of the field, whose __metadata__ holds the texts that the tensors need to
 * be a model: config.json, the vocabulary (vocab.txt or tokenizer.json, with tokenizer_config.json when there is one), name,
 * licence (SPDX), and for a model that holds only adapters and a head the SHA-256 of the base model's blob. Numbers keep the
 * dtype that they came in. So one hash stands for all that decides what a model computes.
 * Import checks everything that training will need: architecture, tensors, shapes, finite numbers, vocabulary.
 * Threads: after open, any number may read. Limits: those of encoder.h, tokenizer.h and safetensors.h. */
#ifndef CONCORDAT_NODE_MODEL_PACKAGE_H
#define CONCORDAT_NODE_MODEL_PACKAGE_H

#include "node/model/encoder.h"
#include "node/model/tokenizer.h"

#define MODEL_PACKAGE_NAME_MAX 64u
#define MODEL_PACKAGE_SPDX_MAX 256u

struct model_package;
struct model_package_info {
    const char *name, *licence; /* "" when not told */
    struct model_shape
        shape; /* task and training: what the model was made for; FULL for a whole model */
    const struct model_words *labels; /* of the head; count 0 when it has none */
    bool
        personal_head; /* the head is the public start of heads that each site keeps: it labels nothing */
    bool has_base;       /* adapters and head only: */
    uint8_t base[32];    /* SHA-256 of the blob they belong to */
    uint64_t parameters; /* numbers in the blob */
};

/* Appends the blob of FOLDER (Hugging Face layout: config.json, model.safetensors, vocab.txt or tokenizer.json).
 * Errors: E_NOT_FOUND a file; E_UNSUPPORTED another architecture; E_SCHEMA, E_INVALID, E_LIMIT what does not fit;
 * E_NO_MEMORY; E_IO. */
MUST_CHECK enum err model_package_import(const char *folder, const char *name, const char *licence,
                                         struct buf *ret, struct err_info *reterr);
/* The same of a PEFT folder (adapter_config.json, adapter_model.safetensors) whose adapters belong to BASE, a whole model with the blob
 * of that hash. Labels are those of config.json when it is there, else LABEL_0, LABEL_1, .. as many as the classifier has.
 * Errors also: E_SCHEMA tensors that are missing or not expected. */
MUST_CHECK enum err model_package_import_adapter(const char *folder,
                                                 const struct model_package *base,
                                                 const uint8_t base_hash[32], const char *name,
                                                 const char *licence, struct buf *ret,
                                                 struct err_info *reterr);
/* Whether FOLDER holds adapters; RET_BASE gets the base model's name as adapter_config.json tells it ("" when it does not). */
bool model_package_is_adapter(const char *folder, char ret_base[MODEL_PACKAGE_NAME_MAX + 1]);
/* Errors: E_INVALID, E_TRUNCATED, E_LIMIT, E_UNSUPPORTED a blob that is no such package or of a newer version. */
MUST_CHECK enum err model_package_open(struct span blob, struct model_package **ret,
                                       struct err_info *reterr);
void model_package_close(struct model_package *package);
/* Borrowed until close. */
const struct model_package_info *model_package_info(const struct model_package *package);
/* The caller closes it. Adapters: PACKAGE is the base, which has the vocabulary. */
MUST_CHECK enum err model_package_tokenizer(const struct model_package *package,
                                            struct model_tokenizer **ret, struct err_info *reterr);
/* Writes vocab.txt or tokenizer.json, and tokenizer_config.json when there is one, into FOLDER. Errors: E_SCHEMA an adapter's package has
 * none; E_IO, E_DISK_FULL. */
MUST_CHECK enum err model_package_vocabulary(const struct model_package *package,
                                             const char *folder, struct err_info *reterr);
/* An encoder of SHAPE (task, labels, training of the caller; the rest as in the package's info) with the weights of PACKAGE,
 * or with those of BASE and then the adapters and head of PACKAGE. BASE is NULL for a whole model. The head is taken when it was made
 * for the same task and LABELS, else it is new; adapters of another kind than SHAPE's are merged into the weights.
 * Errors: E_USAGE a base that is missing or not needed; E_SCHEMA what does not fit; those of model_encoder_new and of reading. */
MUST_CHECK enum err model_package_encoder(const struct model_package *package,
                                          const struct model_package *base,
                                          const struct model_shape *shape,
                                          const struct model_words *labels, uint64_t seed,
                                          struct model_encoder **ret, struct err_info *reterr);

/* A trained encoder as a blob. With BASE_HASH: adapters and head alone (E_USAGE when it has no adapters); without: all of it,
 * with the vocabulary of BASE. BASE is the package it was trained from. PERSONAL_HEAD: as in the info. */
MUST_CHECK enum err model_package_encode(const struct model_encoder *encoder,
                                         const struct model_words *labels,
                                         const struct model_package *base, const uint8_t *base_hash,
                                         bool personal_head, const char *name, const char *licence,
                                         struct buf *ret, struct err_info *reterr);

#endif
