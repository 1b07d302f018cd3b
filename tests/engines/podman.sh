#!/bin/sh
# Podman's API service under one folder, with its own storage.
#
# usage: podman.sh start FOLDER     prints the socket's path when the service answers
#        podman.sh stop FOLDER      stops that service, and no other
#        podman.sh run FOLDER …     podman on the same storage, e.g. `base-images.sh podman.sh run FOLDER`
set -eu

folder=$(realpath -m "${2:?folder}")
socket=$folder/podman.sock

say() { echo "podman.sh: $*" >&2; }

# The system's own limits and systemd are not to be relied on in a container or a test machine.
configure() {
    mkdir -p "$folder"
    cat >"$folder/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
CONF
}

ours() {
    CONTAINERS_CONF=$folder/containers.conf podman --root "$folder/root" --runroot "$folder/run" \
        --tmpdir "$folder/tmp" "$@"
}

answers() { curl -fsS --max-time 2 --unix-socket "$socket" http://d/_ping >/dev/null 2>&1; }

start() {
    command -v podman >/dev/null || { say "podman is missing: apt-get install podman"; exit 69; }
    configure
    if ! answers; then
        rm -f "$socket"
        CONTAINERS_CONF=$folder/containers.conf setsid podman --root "$folder/root" --runroot "$folder/run" \
            --tmpdir "$folder/tmp" system service --time 0 "unix://$socket" >"$folder/podman.log" 2>&1 </dev/null &
        echo $! >"$folder/podman.pid"
        tries=0
        until answers; do
            tries=$((tries + 1))
            [ $tries -lt 300 ] || { tail -20 "$folder/podman.log" >&2; say "no answer in 30 s"; exit 70; }
            sleep 0.1
        done
    fi
    echo "$socket"
}

stop() {
    [ -f "$folder/podman.pid" ] || return 0
    ours rm --all --force --time 0 >/dev/null 2>&1 || say "containers were left under $folder"
    kill "$(cat "$folder/podman.pid")" 2>/dev/null || true
    # Podman keeps its storage mounted, and a folder with mounts cannot be removed.
    umount --recursive "$folder/root/overlay" 2>/dev/null || true
}

case ${1:-} in
start) start ;;
stop) stop ;;
run)
    shift 2
    ours "$@"
    ;;
*) say "usage: podman.sh start|stop|run FOLDER"; exit 64 ;;
esac
