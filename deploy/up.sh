#!/usr/bin/env bash
# Brings up three servers and two nodes on this machine and runs a first Deployment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
"$here/setup.sh"
kybern=$CARGO_TARGET_DIR/release/kybern
name=${KYBERN_NAME:-dev}

say "creating the cluster: three servers, two nodes"
"$kybern" dev create --name "$name" --servers 3 --nodes 2
KUBECONFIG=$("$kybern" dev kubeconfig --name "$name")
export KUBECONFIG
k() { "$(kubectl_path)" "$@"; }

say "importing a small web image"
image=$("$here/web-image.sh")
"$kybern" image import --name "$name" "$image"

say "a Deployment of three replicas and a Service"
k apply -f "$here/first.yaml"
k rollout status deployment/web --timeout=120s
k get nodes -o wide
k get pods -o wide
cat <<M

Kybern is up. Try:
  export KUBECONFIG=$KUBECONFIG
  kubectl get all
  kubectl scale deployment web --replicas 5
  kubectl logs deploy/web
  curl http://10.89.0.21:30080/          # the Service, at a node's NodePort
  $kybern dev kill server-1              # and watch nothing happen
  deploy/down.sh                         # remove everything
M
