#!/usr/bin/env bash
# Makes one virtual machine a host of the cluster: NAME ROLE ADDRESS FIRST-SERVER.
# The first server leaves tokens and the kubeconfig in /vagrant, which up.sh carries to the others.
set -euo pipefail
name=$1 role=$2 address=$3 first=$4
export DEBIAN_FRONTEND=noninteractive
packages="ca-certificates libstdc++6"
[ "$role" = agent ] && packages="$packages containerd runc nftables iproute2"
apt-get update -qq
# A node supervises a containerd of its own.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $packages >/dev/null
rm -f /usr/sbin/policy-rc.d
install -m 755 /vagrant/kybern /usr/local/bin/kybern
install -d -m 700 /etc/kybern
{
  echo "node-ip: $address"
  if [ "$address" != "$first" ]; then
    echo "server: https://$first:6443"
    echo "token: $(cat "/vagrant/$role-token")"
  fi
} >/etc/kybern/config.yaml
chmod 600 /etc/kybern/config.yaml
install -m 644 "/vagrant/kybern-$role.service" /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now "kybern-$role"
[ "$address" = "$first" ] || exit 0
for _ in $(seq 300); do
  if kybern token create --role agent >/vagrant/agent-token 2>/dev/null; then break; fi
  sleep 0.2
done
kybern token create --role server >/vagrant/server-token
cp /etc/kybern/kybern.yaml /vagrant/kybern.yaml
