#!/usr/bin/env bash
# Makes a small image from Debian's static busybox: a web server that tells its host name, a shell, and
# busybox's tools. Prints the path of the archive (docker save format).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"
out=$KYBERN_CACHE/images/web.tar
if [ -f "$out" ] && [ "$out" -nt "$0" ]; then echo "$out"; exit 0; fi
work=$(mktemp -d "${TMPDIR:-/tmp}/kybern-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,etc,tmp,www,proc,sys,dev,usr/bin,var/run} "$KYBERN_CACHE/images"
cp /bin/busybox "$root/bin/busybox"
chmod 1777 "$root/tmp"
for tool in $(/bin/busybox --list); do [ -e "$root/bin/$tool" ] || ln -s busybox "$root/bin/$tool"; done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
cat >"$root/bin/web" <<'W'
#!/bin/sh
# Serves its host name on port 8080, until SIGTERM.
mkdir -p /tmp/www && hostname >/tmp/www/index.html
trap 'kill $pid; exit 0' TERM INT
echo "web: serving as $(hostname) on :8080"
httpd -f -p 8080 -h /tmp/www &
pid=$!
wait $pid
W
chmod +x "$root/bin/web"
tar -C "$root" --sort=name --mtime='2020-01-01 00:00Z' --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .
diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
cat >"$work/config.json" <<J
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin:/usr/bin"],"Cmd":["/bin/web"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},"history":[{"created_by":"busybox-static"}]}
J
config=$(sha256sum "$work/config.json" | cut -d' ' -f1)
mkdir -p "$work/image" && mv "$work/layer.tar" "$work/image/$diff.tar" && mv "$work/config.json" "$work/image/$config.json"
printf '[{"Config":"%s.json","RepoTags":["kybern.local/web:1"],"Layers":["%s.tar"]}]' "$config" "$diff" >"$work/image/manifest.json"
tar -C "$work/image" --sort=name -cf "$out.partial" . && mv "$out.partial" "$out"
echo "$out"
