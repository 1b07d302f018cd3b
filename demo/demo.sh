#!/usr/bin/env bash
# `make demo`: real agents on real tasks in real sandboxes, on this machine alone.
#
# Says first what is missing, with the one line that installs it (executed as root or with DEMO_INSTALL=1). Uses a
# running Docker or Podman, else starts a private dockerd as root. The model service is a scripted one; DEMO_REAL=1 with
# OPENROUTER_API_KEY uses the real service and says before what it can cost at most.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${ASSAY_CACHE:-$HOME/.cache/assay}
target=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p')
mkdir -p "$cache"
# Not below a home: the database's own user has to reach its folder.
work=$(mktemp -d /tmp/assay-demo.XXXXXX)
chmod 755 "$work"
bridge= # of a private dockerd
started=() # processes of ours, ended last to first

say() { echo "demo: $*" >&2; }

finish() {
  local status=$?
  set +e
  if [ -x "$target/debug/assay" ] && [ -d "$work/state" ]; then
    assay down --purge >"$work/down.log" 2>&1 || say "assay down failed, see $work/down.log"
  fi
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do kill "${started[$i]}" 2>/dev/null && wait "${started[$i]}" 2>/dev/null; done
  [ -z "$bridge" ] || ip link delete "$bridge"
  # Everything of a good demo is on the screen; a bad one leaves its folder for a look.
  if [ "$status" = 0 ]; then rm -rf "$work"; else say "logs are in $work"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

assay() { "$target/debug/assay" --profile demo "$@"; }
export ASSAY_CONFIG_DIR=$work/config ASSAY_STATE_DIR=$work/state

# 1. What is missing?
packages=()
need() { # package, test…
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || packages+=("$package")
}
has() { command -v "$1"; }
engine_answers() {
  local socket
  for socket in ${DOCKER_HOST:-} unix:///var/run/docker.sock "unix://$cache/demo-docker.sock" \
    unix:///run/podman/podman.sock "unix:///run/user/$(id -u)/podman/podman.sock"; do
    if curl -fsS --max-time 3 --unix-socket "${socket#unix://}" http://engine/_ping >/dev/null 2>&1; then
      engine=$socket
      return 0
    fi
  done
  return 1
}
# Kept from before, or there; else they may have to be made.
can_have_images() {
  local images=(debian:bookworm-slim python:3.12-slim)
  { [ -f "$cache/bookworm-slim-1.tar" ] && [ -f "$cache/python-slim-1.tar" ]; } || has debootstrap ||
    { engine_answers && DOCKER_HOST=$engine docker image inspect "${images[@]}"; }
}
# Somebody else's engine is told from none.
locked_engine() { [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; }
engine=
command -v cargo >/dev/null || { say "cargo is missing: install Rust by https://rustup.rs"; exit 69; }
need curl has curl
need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/postgres || command -v postgres'
need git has git
need python3 has python3
need python3-pip python3 -m pip --version
need cmake has cmake
need gcc has cc
need libc6-dev test -e /usr/include/stdio.h
need iproute2 has ip
[ "$(id -u)" != 0 ] || need debootstrap can_have_images
# Docker's client is what base images are made with; Podman's own is used for Podman.
need docker.io sh -c 'command -v docker || command -v podman'
if [ ${#packages[@]} -gt 0 ]; then
  line="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  if ! command -v apt-get >/dev/null; then
    say "missing: ${packages[*]} (names of Debian's packages); install what your system calls them"
    exit 69
  fi
  say "missing: ${packages[*]}"
  say "  $line"
  if [ "$(id -u)" = 0 ] || [ "${DEMO_INSTALL:-}" = 1 ]; then
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo sh -c "export DEBIAN_FRONTEND=noninteractive; $line" >"$work/apt.log" 2>&1 || { tail -5 "$work/apt.log" >&2; exit 69; }
  else
    say "run it, or run this again with DEMO_INSTALL=1"
    exit 69
  fi
fi

# 2. A container engine.
if ! engine_answers; then
  if [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null; then
    say "no engine answers; starting a private dockerd"
    # A bridge of its own: two daemons on one would take each other's addresses. One that was killed may have left it.
    ip link show assay-demo0 >/dev/null 2>&1 || ip link add assay-demo0 type bridge
    bridge=assay-demo0
    ip addr replace 172.30.255.1/24 dev assay-demo0
    dockerd --bridge assay-demo0 --host "unix://$cache/demo-docker.sock" --data-root "$cache/demo-docker" --exec-root "$work/docker-exec" \
      --pidfile "$work/docker.pid" >"$work/dockerd.log" 2>&1 &
    started+=($!)
    for _ in $(seq 600); do { engine_answers || ! kill -0 $! 2>/dev/null; } && break; sleep 0.2; done
  fi
  if [ -z "$engine" ] && locked_engine; then
    say "Docker is there, but $(id -un) may not use it: join the group docker and log in again, or run this as root"
    exit 69
  fi
  [ -n "$engine" ] || { say "no container engine answers; start Docker or \`podman system service\`"; exit 69; }
fi
export DOCKER_HOST=$engine
client=docker
command -v docker >/dev/null || client="podman --remote --url $engine"
say "engine at $engine"

# 3. Base images, our programs, the wheels of the agents.
# shellcheck disable=SC2086 # the client is a command with its options
tests/engines/base-images.sh $client
say "building (the first time takes minutes)"
cargo build --quiet -p assay-cli -p assay-tests --bin assay --bin assay-scripted-model
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile sandbox --target "$host" \
  -p assay-runner -p assay-init-iptables -p assay-proxy
demo/wheels.sh "$client" "$cache" "$work/agents"

# 4. The model service: scripted, unless asked otherwise.
if [ "${DEMO_REAL:-}" = 1 ]; then
  : "${OPENROUTER_API_KEY:?DEMO_REAL=1 needs OPENROUTER_API_KEY}"
  model=${DEMO_MODEL:-openai/gpt-5-mini}
  demo/real.sh "$model" "$work"
else
  model=assay-demo/scripted-1
  # The gateway of the engine's default bridge: sandboxes reach this machine there. Not every engine writes it down.
  gateway=$($client network inspect bridge --format '{{range .IPAM.Config}}{{.Gateway}}{{end}}' 2>/dev/null || true)
  [ -n "$gateway" ] || gateway=$($client network inspect podman --format '{{range .Subnets}}{{.Gateway}}{{end}}' 2>/dev/null || true)
  [ -n "$gateway" ] || gateway=$(ip -4 -o addr show "${bridge:-docker0}" 2>/dev/null | awk '{ split($4, a, "/"); print a[1] }')
  advertise=()
  listen=$gateway:0
  # Podman's bridge exists only while a container runs; then the service listens everywhere. Its key is random.
  if ! ip -4 -o addr show | grep -qF " $gateway/"; then
    listen=0.0.0.0:0 advertise=(--advertise "$gateway")
  fi
  "$target/debug/assay-scripted-model" --listen "$listen" ${advertise[@]+"${advertise[@]}"} --script demo/script.toml \
    --upstreams "$work/upstreams.toml" >"$work/model.log" 2>&1 &
  started+=($!)
  for _ in $(seq 1200); do { [ -s "$work/upstreams.toml" ] || ! kill -0 $! 2>/dev/null; } && break; sleep 0.1; done
  [ -s "$work/upstreams.toml" ] || { cat "$work/model.log" >&2; exit 70; }
  say "$(cat "$work/model.log") (no model answers: the words are in demo/script.toml)"
fi

# 5. Everything up, the runs, the table.
assay up --detach --slots "${DEMO_SLOTS:-3}" --upstreams "$work/upstreams.toml" \
  --sandbox-bin "$target/$host/sandbox" >&2
python3 demo/demo.py "$target/debug/assay" "$work/agents" "$model"
