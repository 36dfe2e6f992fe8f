#!/usr/bin/env bash
# Removes the cluster that up.sh made: processes, namespaces, mounts, cgroups and data.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
kybern=$CARGO_TARGET_DIR/release/kybern
[ -x "$kybern" ] || die "kybern is not built; nothing to remove"
"$kybern" dev delete --name "${KYBERN_NAME:-dev}"
