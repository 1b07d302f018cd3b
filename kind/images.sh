#!/usr/bin/env bash
# `make k8s-images`: builds our programs and images, pushes them to the cluster's registry, and notes their digests for
# k8s-apply. What has not changed is not built again. The images that tasks start from are pushed too: builders reach no other
# registry.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# What the examples start from.
bases=(debian:bookworm-slim python:3.12-slim)
target=${CARGO_TARGET_DIR:-$project/target}
triple=$(rustc -vV | sed -n 's/^host: //p')
work=$(mktemp -d "${TMPDIR:-/tmp}/assay-images.XXXXXX")
place=127.0.0.1:$registry_port
plain=()
[ "$(engine)" = podman ] && plain=(--tls-verify=false)

finish() {
  rm -rf "$work"
  container logout $place >/dev/null 2>&1 || true
}
trap finish EXIT

# In the engine's own place for logins, for as long as this runs: what it has to know to find its service is kept there too.
log_in() {
  local password
  password=$(password operator)
  container login "${plain[@]}" --username operator --password-stdin $place <<<"$password" >/dev/null
}

programs() {
  make -C "$project" --no-print-directory sandbox
  (cd "$project" && cargo build --release -p assay-api -p assay-screener -p assay-cli)
}

push() { # name: of the folder with its Dockerfile in $work
  local tag=$place/assay/$1:latest
  container build -q -t "$tag" "$work/$1" >/dev/null
  container push -q "${plain[@]}" "$tag" >/dev/null
  digest "$1"
}

# An image of the world, under the name that Dockerfiles have for it.
base() { # image
  local tag=$place/library/$1
  container image inspect "$1" >/dev/null 2>&1 || container pull -q "$1" >/dev/null
  container tag "$1" "$tag"
  container push -q "${plain[@]}" "$tag" >/dev/null
}

# As the registry tells it, so that it is the one that nodes will see.
digest() { # name
  local kinds='application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json'
  curl -fsSI --noproxy '*' -H "Accept: $kinds" -K <(printf 'header = "Authorization: Basic %s"\n' "$(basic operator)") \
    "http://$place/v2/assay/$1/manifests/latest" |
    tr -d '\r' | awk 'tolower($1) == "docker-content-digest:" { print $2 }'
}

context_of() { # name program…: Dockerfile and what it copies
  local name=$1
  shift
  mkdir -p "$work/$name"
  cp "$project/images/$name/Dockerfile" "$work/$name/"
  if [ $# -gt 0 ]; then cp "$1" "$work/$name/program"; fi
}

log_in
programs
context_of api "$target/release/assay-api"
context_of screener "$target/release/assay-screener"
context_of cli "$target/release/assay"
context_of postgres && cp "$project/images/postgres/serve.sh" "$work/postgres/"
context_of builder "$target/$triple/sandbox/assay-builder"
context_of buildah
context_of proxy "$target/$triple/sandbox/assay-proxy"
# On Kubernetes init puts the runner in its place, so its image has both.
context_of init-iptables "$target/$triple/sandbox/assay-init-iptables"
cp "$target/$triple/sandbox/assay-runner" "$work/init-iptables/"
echo 'COPY assay-runner /assay-runner' >>"$work/init-iptables/Dockerfile"

mkdir -p "$state/applied/images"
{
  echo "apiVersion: kustomize.config.k8s.io/v1alpha1"
  echo "kind: Component"
  echo "images:"
  for name in api screener cli postgres init-iptables proxy; do
    say "image $name"
    echo "- {name: assay/$name, newName: $registry_host/assay/$name, digest: \"$(push $name)\"}"
  done
} >"$work/images.yaml"
mv "$work/images.yaml" "$state/applied/images/kustomization.yaml"
{
  echo "ASSAY_IMAGE_REPOSITORY=$registry_host/assay/tasks"
  for name in builder buildah; do
    say "image $name"
    echo "ASSAY_${name^^}_IMAGE=$registry_host/assay/$name@$(push $name)"
  done
} >"$work/builds.env"
mv "$work/builds.env" "$state/applied/builds.env"
for image in "${bases[@]}"; do
  say "base image $image"
  base "$image"
done
