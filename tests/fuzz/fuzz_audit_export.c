/* The parser of audit exports, and the judgement of what it found. */
#include "config.h"
#include "crypto/provider.h"
#include "store/audit.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    struct store_audit_report report;
    struct err_info info = {0};
    if (!ready && crypto_init(NULL)) {
        abort();
    }
    ready = true;
    enum err err = store_audit_verify_export(span_of(data, size), NULL, &report, &info);
    if (report.ok != (err == E_OK) || report.witness_count > STORE_AUDIT_WITNESSES) {
        abort();
    }
    return 0;
}
