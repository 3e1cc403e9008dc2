#!/usr/bin/env bash
# What the rows that need a whole machine are run with: an emulator, a static busybox, tools for ext4, and a kernel with
# the few modules that find a disk. Debian's or Ubuntu's packages; the kernel is unpacked below the build directory and
# never installed. Running it again does nothing. Needs root, or sudo, for the packages.
#
# Ends with 0 if all is there, and with 1 and a sentence if it cannot be had: those rows are skipped then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
folder="${CARGO_TARGET_DIR:-target}/vm"

# Kernel packages that exist for virtual machines, the smallest first.
KERNELS=(linux-image-cloud-amd64 linux-image-virtual linux-image-amd64)
# Roughly in the order in which they need each other; what is built into the kernel has no file.
MODULES=(virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk
    crc16 mbcache jbd2 crc32c_generic libcrc32c ext4)

give_up() { echo "no virtual machine: $*" >&2; exit 1; }

[ "$(uname -m)" = x86_64 ] || give_up "the emulated machine is an x86_64 one"
command -v apt-get >/dev/null && command -v dpkg >/dev/null || give_up "there is no apt-get"

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
apt() { timeout 120 "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" >/dev/null; }

missing=()
command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1 || missing+=(busybox-static)
PATH="$PATH:/usr/sbin:/sbin"
command -v mkfs.ext4 >/dev/null && command -v debugfs >/dev/null || missing+=(e2fsprogs)
if [ "${#missing[@]}" -gt 0 ]; then
    apt install -y --no-install-recommends "${missing[@]}" 2>/dev/null || { apt update &&
        apt install -y --no-install-recommends "${missing[@]}"; } || give_up "apt-get cannot install ${missing[*]}"
fi

if [ ! -f "$folder/vmlinuz" ]; then
    # What a package depends on is the kernel of the day.
    package=
    for name in "${KERNELS[@]}"; do
        package="$(apt-cache depends --no-suggests "$name" 2>/dev/null |
            sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)"
        [ -z "$package" ] || break
    done
    [ -n "$package" ] || give_up "apt knows no kernel"
    rm -rf "$folder.draft"
    mkdir -p "$folder.draft/packages" "$folder.draft/modules"
    # Ubuntu keeps modules in a package of their own.
    (cd "$folder.draft/packages" && timeout 120 apt-get -q download "$package" >/dev/null 2>&1) ||
        give_up "apt-get cannot download $package"
    modules="${package/linux-image/linux-modules}"
    if apt-cache show "$modules" >/dev/null 2>&1; then
        (cd "$folder.draft/packages" && timeout 120 apt-get -q download "$modules" >/dev/null 2>&1) ||
            give_up "apt-get cannot download $modules"
    fi
    for file in "$folder.draft"/packages/*.deb; do dpkg -x "$file" "$folder.draft/unpacked"; done
    number=10
    for name in "${MODULES[@]}"; do
        file="$(find "$folder.draft/unpacked" \( -name "$name.ko" -o -name "$name.ko.xz" -o -name "$name.ko.zst" \) -print -quit)"
        number=$((number + 1))
        case "$file" in
            '') ;;
            *.xz) xz -dc "$file" >"$folder.draft/modules/$number-$name.ko" ;;
            *.zst) zstd -qdc "$file" >"$folder.draft/modules/$number-$name.ko" ;;
            *) cp "$file" "$folder.draft/modules/$number-$name.ko" ;;
        esac
    done
    cp "$folder.draft"/unpacked/boot/vmlinuz-* "$folder.draft/vmlinuz"
    rm -rf "$folder.draft/packages" "$folder.draft/unpacked" "$folder"
    mv "$folder.draft" "$folder"
fi
echo "virtual machine: $(qemu-system-x86_64 --version | head -n 1), kernel in $folder"
