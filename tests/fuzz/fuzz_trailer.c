/* The end of a partition file, under a key that is known: the bytes are put into a file in memory. */
#include "config.h"
#include "store/partition_trailer.h"

#include "crypto/provider.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct crypto_key key;
    static bool ready;
    if (!ready && crypto_init(NULL)) {
        abort();
    }
    ready = true;
    struct buf table = {.max = STORE_TABLE_MAX};
    uint8_t uuid[16];
    uint64_t bytes = 0;
    int fd = memfd_create("partition", MFD_CLOEXEC);
    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size)) {
        abort();
    }
    enum err err = store_partition_trailer_check(fd, &key, uuid, &bytes, &table);
    if (table.len > size || (err && table.len) || (!err && bytes + table.len >= size)) {
        abort();
    }
    buf_fini(&table);
    close(fd);
    return 0;
}
