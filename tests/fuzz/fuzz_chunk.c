/* Opening sealed chunks from arbitrary bytes: the chunk, the AAD and the context all come from the input. */
#include "config.h"
#include "crypto/chunk.h"
#include "crypto/provider.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct crypto_key *dek;
static struct crypto_sealer *sealer;

static void setup(void)
{
    dek = crypto_key_new();
    if (!dek || crypto_init(NULL) != E_OK ||
        crypto_sealer_open(dek, span_str("fuzz"), &sealer) != E_OK) {
        abort();
    }
}

static void open_both(struct span context, struct span aad, struct span chunk)
{
    static uint8_t out[1 << 16];
    size_t len = 0;
    enum err err = crypto_chunk_open(dek, context, aad, chunk, out, sizeof out, &len);
    struct crypto_opener *opener = NULL;
    if (crypto_opener_new(dek, context, &opener) == E_OK) {
        if (crypto_opener_open(opener, aad, chunk, out, sizeof out, &len) != err) {
            abort();
        }
        crypto_opener_free(opener);
    }
    if (!err && crypto_chunk_plain_len(chunk, &len) != E_OK) {
        abort();
    }
}

/* Byte 0: length of the AAD; byte 1: length of the context; then both; the rest is the chunk. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!dek) {
        setup();
    }
    if (size < 2 || size > 1 << 16) {
        return 0;
    }
    size_t aad_len = data[0];
    size_t context_len = data[1];
    data += 2;
    size -= 2;
    aad_len = aad_len < size ? aad_len : size;
    struct span aad = span_of(data, aad_len);
    data += aad_len;
    size -= aad_len;
    context_len = context_len < size ? context_len : size;
    struct span context = span_of(data, context_len);
    struct span rest = span_of(data + context_len, size - context_len);
    open_both(context, aad, rest);
    /* The rest as plaintext: what was sealed here must open here, and not under another AAD. */
    static uint8_t sealed[(1 << 16) + CRYPTO_CHUNK_OVERHEAD];
    static uint8_t out[1 << 16];
    size_t len = 0;
    if (crypto_sealer_seal(sealer, aad, rest, sealed, sizeof sealed, &len) != E_OK ||
        crypto_chunk_open(dek, span_str("fuzz"), aad, span_of(sealed, len), out, sizeof out,
                          &len) != E_OK ||
        !span_equal(span_of(out, len), rest)) {
        abort();
    }
    return 0;
}
