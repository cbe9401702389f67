# Tests. Unit tests link only their own floor and those below, so that an upward call fails to link.
if HAVE_CMOCKA
include tests/unit/proto/Local.mk
include tests/unit/crypto/Local.mk
include tests/unit/store/Local.mk
include tests/unit/node/Local.mk
include tests/sim/Local.mk
include tests/fuzz/Local.mk
endif
include tests/proc/Local.mk
include tests/bench/Local.mk
