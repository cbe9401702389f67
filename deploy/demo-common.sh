# What the demonstrations share; read by them with `.`. Installs what is missing, builds, makes a work folder that goes away.
top=$PWD
build=${CONCORDAT_BUILD:-$top/build}/gcc
keep=no
[ "${1:-}" = --keep ] && keep=yes

deploy/packages
if [ ! -x configure ] || [ configure.ac -nt configure ]; then
    echo "Preparing the build (autoconf) ..."
    ./autogen.sh >/dev/null 2>&1
fi
mkdir -p "$build"
[ -f "$build/config.status" ] || (cd "$build" && "$top/configure" --quiet)
echo "Building ..."
make -C "$build" -s -j"$(nproc)" concordat concordatd >"$build/demo-build.log" 2>&1 || { tail -n 30 "$build/demo-build.log"; exit 1; }
PATH=$build:$PATH
export PATH

work=$(mktemp -d "${TMPDIR:-/tmp}/concordat-demo.XXXXXX")
box=$work/federation
finish() {
    concordat sandbox stop "$box" >/dev/null 2>&1 || true
    if [ "$keep" = yes ]; then
        echo "The federation's homes stay in $box; go on with: concordat sandbox start $box"
    else
        rm -rf "$work"
    fi
}
trap finish EXIT
trap 'exit 130' INT TERM

step() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}
# Shows the command, then runs it at node $1.
at() {
    node=$1
    shift
    printf '\n%s$ concordat' "$node"
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./:=,-]*) printf " '%s'" "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    concordat --home "$box/$node" "$@"
}
# The same for a command that must be refused with exit code $1.
refused() {
    want=$1
    shift
    got=0
    at "$@" || got=$?
    echo "(exit code $got)"
    [ "$got" -eq "$want" ]
}
