#!/usr/bin/env bash
# Zot on the test cluster, configured as manifests/components/registry does.
#
# usage: zot.sh open FOLDER ADDRESS:PORT      prints the configuration without users, for nodes and tests that have no name
#        zot.sh rights ZOT                    starts ZOT with all of it on loopback, and tries what each user may do
set -euo pipefail
. "$(dirname "$0")/lib.sh"

given=$cluster_folder/../../manifests/components/registry/zot.json

# Upstream registries cannot be reached from here.
config() { # folder address:port [open]
  python3 - "$given" "$@" <<'PY'
import json, os, sys
config = json.load(open(sys.argv[1]))
folder, place, kind = sys.argv[2], sys.argv[3], sys.argv[4:]
config["storage"]["rootDirectory"] = folder
config["http"]["address"], _, config["http"]["port"] = place.rpartition(":")
del config["extensions"]["sync"]
if kind:
    del config["http"]["auth"], config["http"]["accessControl"]
else:
    config["http"]["auth"]["htpasswd"]["path"] = os.path.join(os.path.dirname(folder), "htpasswd")
json.dump(config, sys.stdout, indent=2)
PY
}

status() { # wanted METHOD path [user]
  local wanted=$1 method=$2 path=$3 user=${4:-} login=() got
  [ -z "$user" ] || login=(--user "$user:$user")
  got=$(curl -s --noproxy '*' -o /dev/null -w '%{http_code}' -X "$method" "${login[@]}" "http://$place/v2/$path")
  [ "$got" = "$wanted" ] || fail "Zot answered $got to $method /v2/$path of ${user:-nobody}, and $wanted was wanted"
}

rights() { # zot
  local user
  place=127.0.0.1:5079 state=$(mktemp -d /tmp/assay-zot.XXXXXX)
  mkdir "$state/pid" "$state/log" "$state/store"
  trap 'stop zot; rm -rf "$state"' EXIT
  # bcrypt by the C library; each one's password is its name.
  for user in operator builder screener node; do
    perl -e 'print "$ARGV[0]:", crypt($ARGV[0], q($2y$05$assaytestclusterzotxxu)), "\n"' $user
  done >"$state/htpasswd"
  config "$state/store" $place >"$state/zot.json"
  "$1" verify "$state/zot.json" >"$state/log/zot.log" 2>&1 || { cat "$state/log/zot.log" >&2; fail "Zot does not take manifests/components/registry/zot.json"; }
  start zot "$1" serve "$state/zot.json"
  until_ok zot 20 curl -s --noproxy '*' -o /dev/null http://$place/v2/
  status 401 GET ''
  status 200 GET '' node
  status 202 POST assay/tasks/blobs/uploads/ builder
  for user in node screener; do status 403 POST assay/tasks/blobs/uploads/ $user; done
  status 403 POST library/debian/blobs/uploads/ builder
  status 202 POST library/debian/blobs/uploads/ operator
  say "Zot's rights are those of the manifests"
}

case ${1:-} in
open) config "${2:?folder}" "${3:?address:port}" open ;;
rights) rights "${2:?program}" ;;
*) fail "usage: zot.sh open FOLDER ADDRESS:PORT | zot.sh rights ZOT" ;;
esac
