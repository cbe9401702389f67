#!/bin/sh
# The command without any daemon: usage errors and their exit codes, help for every command, local tools, sandboxes that
# are made, split and removed. Prints TAP.
set -u
top=${top_builddir:-.}
concordat=$top/concordat
work=$(mktemp -d "${TMPDIR:-/tmp}/concordat-cli.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset CONCORDAT_HOME CONCORDAT_PASSPHRASE
n=0

result() { # result 0|1 TEXT
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        sed 's/^/# /' "$work/out" "$work/err" | head -n 20
    fi
}

# exits CODE PATTERN ARGUMENTS...: the exit code, and PATTERN somewhere in what it printed
exits() {
    want=$1
    pattern=$2
    shift 2
    got=0
    "$concordat" "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    bad=0
    [ "$got" -eq "$want" ] || bad=1
    cat "$work/out" "$work/err" | grep -q -e "$pattern" || bad=1
    result "$bad" "concordat $* exits $want and says '$pattern'"
}

home=$work/home
mkdir "$home"

# --- usage -------------------------------------------------------------------------------------------
exits 2 'say what to do'
exits 2 "did you mean 'query'" qurey
exits 2 "did you mean 'dataset import'" dataset imprt
exits 2 'goes on with one of: import, draft, mapping, list, show, risk, update, forget, remove' dataset
exits 2 'no command' frobnicate
exits 2 'no option --nonsense' query 'SELECT 1' --nonsense
exits 2 'SQL is missing' query
exits 2 'standard input: there is no question in it' query -
exits 3 'no-such.sql: No such file' query "@$work/no-such.sql"
exits 7 'Is a directory' query "@$work"
printf ' \n' >"$work/blank.sql"
exits 2 'there is no question in it' query "@$work/blank.sql"
printf 'SELECT\0' >"$work/zero.sql"
exits 2 'a zero byte' query "@$work/zero.sql"
long=$(printf '%8185s' '')
printf 'SELECT %s1' "$long" >"$work/long.sql" # one byte too many
exits 2 'long.sql: a question has at most 8192 bytes' query "@$work/long.sql"
exits 2 'SQL: a question has at most 8192 bytes' query "SELECT ${long}1"
exits 9 'concordatd' query --home "$home" "SELECT ${long}"
exits 2 'takes a number' query 'SELECT 1' --epsilon many
exits 2 'takes one of per-node|secure' query 'SELECT 1' --mode both
exits 2 'given twice' query 'SELECT 1' --epsilon 1 --epsilon 2
exits 2 'needs a value' query 'SELECT 1' --epsilon
exits 2 'takes no value' query 'SELECT 1' --explain=yes
exits 2 'does not take' query 'SELECT 1' again
exits 2 'takes a time' query 'SELECT 1' --timeout soon
exits 2 '--timeout takes a time' query 'SELECT 1' --timeout 0s
exits 2 '--valid takes a time' approve 1 --valid 0d
exits 2 '--sites takes a list' query 'SELECT 1' --sites a,
exits 2 '--names takes a list' sandbox create "$work/s" --names a,
exits 2 '--min-sites takes a whole number' query 'SELECT 1' --min-sites 1.5
exits 2 'SLOT takes a whole number' key remove 1.7
exits 2 'takes a date' audit list --since soon
exits 2 'takes a date' catalog --since 2026-02-30
exits 2 '--shred is missing' dataset remove a
exits 2 '--home needs a value' status --home
exits 2 'give one of --found' --home "$work/new" init --prepare --found x
exits 2 'not both' sandbox create "$work/s" --nodes 2 --names a,b
exits 2 "not 'A'" sandbox create "$work/s" --names A
exits 2 'named twice' sandbox create "$work/s" --names a,a
exits 2 'whole number from 1' sandbox create "$work/s" --nodes 0
exits 0 "$("$concordat" --version | cut -d' ' -f1)" --version

# --- outputs, before anybody is asked or anything typed ----------------------------------------------------
exits 7 '--svg: .*absent/x.svg cannot be written' query 'SELECT 1' --svg "$work/absent/x.svg"
exits 7 'Is a directory' query 'SELECT 1' --svg "$work"
exits 7 '--tensorboard: .*Not a directory' train history 1 --tensorboard "$concordat"
exits 7 '--out: .*cannot be written' licence new --out "$work/absent/l.yaml"
exits 2 'is there already' licence new --out "$concordat"
exits 9 '' --home "$home" query 'SELECT 1' --svg "$work/x.svg"
[ ! -e "$work/x.svg" ]
result $? "a picture that could be written is not begun"

# --- no daemon ------------------------------------------------------------------------------------------
exits 9 "concordatd --home $home" --home "$home" status
exits 9 'does not exist' --home "$work/absent" peers
exits 9 '"code":"NO_DAEMON","kind":"busy","exit":9' --json --home "$home" budget
CONCORDAT_HOME=$home
export CONCORDAT_HOME
exits 9 "$home" catalog
unset CONCORDAT_HOME
exits 2 '"code":"USAGE","kind":"usage","exit":2' --json query
exits 3 'is not a sandbox' sandbox start "$work/absent"
exits 3 '' --home "$home" audit verify

# With --json nothing but one document stands on standard output.
"$concordat" --json --home "$home" status >"$work/out" 2>"$work/err"
python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$work/out" 2>/dev/null && [ ! -s "$work/err" ]
result $? "an error with --json is one document on standard output"

for words in 'help' 'help query' 'query --help' 'dataset --help' '--help' '--version' 'man' 'completion bash'; do
    # shellcheck disable=SC2086 # the words of the command
    "$concordat" $words --json >"$work/out" 2>"$work/err" && [ ! -s "$work/err" ] &&
        python3 -c 'import json,sys; found = json.load(open(sys.argv[1])); sys.exit(not (found.get("text") or found.get("version")))' "$work/out"
    result $? "concordat $words --json is one document"
done

# --- help: every command of the list explains itself ---------------------------------------------------
"$concordat" help >"$work/list" 2>"$work/err"
sed -n 's/^  \([a-z][a-z -]*[a-z]\)   *.*/\1/p' "$work/list" | sed 's/  .*//' | sort -u >"$work/commands"
count=$(wc -l <"$work/commands")
[ "$count" -ge 40 ]
result $? "help lists all commands ($count)"
bad=0
while read -r command; do
    # shellcheck disable=SC2086 # the words of the command
    if ! "$concordat" help $command >"$work/out" 2>"$work/err" || ! grep -q "^usage: concordat $command" "$work/out"; then
        echo "# no help for: $command"
        bad=1
    fi
    # shellcheck disable=SC2086
    "$concordat" $command --help >"$work/out2" 2>"$work/err" && cmp -s "$work/out" "$work/out2" || bad=1
    # A command that takes an option that does not exist is wrong, whatever else it needs.
    got=0
    # shellcheck disable=SC2086
    "$concordat" --home "$home" $command --no-such-option >"$work/out" 2>"$work/err" </dev/null || got=$?
    [ "$got" -eq 2 ] || { echo "# $command --no-such-option: exit $got"; bad=1; }
done <"$work/commands"
result $bad "every command has help, by both ways, and refuses unknown options with 2"
bad=0
while read -r command; do
    # shellcheck disable=SC2086 # the words of the command
    "$concordat" help $command >"$work/out" 2>"$work/err"
    # Nothing but the JSON answer is wider than a screen, and a text that goes on does so in its column.
    sed '/^answer with --json:/,$d' "$work/out" >"$work/text"
    awk -v name="$command" 'length($0) > 112 { print "# " name ": " length($0) " columns"; bad = 1 }
        /^  [A-Z-]/ { arguments = 1 } /^also:/ { arguments = 0 }
        arguments && $0 !~ /^(  [A-Z-]|                         [^ ]|$)/ { print "# " name ": " $0; bad = 1 }
        END { exit bad }' "$work/text" >"$work/faults" || { cat "$work/faults"; bad=1; }
    summary=$(sed -n "s/^  $command  *//p" "$work/list")
    grep -q -F -e "$command: $summary" "$work/out" || { echo "# $command does not say what it is"; bad=1; }
done <"$work/commands"
result $bad "each help says in a line what the command does, and keeps its columns"
exits 0 'For operators and auditors whom people: in node.yaml names' help audit list
exits 0 'For operators, coordinators and analysts whom' help query
exits 0 'For everybody whom people' help status
exits 0 'Works without the daemon, too' help fsck
exits 0 "train resume" help train
exits 2 "did you mean 'train run'" help train rnu

# --- manual pages and completion -------------------------------------------------------------------------
exits 0 '^.TH CONCORDAT 1' man
exits 0 '^.TH CONCORDATD 8' man concordatd
exits 3 'concordat and concordatd' man other
exits 0 'complete -o filenames -F _concordat' completion bash
exits 0 '^#compdef concordat' completion zsh
exits 2 'bash or zsh' completion fish
"$concordat" completion bash >"$work/completion"
if command -v bash >/dev/null; then
    cat >"$work/complete.sh" <<'END'
. "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_concordat
echo "${COMPREPLY[*]}"
END
    words=$(bash "$work/complete.sh" "$work/completion" concordat dataset im)
    [ "$words" = import ]
    result $? "bash completes 'dataset im' to import"
    words=$(bash "$work/complete.sh" "$work/completion" concordat --home /x query 'SELECT 1' --eps)
    [ "$words" = --epsilon ]
    result $? "bash completes an option behind other words"
    words=$(bash "$work/complete.sh" "$work/completion" concordat do)
    [ "$words" = doctor ]
    result $? "bash completes the first word"
fi

# --- tools -------------------------------------------------------------------------------------------------
exits 0 '"epsilon":' tool accountant --json --sigma 1.1 --rate 0.01 --steps 1000 --delta 1e-5
exits 2 'one of --sigma and --epsilon' tool accountant --rate 0.01 --steps 1000 --delta 1e-5
exits 3 'No such file' tool licence-decide --record "$work/absent.json" --request "$work/absent.json"
exits 2 '--rate lies' tool accountant --sigma 1 --rate 2 --steps 10 --delta 1e-5
"$concordat" --json tool accountant --epsilon 2 --rate 0.01 --steps 1000 --delta 1e-5 >"$work/out" 2>"$work/err"
python3 -c '
import json, sys
found = json.load(open(sys.argv[1]))
sys.exit(not (0.8 < found["sigma"] < 1.2 and 1.99 < found["epsilon"] <= 2.0))' "$work/out"
result $? "the accountant calibrates sigma to the epsilon that was asked for"

cat >"$work/licence.json" <<'END'
{"spdx": "CC-BY-4.0", "expires": "2100-01-01", "grants": [{"permission": "DUO:0000006", "actions": ["count", "sum"],
 "min_cohort": 11, "privacy": {"epsilon_total": 8, "epsilon_per_query": 2, "delta": 1e-6}}]}
END
request='"institution": "b", "org_type": "nonprofit", "commercial": false, "country": "DE", "person": "ada",
         "accepted": ["no-reidentify", "no-relink"], "epsilon": 0.5, "delta": 1e-6, "sites": 3'
echo "{$request, \"purpose\": \"DUO:0000006\", \"actions\": [\"count\"]}" >"$work/permit.json"
echo "{$request, \"purpose\": \"DUO:0000011\", \"actions\": [\"count\"]}" >"$work/purpose.json"
echo "{$request, \"purpose\": \"DUO:0000006\", \"actions\": [\"finetune\"]}" >"$work/action.json"
echo "{$request, \"purpose\": \"DUO:0000006\", \"actions\": [\"count\"], \"epsilonn\": 1}" >"$work/typo.json"
exits 0 '"verdict":"permit"' --json tool licence-decide --record "$work/licence.json" --request "$work/permit.json"
exits 0 '"verdict":"deny","reason":"PURPOSE"' --json tool licence-decide --record "$work/licence.json" --request "$work/purpose.json"
exits 0 '"verdict":"deny","reason":"ACTION"' --json tool licence-decide --record "$work/licence.json" --request "$work/action.json"
exits 7 'epsilonn: no such key' tool licence-decide --record "$work/licence.json" --request "$work/typo.json"
sed 's/2100-01-01/2001-01-01/' "$work/licence.json" >"$work/old.json"
exits 0 '"verdict":"deny","reason":"EXPIRED"' --json tool licence-decide --record "$work/old.json" --request "$work/permit.json"
echo "{\"licence\": $(cat "$work/licence.json"), \"revoked\": true}" >"$work/revoked.json"
exits 0 '"verdict":"deny","reason":"REVOKED"' --json tool licence-decide --record "$work/revoked.json" --request "$work/permit.json"
echo '{"spdx": 3' >"$work/broken.json"
exits 7 'broken.json:' tool licence-decide --record "$work/broken.json" --request "$work/permit.json"

# --- sandboxes on disk ---------------------------------------------------------------------------------------
box=$work/box
exits 0 'tls+tcp://127.0.0.1:' sandbox create "$box" --names ada,bob,eve
exits 2 'not empty' sandbox create "$box"
[ "$(find "$box" -type f -not -name sandbox.json ! -perm 600 | wc -l)" -eq 0 ] && [ "$(find "$box"/* -type d ! -perm 700 | wc -l)" -eq 0 ]
result $? "all files of the homes are 0600, all folders 0700"
[ -f "$box/ada/identity/root.key" ] && [ ! -e "$box/bob/identity/root.key" ]
result $? "only the founder holds the root's key"
exits 0 '"state":"down"' --json sandbox status "$box"
exits 0 'both keys open' --home "$box/bob" doctor
chmod 644 "$box/eve/unlock.key"
exits 1 'fail  keys' --home "$box/eve" doctor
chmod 600 "$box/eve/unlock.key"
exits 9 'no daemon is running' --home "$box/ada" peers
echo 99 >"$box/eve/format"
exits 1 'fail  format: the home has format 99' --home "$box/eve" doctor
rm "$box/eve/format"
exits 3 "no node 'zoe'" sandbox stop "$box" --kill zoe
if command -v openssl >/dev/null; then
    openssl x509 -inform DER -in "$box/bob/identity/certificate.der" -noout -ext subjectAltName >"$work/out" 2>"$work/err"
    grep -q 'URI:concordat://sandbox/bob/' "$work/out"
    result $? "the certificate carries the URI of its node"
    openssl verify -partial_chain -trusted "$box/ada/identity/root.der" "$box/bob/identity/certificate.der" >"$work/out" 2>"$work/err"
    result $? "the certificate is signed by the federation's root"
fi

printf 'id,note ,sex\r\n' >"$work/data.csv"
i=0
while [ $i -lt 300 ]; do
    if [ $((i % 3)) -eq 0 ]; then
        printf '%d,"two\nlines, one ""row""",F\r\n' $i
    else
        printf '%d,plain,M\r\n' $i
    fi
    i=$((i + 1))
done >>"$work/data.csv"
exits 0 'ada.csv' sandbox split "$work/data.csv" --into "$box"
cat >"$work/split.py" <<'END'
import csv, sys
whole = list(csv.reader(open(sys.argv[1], newline="")))
parts = [list(csv.reader(open(name, newline=""))) for name in sys.argv[2:]]
assert all(part[0] == whole[0] for part in parts), "headers"
rows = [row for part in parts for row in part[1:]]
assert sorted(rows) == sorted(whole[1:]), "rows"
assert all(len(part) > 60 for part in parts), [len(part) for part in parts]
END
python3 "$work/split.py" "$work/data.csv" "$box/ada.csv" "$box/bob.csv" "$box/eve.csv" >"$work/out" 2>"$work/err"
result $? "split keeps header and every row once, evenly"
cp "$box/ada.csv" "$work/first.csv"
"$concordat" sandbox split "$work/data.csv" --into "$box" >"$work/out" 2>"$work/err"
cmp -s "$work/first.csv" "$box/ada.csv"
result $? "the same split again is the same"
"$concordat" --json sandbox split "$work/data.csv" --into "$box" --by label:sex --alpha 0.1 >"$work/out" 2>"$work/err"
python3 -c '
import json, sys
found = json.load(open(sys.argv[1]))
sys.exit(not (found["rows"] == 300 and sum(part["rows"] for part in found["parts"]) == 300
              and max(part["rows"] for part in found["parts"]) > 120))' "$work/out"
result $? "a small alpha skews by the label"
exits 3 "no column 'age'" sandbox split "$work/data.csv" --into "$box" --by label:age
exits 2 '--by takes' sandbox split "$work/data.csv" --into "$box" --by colour
printf 'a,b\n1,"open\n' >"$work/open.csv"
exits 7 'within quotes' sandbox split "$work/open.csv" --into "$box"
exits 3 'No such file' sandbox split "$work/absent.csv" --into "$box"
exits 0 '' sandbox remove "$box"
[ ! -e "$box" ]
result $? "remove leaves nothing, the split rows neither"
exits 0 '' sandbox create "$box" --nodes 3
exits 0 '' sandbox split "$work/data.csv" --into "$box"
echo more >>"$box/beta.csv"
cp -p "$box/gamma.csv" "$work/other.csv" && mv "$work/other.csv" "$box/gamma.csv"
touch "$box/mine.txt"
exits 2 'written over while it is read' sandbox split "$box/beta.csv" --into "$box"
[ "$(tail -n 1 "$box/beta.csv")" = more ]
result $? "and it was not"
exits 0 'stays' sandbox remove "$box"
[ "$(cd "$box" && echo *)" = "beta.csv gamma.csv mine.txt" ]
result $? "remove leaves what it did not write, and what was changed or put in its place since"
rm -r "$box"
exits 0 '' sandbox create "$box" --nodes 1
echo mine >"$box/alpha.csv"
exits 2 'not as split wrote it' sandbox split "$work/data.csv" --into "$box"
exits 0 'stays' sandbox remove "$box"
[ "$(cat "$box/alpha.csv")" = mine ]
result $? "remove leaves a file of a node's name that it did not write"

# --- init ----------------------------------------------------------------------------------------------------
common="--name n1 --org o1 --org-type nonprofit --country DE --listen none"
# shellcheck disable=SC2086
exits 0 'founded' --home "$work/n1" init --found fed $common
# shellcheck disable=SC2086
exits 2 'node.s home already' --home "$work/n1" init --found fed $common
# shellcheck disable=SC2086
exits 7 'country' --home "$work/n2" init --found fed --name n2 --org o --org-type nonprofit --country D1 --listen none
[ ! -e "$work/n2" ]
result $? "a refused init leaves no home"
# shellcheck disable=SC2086
exits 2 '--country is missing' --home "$work/n3" init --found fed --name n3 --org o --org-type nonprofit --listen none
exits 0 '"state":"prepared"' --json --home "$work/n4" init --prepare
first=$("$concordat" --json --home "$work/n4" init --prepare | tr ',' '\n' | grep fingerprint)
second=$("$concordat" --json --home "$work/n4" init --prepare | tr ',' '\n' | grep fingerprint)
[ -n "$first" ] && [ "$first" = "$second" ]
result $? "init --prepare shows the same key again"
echo 'not a token' >"$work/token"
# shellcheck disable=SC2086
exits 7 '' --home "$work/n5" init --token-file "$work/token" $common
[ ! -e "$work/n5" ]
result $? "a bad token leaves no home"

echo "1..$n"
