#!/bin/sh
# Prints the C file that holds the given files:   embed.sh FILE... > page.c
set -eu
printf '/* Made by embed.sh from page/. */\n#include "node/console/page.h"\n'
n=0
for file in "$@"; do
    printf '\nstatic const uint8_t page_%d[] = {\n' "$n"
    od -An -v -tu1 "$file" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
    printf '};\n'
    n=$((n + 1))
done
printf '\nconst struct console_page console_pages[] = {\n'
n=0
for file in "$@"; do
    printf '    {"%s", page_%d, sizeof page_%d},\n' "$(basename "$file")" "$n" "$n"
    n=$((n + 1))
done
printf '};\nconst size_t console_page_count = %d;\n' "$n"
