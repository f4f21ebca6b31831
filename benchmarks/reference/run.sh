#!/bin/sh
# What a hit costs: the C reference tracer and a peer, with the same target and affinity.
#
#   run.sh [PEER COMMAND...]
#
# The peer is called as: PEER... --affinity same|other|none --hits N -- HOT KIND CALLS SECONDS lines
# It starts the command, probes the entry of hot_KIND, sends it a line for each round, and prints "N hits, X ns per hit" as the reference does.
# HITS and KINDS in the environment change what is run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT INT TERM
${CC:-gcc} -O2 -Wall -Wextra -o "$build/tracer" "$here/tracer.c"
${CC:-gcc} -O2 -Wall -Wextra -o "$build/hot" "$here/hot.c"
hits=${HITS:-50000}
kinds=${KINDS:-push endbr nop5 sub mov}
affinities="same none"
[ "$(nproc)" -gt 1 ] && affinities="same other none"

ns_of() { sed -n 's/.*, \([0-9.]*\) ns per hit.*/\1/p'; }

printf '%-8s %-8s %14s %14s %8s\n' kind affinity 'C ns/hit' 'peer ns/hit' ratio
for kind in $kinds; do
    for affinity in $affinities; do
        reference=$("$build/tracer" -a "$affinity" -n "$hits" -- "$build/hot" "$kind" "$hits" 0 lines | ns_of)
        if [ $# -gt 0 ]; then
            peer=$("$@" --affinity "$affinity" --hits "$hits" -- "$build/hot" "$kind" "$hits" 0 lines | ns_of)
            ratio=$(awk "BEGIN { printf \"%.2f\", $peer / $reference }")
        else
            peer=- ratio=-
        fi
        printf '%-8s %-8s %14s %14s %8s\n' "$kind" "$affinity" "$reference" "$peer" "$ratio"
    done
done
