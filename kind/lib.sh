# What the scripts of `make k8s-…` share. Sourced, never run.
# shellcheck shell=bash disable=SC2034

kind_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(dirname "$kind_folder")
state=${ASSAY_KIND_STATE:-${XDG_STATE_HOME:-$HOME/.local/state}/assay/kind}
cluster=assay
registry=assay-registry
registry_host=registry.assay.test:5000
registry_port=5001
context=kind-$cluster

# shellcheck source=versions
. "$kind_folder/versions"

say() { echo "k8s: $*" >&2; }

fail() { # sentence: what is wrong, and what to do
  say "$*"
  exit 70
}

# Docker, or Podman where there is no Docker; kind follows KIND_EXPERIMENTAL_PROVIDER.
engine() {
  if [ -n "${ENGINE:-}" ]; then
    echo "$ENGINE"
  elif docker info >/dev/null 2>&1; then
    echo docker
  elif podman info >/dev/null 2>&1; then
    echo podman
  fi
}

container() { "$(engine)" "$@"; }

kind_() {
  if [ "$(engine)" = podman ]; then
    KIND_EXPERIMENTAL_PROVIDER=podman kind "$@"
  else
    kind "$@"
  fi
}

kubectl_() { kubectl --context "$context" "$@"; }

has_cluster() { kind_ get clusters 2>/dev/null | grep -qx "$cluster"; }

# A file of a fixed address, compared with its sum; kept, so that a second run asks nobody.
fetch() { # url sha256 name
  local file=$state/downloads/$3
  mkdir -p "$state/downloads"
  if [ ! -f "$file" ] || ! echo "$2  $file" | sha256sum --check --status; then
    say "fetching $1"
    curl -fsSL --retry 3 -o "$file.part" "$1" || fail "$1 cannot be fetched; check the network and run this again"
    echo "$2  $file.part" | sha256sum --check --status ||
      fail "$1 has another sum than kind/versions says: $(sha256sum "$file.part" | cut -d' ' -f1). Look at it before you trust it"
    mv "$file.part" "$file"
  fi
  echo "$file"
}

random() { # bytes: as hexadecimal digits
  od -An -vtx1 -N"$1" /dev/urandom | tr -d ' \n'
}

# The passwords of the registry's users, who are those of manifests/components/registry/zot.json.
password() { # user
  cat "$state/registry/passwords/$1" 2>/dev/null || fail "the registry has no users yet; run: make k8s-up"
}

# What a user says in a request.
basic() { # user
  local password
  password=$(password "$1")
  printf '%s:%s' "$1" "$password" | base64 -w0
}

# A .dockerconfigjson of one user, under each name that the registry has for somebody.
logins() { # user host…
  local user=$1 auth host all=()
  shift
  auth=$(basic "$user")
  for host; do all+=("\"$host\": {\"auth\": \"$auth\"}"); done
  (IFS=, && echo "{\"auths\": {${all[*]}}}")
}

has_secret() { kubectl_ get secret -n assay-system "$1" >/dev/null 2>&1; }
