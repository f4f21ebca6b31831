# Sourced by ./test: the tests, as this user and, if that is root, as an ordinary user too.

# run_tests NAME DLL FILTER COMMAND-PREFIX...: runs the tests and counts them; an empty filter means all. A run that gives no results is one failure.
run_tests() {
    local name=$1 dll=$2 filter=$3 results code=0
    shift 3
    results="$work/results/$name"
    mkdir -p "$results"
    chmod 777 "$results"
    timeout --kill-after=30 1200 "$@" dotnet test "$dll" ${filter:+--filter "$filter"} --logger "trx;LogFileName=results.trx" --results-directory "$results" < /dev/null || code=$?
    if [ -s "$results/results.trx" ] && grep -q '<Counters ' "$results/results.trx"; then
        local before=$failed
        count_results "$results/results.trx"
        say_why_skipped "$results/results.trx"
        if [ "$code" -ne 0 ] && { [ "$failed" -eq "$before" ] || grep -q 'test run was aborted' "$results/results.trx"; }; then
            echo "The test run did not come to its end (exit code $code)."
            failed=$((failed + 1))
        fi
    else
        echo "The test run gave no results (exit code $code)."
        failed=$((failed + 1))
    fi
}

# Copies what the tests need (themselves, the tool, the sources), in the places relative to each other that it has here, and gives it to the ordinary user.
copy_for_user() {
    local copy=$1
    mkdir -p "$copy"
    tar -c --exclude=./.git --exclude=obj --exclude=TestResults --exclude=./artifacts --exclude='./benchmarks/*/bin' --exclude='./src/*/bin' . | tar -x -C "$copy"
    chmod -R a+rX "$copy"
    chown -R 65534:65534 "$copy"
}

# The .NET that is used here, or a copy if it lies where others may not look.
dotnet_for_everyone() {
    local root
    root=$(dirname "$(readlink -f "$(command -v dotnet)")")
    if ! "${as_user[@]}" test -x "$root/dotnet" -a -r "$root/sdk"; then
        cp -a "$root" "$work/dotnet"
        chmod -R a+rX "$work/dotnet"
        root="$work/dotnet"
    fi
    echo "$root"
}

run_tests_as_ordinary_user() {
    local home="$work/home" root
    if ! command -v setpriv > /dev/null; then
        echo "setpriv (util-linux) is not installed: the tests do not run as an ordinary user."
        skipped=$((skipped + 1))
        return
    fi

    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    copy_for_user "$work/copy"
    mkdir "$home"
    mkdir -m 1777 "$work/user-tmp"
    chown 65534:65534 "$home"
    root=$(dotnet_for_everyone)
    # It begins in the copy: not every directory above this one need be open to that user. What knows no users is left out: instruction sets, files and their symbols (but
    # not what is mapped), the code of programs, damaged inputs, the arm64 guest, the sources, what is of whole libraries by its size only, storms and sudden deaths.
    run_tests user "$work/copy/tests/FastTrap.Tests/bin/$configuration/$framework/FastTrap.Tests.dll" \
        'FullyQualifiedName!~Tests.Isa&FullyQualifiedName!~Arm64Live&FullyQualifiedName!~Tests.Fuzz&(FullyQualifiedName!~Tests.Symbols|FullyQualifiedName~ModuleMapTests)&FullyQualifiedName!~Tests.Programs.Compilation&FullyQualifiedName!~Tests.House&FullyQualifiedName!~WholeLibraryTests&FullyQualifiedName!~EverythingTests&FullyQualifiedName!~RealCodeTests&FullyQualifiedName!~StormTests&FullyQualifiedName!~KillTests' \
        "${as_user[@]}" env -C "$work/copy" HOME="$home" USER=nobody LOGNAME=nobody DOTNET_CLI_HOME="$home" TMPDIR="$work/user-tmp" \
        DOTNET_ROOT="$root" PATH="$root:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
}
