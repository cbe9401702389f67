# Files as C strings: one { name, text } a file, named without folder and ending. C99 grants 4,095 bytes to a string literal
# alone, compilers take far more; the texts are small.
function close_text() { if (open) { print "    }," } open = 0 }
FNR == 1 {
    close_text()
    name = FILENAME
    sub(/.*\//, "", name)
    sub(/\.[^.]*$/, "", name)
    if (NR == 1) { print "static const struct {\n    const char *name;\n    const char *text;\n} shipped[] = {" }
    print "    {"
    print "        \"" name "\","
    open = 1
}
{
    gsub(/\\/, "\\\\")
    gsub(/"/, "\\\"")
    print "        \"" $0 "\\n\""
}
END { close_text(); print "};" }
