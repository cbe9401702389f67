# Checks that each source file includes only its own floor and the floors below, and names only the outside
# libraries of its row in layers.txt.   usage: awk -f check-layers.awk layers.txt SOURCES...   exits 1 on a breach
FNR == NR {
	if ($0 ~ /^#/ || $0 !~ /:/) next
	split($0, part, /[:|]/); dir = part[1]; known[dir] = 1; may[dir, dir] = 1
	n = split(part[2], low, " "); for (i = 1; i <= n; i++) may[dir, low[i]] = 1
	n = split(part[3], ext, " "); for (i = 1; i <= n; i++) { owned[ext[i]] = 1; lib[dir, ext[i]] = 1 }
	next
}
FNR == 1 { name = FILENAME; sub(/^\.\//, "", name); from = row(name); files++
	if (from == "") { printf "%s: its folder has no row in layers.txt\n", FILENAME; rc = 1 } }
match($0, /^[ \t]*#[ \t]*include[ \t]*["<][^">]+/) {
	name = substr($0, RSTART, RLENGTH); sub(/.*["<]/, "", name)
	to = row(name)
	if (to != "" && !((from, to) in may)) bad()
	for (key in owned) if (index(name, key) == 1 && !((from, key) in lib)) bad()
}
function row(path,   dir) {
	dir = path
	while (sub(/\/[^\/]*$/, "", dir)) if (dir in known) return dir
	return ""
}
function bad() { printf "%s:%d: %s may not include %s\n", FILENAME, FNR, from, name; rc = 1 }
END { if (files < 1) { print "check-layers: no sources given"; rc = 1 } exit rc }
