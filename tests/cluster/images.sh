#!/usr/bin/env bash
# Puts the test cluster's images into its registry: the pause image, Debian for tasks, Buildah, Kaniko where ASSAY_KANIKO is the
# path of its executor, and our own images from the static programs in ASSAY_SANDBOX_BIN. What has changed is pushed again under
# the same name; pods name images by digest.
#
# usage: images.sh REGISTRY-URL        e.g. http://10.250.0.1:5000
set -euo pipefail
. "$(dirname "$0")/lib.sh"

registry=${1:?usage: images.sh REGISTRY-URL}
client=("$cluster_folder/image.py" "$registry")
work=$(mktemp -d /tmp/assay-images.XXXXXX)
trap 'rm -rf "$work"' EXIT

# layer NAME FILE…: a tar with these files in its root, the same bytes for the same files
layer() {
  local name=$1
  shift
  mkdir -p "$work/$name"
  [ $# = 0 ] || install -m 755 "$@" "$work/$name/"
  tar -C "$work/$name" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/$name.tar" .
  echo "$work/$name.tar"
}

gcc -static -Os -s -o "$work/pause" "$cluster_folder/pause.c"
"${client[@]}" import --change 'ENTRYPOINT ["/pause"]' "$(layer pause-image "$work/pause")" assay/pause:1
"$cluster_folder/../engines/base-images.sh" "${client[@]}"
"${client[@]}" import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  "$("$cluster_folder/buildah.sh")" assay/buildah:test
if [ -n "${ASSAY_KANIKO:-}" ]; then
  # Nothing but the program, where its own image has it: what else lay there would be taken for the base's.
  mkdir -p "$work/kaniko-image/kaniko"
  install -m 755 "$ASSAY_KANIKO" "$work/kaniko-image/kaniko/executor"
  "${client[@]}" import --change 'ENTRYPOINT ["/kaniko/executor"]' "$(layer kaniko-image)" assay/kaniko:test
fi

if [ -n "${ASSAY_SANDBOX_BIN:-}" ]; then
  programs=$ASSAY_SANDBOX_BIN
  [ -x "$programs/assay-runner" ] || fail "no assay-runner in $programs; run: make sandbox"
  "${client[@]}" import --change 'ENTRYPOINT ["/assay-init-iptables"]' \
    "$(layer init "$programs/assay-init-iptables" "$programs/assay-runner")" assay/init-iptables:test
  "${client[@]}" import --change 'ENTRYPOINT ["/assay-proxy"]' --change 'USER 1337:1337' \
    "$(layer proxy "$programs/assay-proxy")" assay/proxy:test
  "${client[@]}" import --change 'ENTRYPOINT ["/assay-builder"]' --change 'USER 1337:1337' \
    "$(layer builder "$programs/assay-builder")" assay/builder:test
fi
