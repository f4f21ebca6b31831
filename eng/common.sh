# Sourced by the scripts of this repository: settings of the build, a temporary directory, and the count of what passed.

export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1 DOTNET_GENERATE_ASPNET_CERTIFICATE=false
# No build server stays behind, in a temporary directory that is about to go.
export MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false

configuration=Release
framework=net10.0

passed=0
failed=0
skipped=0

say() { printf '\n== %s\n' "$*"; }

# Makes $work: readable for another user, which runs tests in it, and removed at the end.
make_work_directory() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/fasttrap.XXXXXX")
    chmod 755 "$work"
    mkdir -m 1777 "$work/tmp"
    export TMPDIR="$work/tmp"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

require_dotnet() {
    if ! command -v dotnet > /dev/null || ! dotnet --list-sdks | grep -q '^10\.'; then
        echo "The .NET 10 SDK is not installed, or 'dotnet' is not on the PATH: see https://dotnet.microsoft.com/download." >&2
        return 1
    fi
}

# check NAME COMMAND...: one check, counted; its output is shown when it fails. Exit code 77 means: skipped, the output's last line says why.
check() {
    local name=$1 log="$work/check.log" code=0
    shift
    "$@" > "$log" 2>&1 < /dev/null || code=$?
    case $code in
        0) passed=$((passed + 1)); echo "passed   $name" ;;
        77) skipped=$((skipped + 1)); echo "skipped  $name: $(tail -n 1 "$log")" ;;
        *) failed=$((failed + 1)); echo "FAILED   $name (exit code $code)"; tail -n 100 "$log" ;;
    esac
    return 0
}

# Adds the counts of a test run's results file.
count_results() {
    local counters
    counters=$(grep -o '<Counters [^>]*' "$1" | head -n 1)
    value() { sed -n "s/.*[ ]$1=\"\([0-9]*\)\".*/\1/p" <<< "$counters"; }
    passed=$((passed + $(value passed)))
    failed=$((failed + $(value executed) - $(value passed)))
    skipped=$((skipped + $(value total) - $(value executed)))
}

# Why tests of a results file were skipped: how many, and the reason.
say_why_skipped() {
    awk '
        /<UnitTestResult / { skipped = /outcome="NotExecuted"/; if (skipped) reason = "run only when asked for" }
        skipped && /<Message>/ { reason = $0; sub(/.*<Message>/, "", reason); sub(/<.*/, "", reason) }
        skipped && (/<\/UnitTestResult>/ || /<UnitTestResult .*\/>/) { count[reason]++; skipped = 0 }
        END { for (reason in count) printf "skipped %d: %s\n", count[reason], reason }
    ' "$1"
}

# The last line of a run, and its exit code.
finish() {
    printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" -eq 0 ]
}
