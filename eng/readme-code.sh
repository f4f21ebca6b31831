#!/usr/bin/env bash
# readme-code.sh FILE DIRECTORY: takes the C# of a Markdown file out. The block which begins with "using" is a program: Program.cs. The others
# are fragments of one: each becomes a method of Fragments.cs, with a tracer, a process and an enabling to work on.
set -euo pipefail
awk -v directory="$2" '
    function open_fragment() {
        printf "    public static async Task Fragment%d(Tracer tracer, TracedProcess process, ProbeEnabling enabling, CancellationToken cancellationToken)\n    {\n", ++count > fragments
    }
    BEGIN {
        fragments = directory "/Fragments.cs"
        print "using FastTrap;\n\n#pragma warning disable CS1998, CA1416\ninternal static class Fragments\n{" > fragments
    }
    /^```csharp/ { inside = 1; first = 1; next }
    /^```/ && inside { if (!program) print "    }\n" > fragments; inside = 0; program = 0; next }
    inside && first {
        first = 0
        program = /^(using FastTrap|#:)/
        if (program) { if (programs++) { print "Two programs." > "/dev/stderr"; exit 1 } }
        else open_fragment()
    }
    inside { print > (program ? directory "/Program.cs" : fragments) }
    END { print "}" > fragments; if (programs != 1) exit 1 }
' "$1"
