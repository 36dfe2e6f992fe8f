#!/usr/bin/env bash
# Builds Kybern and brings up three servers and two nodes as virtual machines, with Vagrant.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../env.sh"
command -v vagrant >/dev/null || die "vagrant is missing: see https://developer.hashicorp.com/vagrant/install"
"$here/../setup.sh"
# Vagrant copies this directory into every machine as /vagrant; tokens come back from the first.
work=$KYBERN_CACHE/vagrant
mkdir -p "$work" && chmod 700 "$work"
cp "$here"/{Vagrantfile,provision.sh,kybern-server.service,kybern-agent.service} "$CARGO_TARGET_DIR/release/kybern" "$work"
cd "$work"
say "the first server"
vagrant up server-1
for file in server-token agent-token kybern.yaml; do
  vagrant ssh server-1 -c "sudo cat /vagrant/$file" 2>/dev/null >"$file"
done
chmod 600 server-token agent-token kybern.yaml
say "the other servers and the nodes"
vagrant rsync
vagrant up
KUBECONFIG=$work/kybern.yaml "$(kubectl_path)" wait --for=condition=Ready node --all --timeout=180s
cat <<M
Kybern is up. Try:
  export KUBECONFIG=$work/kybern.yaml
  kubectl get nodes
  (cd $work && vagrant destroy -f)       # remove everything
M
