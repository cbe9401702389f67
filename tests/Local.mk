# Tests. Unit tests link only their own floor and those below, so that an upward call fails to link.
if HAVE_CMOCKA
include tests/unit/proto/Local.mk
include tests/unit/crypto/Local.mk
include tests/unit/store/Local.mk
include tests/unit/node/Local.mk
endif
include tests/sim/Local.mk
include tests/fuzz/Local.mk
include tests/proc/Local.mk
include tests/bench/Local.mk
EXTRA_DIST += tests/run
