#!/bin/sh
# Runs each unit test given under valgrind's memcheck: reads of uninitialised memory, out of bounds, and lost blocks. For `make
# check-valgrind`; the last line counts. VALGRIND_ONLY=name runs the programs whose path holds it.
here=$(dirname "$0")
passed=0
failed=0
if ! command -v valgrind > /dev/null; then
    echo "valgrind is not installed (Debian: valgrind): nothing was checked"
    exit 0
fi
UNDER_VALGRIND=1
export UNDER_VALGRIND
for program in "$@"; do
    case $program in
    *"$VALGRIND_ONLY"*) ;;
    *) continue ;;
    esac
    # valgrind computes long double in 64 bits, and this test compares in 80.
    case $program in
    */test_mechanism)
        echo "ok $program # SKIP needs long double"
        continue
        ;;
    esac
    # It sets limits in wall-clock time.
    case $program in
    */test_peer)
        echo "ok $program # SKIP needs its speed"
        continue
        ;;
    esac
    log=$program.valgrind
    if timeout "${VALGRIND_SECONDS:-900}" valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
        --show-leak-kinds=definite --child-silent-after-fork=yes --suppressions="$here/valgrind.supp" "$program" > "$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok $program"
        rm -f "$log"
    else
        failed=$((failed + 1))
        echo "not ok $program (see $log)"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
