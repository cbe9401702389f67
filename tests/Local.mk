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
include tests/audit/Local.mk
EXTRA_DIST += tests/run

# Known answers from any folder of the formats in tests/vectors: make check-vectors VECTORS=DIR
VECTORS = $(abs_top_srcdir)/tests/vectors
.PHONY: check-vectors
check-vectors: tests/unit/proto/test_privacy tests/unit/proto/test_loss tests/unit/proto/test_pld tests/unit/node/test_noise tests/unit/crypto/test_wycheproof
	set -e; for program in $^; do top_srcdir=$(abs_top_srcdir) VECTORS=$(VECTORS) ./$$program; done

.PHONY: coverage
# Line coverage of the unit tests, in a tree of its own.
coverage:
	mkdir -p coverage-build
	test -f coverage-build/Makefile || (cd coverage-build && $(abs_top_srcdir)/configure -q --enable-coverage CFLAGS="-O0 -g")
	CONCORDAT_PROC=no $(MAKE) -s -C coverage-build check
	cd coverage-build && find proto crypto store node -name '*.gcda' -exec gcov -n -r -s $(abs_top_srcdir) {} + 2>/dev/null | \
		awk '/^File/ { f = $$2 } /^Lines executed/ { split($$0, a, /[:% ]+/); n = $$NF; t += n; h += n * a[3] / 100 } END { printf "lines %d, executed %.1f %%\n", t, t ? 100 * h / t : 0 }'

EXTRA_DIST += %D%/README.md %D%/valgrind.sh %D%/valgrind.supp
.PHONY: check-valgrind check-valgrind-here
# Unit tests under memcheck, in a tree of its own: valgrind cannot map 64 GiB. Slow, so not a part of check.
check-valgrind:
	mkdir -p valgrind-build
	test -f valgrind-build/Makefile || (cd valgrind-build && \
		$(abs_top_srcdir)/configure -q CPPFLAGS="-DSTORE_MAP_BYTES=1073741824UL" CFLAGS="-O1 -g")
	$(MAKE) -s -C valgrind-build check-valgrind-here
check-valgrind-here: all
	$(MAKE) $(AM_MAKEFLAGS) $(filter tests/unit/%,$(check_PROGRAMS))
	top_builddir=$(abs_top_builddir) top_srcdir=$(abs_top_srcdir) $(srcdir)/tests/valgrind.sh $(filter tests/unit/%,$(check_PROGRAMS))
