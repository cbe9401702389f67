/* An LMDB file whose pages are followed before LMDB may look at it: the bytes are put into a file in memory. */
#include "config.h"
#include "store/pages.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t page;
    int fd = memfd_create("pages", MFD_CLOEXEC);
    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size)) {
        abort();
    }
    (void)!store_pages_check(fd, &page);
    close(fd);
    return 0;
}
