#!/usr/bin/env bash
# Runs every test: the gate (format, lints, docs, licences, edges, unit and seam tests), then the
# end-to-end tests on a dev cluster of their own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../deploy/env.sh"
cd "$here/.."
began=$(date +%s)
deploy/setup.sh
cargo xtask verify
if [ -f tests/e2e/Cargo.toml ] && [ "${SKIP_E2E:-}" != 1 ]; then
  tests/e2e/run.sh
fi
say "all green in $(( $(date +%s) - began )) s"
