#!/usr/bin/env bash
# Installs what is missing to build and run Kybern on Debian 12 (as root), and builds the binary.
# Prints what it does and how long that takes; doing it again costs seconds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
cd "$here/.."

packages() { # PACKAGE=PROGRAM-OR-FILE pairs: what is missing of them
  local want=() pair
  for pair in "$@"; do
    local file=${pair#*=}
    case $file in
      /*) compgen -G "$file" >/dev/null || want+=("${pair%%=*}") ;;
      *) command -v "$file" >/dev/null || want+=("${pair%%=*}") ;;
    esac
  done
  echo "${want[@]:-}"
}

[ "$(id -u)" = 0 ] || die "root is needed to install packages and to make network namespaces; run with sudo"
missing=$(packages ca-certificates=/etc/ssl/certs/ca-certificates.crt curl=curl git=git python3=python3 g++=g++ make=make \
  "libclang-dev=/usr/lib/llvm-*/lib/libclang.so" nftables=nft iproute2=ip busybox-static=/bin/busybox \
  containerd=containerd runc=runc openssl=openssl)
if [ -n "$missing" ]; then
  say "installing $missing (about a minute)"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # A package's service must not start here: nodes run a containerd of their own.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.kybern && chmod +x /usr/sbin/policy-rc.d.kybern
  [ -e /usr/sbin/policy-rc.d ] || { cp /usr/sbin/policy-rc.d.kybern /usr/sbin/policy-rc.d && own_policy=1; }
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $missing >/dev/null
  rm -f /usr/sbin/policy-rc.d.kybern; [ -z "${own_policy:-}" ] || rm -f /usr/sbin/policy-rc.d
fi
if [ -z "$(kubectl_path)" ]; then
  say "installing kubectl (Debian's kubernetes-client)"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends kubernetes-client >/dev/null
fi
if ! command -v cargo >/dev/null; then
  die "cargo is missing; install Rust with rustup (https://rustup.rs), then run this again"
fi
mkdir -p "$KYBERN_CACHE"
free=$(df -Pm "$KYBERN_CACHE" | awk 'NR == 2 { print $4 }')
[ "$free" -ge 6000 ] || die "$KYBERN_CACHE has $free MB free, the build needs 6000; set KYBERN_CACHE to another place"
[ -d "$CARGO_TARGET_DIR/release/deps" ] || say "the first build takes 15 to 25 minutes on two cores"
deploy/build-rocksdb.sh
say "building kybern"
cargo build --release --locked --package kybern "$@"
