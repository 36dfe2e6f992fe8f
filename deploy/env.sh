# Sourced by every script of the project: where builds and caches live (outside the checkout).
KYBERN_CACHE=${KYBERN_CACHE:-/var/cache/kybern}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$KYBERN_CACHE/target}
export ROCKSDB_LIB_DIR=${ROCKSDB_LIB_DIR:-$KYBERN_CACHE/rocksdb}
export ROCKSDB_STATIC=1
export KYBERN_CACHE
[ -n "${HOME:-}" ] && [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
# The newest kubectl of this machine, or nothing.
kubectl_path() {
  if [ -n "${KUBECTL:-}" ]; then echo "$KUBECTL"; return; fi
  local best
  best=$(ls -1 /usr/lib/google-cloud-sdk/bin/kubectl.1.* 2>/dev/null | sort -V | tail -n 1)
  [ -n "$best" ] && { echo "$best"; return; }
  command -v kubectl || true
}
