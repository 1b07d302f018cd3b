#!/usr/bin/env bash
# Names all that `make k8s-setup` needs and this machine lacks, in one go, each with what to do.
set -uo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

missing=()
lack() { missing+=("$*"); }

number() { cat "/proc/sys/$1" 2>/dev/null || echo 0; }

programs() {
  [ -n "$(engine)" ] || lack "a container engine: install Docker or Podman, start it, and let this user use it (docker info)"
  command -v kind >/dev/null || lack "kind $KIND_VERSION or newer: go install sigs.k8s.io/kind@$KIND_VERSION"
  command -v kubectl >/dev/null || lack "kubectl: https://kubernetes.io/docs/tasks/tools"
  command -v helm >/dev/null || lack "helm 3.17 or newer (it installs the network): https://helm.sh/docs/intro/install"
  command -v cargo >/dev/null || lack "Rust: https://rustup.rs (rust-toolchain.toml names the version)"
  local program
  for program in curl sha256sum python3 perl tar; do
    command -v $program >/dev/null || lack "$program: install the package that has it"
  done
}

machine() {
  local free
  free=$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
  [ "$free" -ge 6000 ] || lack "memory: $free MiB are free, three nodes and the control plane want 6000"
  free=$(df -Pm "${TMPDIR:-/tmp}" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge 15000 ] || lack "disk: $free MiB are free, images and volumes want 15000"
  # Each kubelet and containerd watches many files.
  [ "$(number fs/inotify/max_user_instances)" -ge 512 ] || lack "inotify instances: sysctl -w fs.inotify.max_user_instances=512"
  [ "$(number fs/inotify/max_user_watches)" -ge 524288 ] || lack "inotify watches: sysctl -w fs.inotify.max_user_watches=524288"
}

# A port that our own cluster or registry holds is no obstacle.
ports() {
  local port
  for port in 8000 9000; do
    has_cluster || free_port $port || lack "port $port of 127.0.0.1: stop what listens there (ss -ltnp 'sport = :$port')"
  done
  container inspect $registry >/dev/null 2>&1 || free_port $registry_port ||
    lack "port $registry_port of 127.0.0.1: stop what listens there"
}

free_port() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

programs
machine
ports
[ ${#missing[@]} = 0 ] && exit 0
say "this is missing:"
printf '  - %s\n' "${missing[@]}" >&2
exit 69
