#!/usr/bin/env bash
# Runs the end-to-end tests on a dev cluster of their own, and removes it again.
# With KUBECONFIG set, runs them against that cluster instead.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../deploy/env.sh"
cd "$here/../.."
kybern=$CARGO_TARGET_DIR/release/kybern
KUBECTL=$(kubectl_path)
export KUBECTL
# Debian 12's own client, 1.20, for tests/old_client.rs; they skip themselves where it can't be had.
old=$KYBERN_CACHE/kubectl-debian
if [ -z "${KUBECTL_OLD:-}" ] && [ ! -x "$old/usr/bin/kubectl" ]; then
  mkdir -p "$old"
  (cd "$old" && apt-get download kubernetes-client >/dev/null 2>&1 && dpkg -x kubernetes-client_*.deb . && rm -f ./*.deb) ||
    say "Debian's kubectl can't be had: its tests are skipped"
fi
export KUBECTL_OLD=${KUBECTL_OLD:-$old/usr/bin/kubectl}
# Debian's registry, for tests/registry.rs, which skips itself where it can't be had.
registry=$KYBERN_CACHE/docker-registry
if [ -z "${DOCKER_REGISTRY:-}" ] && [ ! -x "$registry/usr/bin/docker-registry" ]; then
  mkdir -p "$registry"
  (cd "$registry" && apt-get download docker-registry >/dev/null 2>&1 && dpkg -x docker-registry_*.deb . && rm -f ./*.deb) ||
    say "Debian's docker-registry can't be had: its test is skipped"
fi
if [ -x "$registry/usr/bin/docker-registry" ]; then
  export DOCKER_REGISTRY=${DOCKER_REGISTRY:-$registry/usr/bin/docker-registry}
fi
# The Python client and a program of the kube crate, for tests/clients.rs and tests/rolling.rs, which skip
# themselves where these can't be had.
python=$KYBERN_CACHE/python-client wanted=tests/clients/python/requirements.txt
if ! cmp -s "$wanted" "$python/requirements.txt"; then
  { python3 -m venv "$python" && "$python/bin/pip" install --quiet --retries 1 --timeout 15 --requirement "$wanted" &&
    cp "$wanted" "$python/"; } >/dev/null 2>&1 || say "the Python client can't be had: its tests are skipped"
fi
if cmp -s "$wanted" "$python/requirements.txt"; then export KYBERN_PYTHON=${KYBERN_PYTHON:-$python/bin/python}; fi
kube=$CARGO_TARGET_DIR/clients
if cargo build --quiet --locked --manifest-path tests/clients/kube/Cargo.toml --target-dir "$kube"; then
  export KYBERN_KUBE_CLIENT=${KYBERN_KUBE_CLIENT:-$kube/debug/kube-client-test}
else
  say "the kube crate's program can't be built: its test is skipped"
fi
if [ -z "${KUBECONFIG:-}" ]; then
  name=e2e
  "$kybern" dev delete --name $name >/dev/null
  finish() {
    code=$?
    [ $code = 0 ] || tail -n 30 /var/lib/kybern/dev/$name/*/kybern.log || true
    "$kybern" dev delete --name $name
    exit $code
  }
  trap finish EXIT
  "$kybern" dev create --name $name --servers 3 --nodes 2
  KUBECONFIG=$("$kybern" dev kubeconfig --name $name)
  export KUBECONFIG KYBERN=$kybern KYBERN_NAME=$name
  "$kybern" image import --name $name "$(deploy/web-image.sh)"
fi
say "end-to-end tests with $("$KUBECTL" version --client 2>/dev/null | head -n 1)"
cargo test --release --locked --package kybern-e2e -- --test-threads 4 "$@"
