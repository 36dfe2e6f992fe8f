#!/usr/bin/env bash
# Builds Kybern and an image of it, and starts three servers and two nodes as containers.
# Prints where the kubeconfig is. `docker compose -f deploy/compose/compose.yaml down -v` removes everything.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../env.sh"
command -v docker >/dev/null || die "docker is missing: apt-get install docker.io docker-compose"
compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
"$here/../setup.sh"
context=$(mktemp -d "${TMPDIR:-/tmp}/kybern-compose.XXXXXX")
trap 'rm -rf "$context"' EXIT
cp "$CARGO_TARGET_DIR/release/kybern" "$here/entry.sh" "$here/Dockerfile" "$context"
say "building the image"
docker build --quiet ${BASE_IMAGE:+--build-arg "BASE=$BASE_IMAGE"} --tag kybern:local "$context"
say "starting three servers and two nodes"
compose -f "$here/compose.yaml" --project-name kybern up --detach
config=$KYBERN_CACHE/compose.yaml
say "waiting for the first server"
for _ in $(seq 300); do
  if compose -f "$here/compose.yaml" --project-name kybern exec -T server-1 cat /shared/kybern.yaml >"$config" 2>/dev/null; then break; fi
  sleep 0.2
done
chmod 600 "$config"
# The API is published on loopback; the certificate names that address.
sed -i 's#server: https://[^ ]*#server: https://127.0.0.1:6443#' "$config"
KUBECONFIG=$config "$(kubectl_path)" wait --for=condition=Ready node --all --timeout=120s
cat <<M
Kybern is up. Try:
  export KUBECONFIG=$config
  kubectl get nodes
M
