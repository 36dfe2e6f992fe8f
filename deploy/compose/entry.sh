#!/bin/sh
# Starts one host of the compose cluster: first | server | agent.
# The first server leaves join tokens and the administrator's kubeconfig in the shared volume.
set -eu
shared=/shared
api="--server https://server-1:6443"

token() { # waits for a token the first server has made
  tries=0
  until [ -s "$shared/$1" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { echo "error: the first server has made no $1 in two minutes; see its log" >&2; exit 1; }
    sleep 0.2
  done
  cat "$shared/$1"
}

hand_out() { # makes a token as soon as the API answers
  tries=0
  until kybern token create --role "$1" --ttl 24h --kubeconfig "$shared/kybern.yaml" >"$shared/.$1" 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || exit 1
    sleep 0.2
  done
  mv "$shared/.$1" "$shared/$1-token"
}

case $1 in
  first)
    umask 077
    (hand_out server && hand_out agent) &
    exec kybern server --cluster-init --write-kubeconfig "$shared/kybern.yaml" --tls-san 127.0.0.1
    ;;
  # A server that has joined once needs no token any more, but one does no harm.
  server) t=$(token server-token) && exec kybern server $api --token "$t" ;;
  agent) t=$(token agent-token) && exec kybern agent $api --token "$t" ;;
  *) echo "usage: entry.sh first|server|agent" >&2; exit 2 ;;
esac
