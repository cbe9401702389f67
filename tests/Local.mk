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

# Known answers from any folder of the formats in tests/vectors: make check-vectors VECTORS=DIR
VECTORS = $(abs_top_srcdir)/tests/vectors
.PHONY: check-vectors
check-vectors: tests/unit/proto/test_privacy tests/unit/node/test_noise tests/unit/crypto/test_wycheproof
	set -e; for program in $^; do top_srcdir=$(abs_top_srcdir) VECTORS=$(VECTORS) ./$$program; done
