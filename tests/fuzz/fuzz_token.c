/* The text of an invitation token: any bytes. */
#include "node/peer/enrol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct peer_token token;
    (void)!peer_token_decode((const char *)data, size, &token, NULL);
    return 0;
}
