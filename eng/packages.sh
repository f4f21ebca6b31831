# Sourced by ./test: the packages as a stranger meets them, the README's code, the published tool.

check_packages() {
    check "pack" pack
    check "what is in the packages" look_into_packages
    check "README: the code compiles against the packages" build_stranger
    check "README: the program counts the calls of a running program" run_stranger
    check "the tool, trimmed: no analyser warns" publish_trimmed
    check "the tool, trimmed: it works" run_published "$work/trimmed"
    check "the tool, compiled ahead of time" publish_aot
}

pack() {
    dotnet pack FastTrap.sln -c "$configuration" --no-build -nologo -o "$work/packages"
}

# A package is a zip file; python3 is what reads one everywhere.
look_into_packages() {
    command -v python3 > /dev/null || { echo "python3 is not installed"; return 77; }
    python3 eng/look-into-packages.py "$work/packages"
}

# A project outside of this tree, which knows nothing but the packages.
build_stranger() {
    local stranger="$work/stranger" version
    version=$(basename "$work"/packages/FastTrap.Native.*.nupkg .nupkg)
    version=${version#FastTrap.Native.}
    mkdir -p "$stranger"
    eng/readme-code.sh README.md "$stranger" || return
    cat > "$stranger/nuget.config" << XML
<configuration><packageSources><add key="packages" value="$work/packages" /></packageSources></configuration>
XML
    # Packages already here serve; ours go to a directory of this run's, for their version may have been built before.
    cat > "$stranger/stranger.csproj" << XML
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <OutputType>Exe</OutputType>
    <TargetFramework>$framework</TargetFramework>
    <Nullable>enable</Nullable>
    <ImplicitUsings>enable</ImplicitUsings>
    <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
    <RestorePackagesPath>$work/restored</RestorePackagesPath>
    <RestoreFallbackFolders>$(dotnet nuget locals global-packages --list | sed 's/^[^:]*: //')</RestoreFallbackFolders>
  </PropertyGroup>
  <ItemGroup><PackageReference Include="FastTrap" Version="$version" /></ItemGroup>
</Project>
XML
    (cd "$stranger" && dotnet build -c "$configuration" -nologo -o "$work/stranger-out")
}

# The README's program attaches to a process and prints a line for each hit until it is interrupted.
run_stranger() {
    local calls=25 target tool lines
    command -v gcc > /dev/null || { echo "gcc is not installed"; return 77; }
    gcc -O0 -o "$work/greeter" -x c - << 'C' || return
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
int main(int argc, char **argv)
{
    long sum = 0;
    char line[16];
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        sum += labs(-atol(line));
    printf("sum %ld\n", sum);
    return 0;
}
C
    mkfifo "$work/greeter-in"
    "$work/greeter" < "$work/greeter-in" > "$work/greeter-out" &
    target=$!
    exec 4> "$work/greeter-in"
    env --default-signal=INT "$work/stranger-out/stranger" "$target" 'atol:entry' > "$work/hits" 2> "$work/hits-error" &
    tool=$!
    if ! wait_for "$tool" grep -q '^Probing' "$work/hits"; then
        cat "$work/hits" "$work/hits-error"
        kill "$target"
        return 1
    fi

    for ((i = 1; i <= calls; i++)); do echo "$i" >&4; done
    wait_for "$tool" eval '[ "$(grep -c "atol:entry" "$work/hits")" -ge "$calls" ]' || true
    kill -INT "$tool"
    wait "$tool" || true
    exec 4>&-
    wait "$target" || { echo "the target failed"; return 1; }
    lines=$(grep -c '^pid.*atol:entry' "$work/hits")
    cat "$work/hits" "$work/hits-error" "$work/greeter-out"
    [ "$lines" -eq "$calls" ] && grep -q "^sum $((calls * (calls + 1) / 2))\$" "$work/greeter-out"
}

# wait_for PID CONDITION...: until the condition holds, at most a minute, and only while the process lives.
wait_for() {
    local pid=$1 i
    shift
    for ((i = 0; i < 600; i++)); do
        "$@" && return 0
        kill -0 "$pid" 2> /dev/null || return 1
        sleep 0.1
    done
    return 1
}

publish_tool() {
    dotnet publish samples/fasttrap/fasttrap.csproj -c "$configuration" -r linux-x64 -nologo --artifacts-path "$work/artifacts" "$@"
}

publish_trimmed() {
    publish_tool --self-contained -p:PublishTrimmed=true -o "$work/trimmed" && return
    no_pack_skips
}

publish_aot() {
    publish_tool -p:PublishAot=true -o "$work/aot" || { no_pack_skips; return; }
    run_published "$work/aot"
}

# A source of packages need not have what publishing takes; that is no fault of this code.
no_pack_skips() {
    grep -q 'error NU1101.*\(Runtime\|ILCompiler\|ILLink\)' "$work/check.log" || return 1
    echo "the package source has not what publishing takes: $(grep -o 'NU1101: Unable to find package [A-Za-z0-9.-]*[A-Za-z0-9-]' "$work/check.log" | head -n 1)"
    return 77
}

run_published() {
    [ -x "$1/fasttrap" ] || { echo "there is no published tool"; return 77; }
    local libc
    libc=$(ls /lib/*-linux-gnu/libc.so.6 | head -n 1)
    "$1/fasttrap" list "$libc" ':malloc:entry' | grep -q ':malloc:entry$' || return 1
    "$1/fasttrap" count -c "/bin/ls /" 'libc.so.6:malloc:entry' 2>&1 | grep -q '[1-9].*libc.so.6:malloc:entry'
}
