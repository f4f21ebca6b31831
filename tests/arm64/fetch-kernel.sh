#!/usr/bin/env bash
# fetch-kernel.sh DIRECTORY: puts Debian's arm64 cloud kernel (vmlinuz) and the modules of the virtio port into DIRECTORY. It uses the machine's own package
# sources, asked for arm64 through apt directories of their own: no root, no change of the machine.
set -euo pipefail
result=$1
work=$(mktemp -d "$(dirname "$result")/fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/apt/{lists/partial,archives/partial,preferences.d} "$work/kernel" "$work/result/modules"
touch "$work/apt/status"

apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | sort -u | while read -r uri suite; do
    echo "deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
done > "$work/apt/sources.list"
cat > "$work/apt/apt.conf" <<CONF
APT::Architecture "arm64"; APT::Architectures {"arm64";};
Dir::State "$work/apt"; Dir::State::status "$work/apt/status"; Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt"; Dir::Cache::archives "$work/apt/archives";
Dir::Etc::sourcelist "$work/apt/sources.list"; Dir::Etc::sourceparts "-"; Dir::Etc::preferencesparts "$work/apt/preferences.d";
APT::Sandbox::User "root"; Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false"; Acquire::Languages "none";
CONF
export APT_CONFIG="$work/apt/apt.conf"
apt-get update -qq
package=$(apt-cache depends linux-image-cloud-arm64 | awk '/Depends: linux-image/ { print $2; exit }')
[ -n "$package" ] || { echo "The package sources have no linux-image-cloud-arm64." >&2; exit 1; }
(cd "$work" && apt-get download -qq "$package")
dpkg-deb -x "$work"/linux-image-*.deb "$work/kernel"
cp "$work"/kernel/boot/vmlinuz-* "$work/result/vmlinuz"
for module in virtio/virtio virtio/virtio_ring virtio/virtio_mmio char/virtio_console; do
    cp "$work"/kernel/lib/modules/*/kernel/drivers/"$module".ko "$work/result/modules/"
done
chmod -R u+w "$work/result"
# Whoever comes second keeps what is there.
mv -T "$work/result" "$result" 2> /dev/null || [ -e "$result/vmlinuz" ]
