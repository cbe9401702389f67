/* Nothing is planted. */
#include "tests/audit/audit.h"

const char *const audit_planted = NULL;
