#include "config.h"
#include "store/audit_view.h"

json_t *store_audit_view(const struct store_audit_report *report)
{
    json_t *witnesses = json_array();
    for (size_t i = 0; i < report->witness_count; i++) {
        json_array_append_new(witnesses, json_string(report->witnesses[i]));
    }
    return json_pack("{s:I, s:b, s:s, s:o, s:o, s:s, s:s, s:s, s:s}", "entries",
                     (json_int_t)report->entries, "ok", report->ok, "head", report->head,
                     "witnessed_by", witnesses, "first_bad",
                     report->first_bad ? json_integer((json_int_t)report->first_bad) : json_null(),
                     "node_id", report->node_id, "federation_id", report->federation_id,
                     "fingerprint", report->identity, "reason", report->reason);
}
