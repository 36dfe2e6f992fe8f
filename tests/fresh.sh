#!/usr/bin/env bash
# Runs up.sh's install and build steps inside a minimal Debian 12 tree, with this machine's Rust toolchain
# mounted, so that a package missing from the scripts shows. Takes as long as a cold build (20 to 30 min).
# The tree is removed afterwards. Packages come from this machine's own apt sources.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../deploy/env.sh"
[ "$(id -u)" = 0 ] || die "root is needed for debootstrap and chroot"
command -v debootstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends debootstrap; }
tree=$(mktemp -d "$KYBERN_CACHE/fresh.XXXXXX")
mounts=()
cleanup() {
  for m in "${mounts[@]}"; do umount -l "$tree$m" 2>/dev/null || true; done
  # Never remove through a mount that is still there.
  grep -q " $tree/" /proc/self/mountinfo && die "$tree still has mounts; not removed"
  rm -rf "$tree"
}
trap cleanup EXIT
bind() { mkdir -p "$tree$2"; mount --bind "$1" "$tree$2"; mounts=("$2" "${mounts[@]}"); }

mirror=$(find /etc/apt -name '*.list' -exec cat {} + -o -name '*.sources' -exec cat {} + |
  awk '!found && /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:\/\//) { found = $i; break } }
       !found && /^URIs:/ { found = $2 } END { print found }')
[ -n "$mirror" ] || die "no package source is configured in /etc/apt"
say "making a minimal Debian 12 tree"
debootstrap --variant=minbase bookworm "$tree" "$mirror" >"$tree.log" 2>&1 || { tail -n 5 "$tree.log"; die "debootstrap failed"; }
rm -f "$tree.log"
cp -rL /etc/apt/. "$tree/etc/apt/"
[ -f /etc/resolv.conf ] && cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
[ -f /etc/hosts ] && cp -L /etc/hosts "$tree/etc/hosts"
mkdir -p "$tree/usr/local/share/ca-certificates" "$tree/etc/ssl/certs"
cp -rL /etc/ssl/certs/. "$tree/etc/ssl/certs/"
bind /proc /proc
bind /dev /dev
bind "${CARGO_HOME:-$HOME/.cargo}" /root/.cargo
bind "${RUSTUP_HOME:-$HOME/.rustup}" /root/.rustup
mkdir -p "$tree/src"
git -C "$here/.." archive HEAD | tar -x -C "$tree/src"
say "installing and building inside it"
env -i HOME=/root PATH=/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  $(env | grep -iE '^(https?|no|all)_proxy=|^(CARGO|PIP|SSL)_[A-Z_]*=' | grep -vE '^CARGO_(HOME|TARGET_DIR|MANIFEST)' || true) \
  chroot "$tree" /src/deploy/setup.sh
chroot "$tree" /var/cache/kybern/target/release/kybern --version
say "a fresh Debian 12 builds Kybern"
