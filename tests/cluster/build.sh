#!/usr/bin/env bash
# Builds the programs of the test cluster from Go modules whose sums are in this folder, into
# ${ASSAY_CACHE:-$HOME/.cache/assay}/cluster/NAME-VERSION-SUM. What is there already is not built again.
#
# usage: build.sh [NAME…]        every component of `versions` unless named
#
# CLUSTER_GO names the folder for Go's caches (removed after each component: they grow by gigabytes, only the programs are
# kept). GOFLAGS=-p=1 makes it slower and leaner. CLUSTER_INSTALL=1 lets it install the packages that it needs.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

command -v go >/dev/null || fail "Go is missing; install Go $(sed -n 's/^go //p' "$cluster_folder/modules/kubernetes/go.mod") or newer and put it into PATH"

caches=${CLUSTER_GO:-$cluster_cache/go}
export GOCACHE=$caches/build GOMODCACHE=$caches/mod GOTOOLCHAIN=local

# One try. Not as a condition: there `set -e` is ignored, and a step that fails would be passed over.
try() { # component folder: its status is in `tried`
  set +e
  (set -e; cd "$cluster_folder/modules/$1"; . "$cluster_folder/build/$1.sh" "$2")
  tried=$?
  set -e
}

build() { # component
  local name=$1 bin part begin=$SECONDS again
  bin=$(bin_of "$name")
  [ -d "$bin" ] && return
  say "building $name $(version_of "$name")"
  mkdir -p "$cluster_cache"
  # What a build that was killed has left; nobody else builds now.
  rm -rf "$cluster_cache/.$name."??????
  part=$(mktemp -d "$cluster_cache/.$name.XXXXXX")
  # A download may break off. What has come is kept, and what was compiled, so another try only does the rest.
  for again in 1 2 3; do
    try "$name" "$part"
    [ $tried != 0 ] || break
    say "$name: try $again of 3 ended with status $tried"
  done
  if [ $tried != 0 ]; then
    rm -rf "$part"
    fail "$name was not built. A download that fails: try again, what is there is kept. A sum that differs: pin.sh and look at the change"
  fi
  chmod 755 "$part"
  mv "$part" "$bin"
  rm -rf "$GOCACHE"
  say "$name built in $((SECONDS - begin)) s, $(du -sm "$bin" | cut -f1) MiB"
}

[ $# -gt 0 ] || mapfile -t names < <(awk '!/^#/ && NF { print $1 }' "$cluster_folder/versions")
mkdir -p "$cluster_cache"
# One builder at a time: several checkouts share the cache.
exec 9>"$cluster_cache/lock"
flock 9
for name in "${@:-${names[@]}}"; do build "$name"; done
chmod -R u+w "$GOMODCACHE" 2>/dev/null || true
[ -n "${CLUSTER_KEEP_MODULES:-}" ] || rm -rf "$caches"
