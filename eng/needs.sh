#!/usr/bin/env bash
# Installs what the tests use, where it is missing and apt can. Nothing here may fail the run: a test whose program is missing is skipped and says so.
set -u
[ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null || { echo "Not root, or no apt: what is installed must do."; exit 0; }
export DEBIAN_FRONTEND=noninteractive

missing=()
need() {
    local package=$1 program
    shift
    for program; do
        command -v "$program" > /dev/null || compgen -G "$program" > /dev/null || { missing+=("$package"); return; }
    done
}

need gcc gcc
need libc6-dev '/usr/include/*/sys/ptrace.h'
need g++ g++
need musl-tools musl-gcc
need binutils readelf objcopy strip nm
need util-linux setpriv
need libssl-dev '/usr/lib/*/libcrypto.a'
need zlib1g-dev '/usr/lib/*/libz.a'
need golang-go go
need python3 /usr/bin/python3
need gdb gdb
need strace strace
need make make
need bpftrace bpftrace
need redis-server redis-server
need redis-tools redis-cli redis-benchmark
need default-jdk-headless java javac
# Debian keeps pgbench with the server.
need postgresql '/usr/lib/postgresql/*/bin/pgbench' '/usr/lib/postgresql/*/bin/initdb'
need libc6-dbg '/usr/lib/debug/.build-id'
need libstdc++6 '/usr/lib/*/libstdc++.so.6'
# arm64 without an arm64 machine: an emulator, a disassembler, libraries to read.
need libunicorn2 '/usr/lib/*/libunicorn.so.2'
need binutils-aarch64-linux-gnu aarch64-linux-gnu-objdump
need libc6-arm64-cross '/usr/aarch64-linux-gnu/lib/libc.so.6'
need libstdc++6-arm64-cross '/usr/aarch64-linux-gnu/lib/libstdc++.so.6'
# An arm64 machine: its programs are cross-compiled, its kernel is fetched by the tests.
need qemu-system-arm qemu-system-aarch64
need gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
need libc6-dev-arm64-cross '/usr/aarch64-linux-gnu/include/stdio.h'

[ "${#missing[@]}" -eq 0 ] && { echo "All is there."; exit 0; }
echo "Missing: ${missing[*]}"
timeout 300 apt-get update -qq < /dev/null || echo "apt-get update failed; trying with the lists there are."

# Servers that a package would start are no use to the tests, which start their own.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi

timeout 600 apt-get install -y -qq --no-install-recommends "${missing[@]}" < /dev/null && exit 0
for package in "${missing[@]}"; do
    timeout 300 apt-get install -y -qq --no-install-recommends "$package" < /dev/null || echo "$package cannot be had; tests which need it are skipped."
done
exit 0
