#!/bin/sh
# A Docker daemon of our own, under one folder.
#
# usage: docker.sh start FOLDER    prints the socket's path when the daemon answers
#        docker.sh stop FOLDER     stops that daemon, and no other
#
# BRIDGE="NAME ADDRESS/BITS" gives it a bridge of its own, made by `start` and removed by `stop`: two daemons on one
# bridge would take each other's addresses.
set -eu

folder=$(realpath -m "${2:?folder}")
socket=$folder/docker.sock

say() { echo "docker.sh: $*" >&2; }

start() {
    command -v dockerd >/dev/null || { say "dockerd is missing: apt-get install docker.io"; exit 69; }
    mkdir -p "$folder"
    bridge=
    if [ -n "${BRIDGE:-}" ]; then
        bridge=${BRIDGE% *}
        if ! ip link show "$bridge" >/dev/null 2>&1; then
            ip link add "$bridge" type bridge
            ip addr add "${BRIDGE#* }" dev "$bridge"
        fi
    fi
    if ! docker -H "unix://$socket" info >/dev/null 2>&1; then
        setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" \
            --host "unix://$socket" ${bridge:+--bridge "$bridge"} >>"$folder/docker.log" 2>&1 </dev/null &
        tries=0
        until docker -H "unix://$socket" info >/dev/null 2>&1; do
            tries=$((tries + 1))
            [ $tries -lt 300 ] || { tail -20 "$folder/docker.log" >&2; say "no answer in 30 s"; exit 70; }
            sleep 0.1
        done
    fi
    echo "$socket"
}

# What a daemon that was killed leaves: its containers with their shims, its mounts. The folder's path names them.
sweep() {
    for shim in $(pgrep -f "containerd.*$folder/exec/" || true); do
        # shellcheck disable=SC2046 # a list of process ids
        kill -9 $(pgrep -P "$shim") "$shim" 2>/dev/null || true
    done
    awk -v folder="$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount -l "$mount" 2>/dev/null || true
    done
}

stop() {
    if [ -f "$folder/docker.pid" ] && pid=$(cat "$folder/docker.pid") && kill "$pid" 2>/dev/null; then
        tries=0
        while kill -0 "$pid" 2>/dev/null && [ $tries -lt 200 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
    fi
    sweep
    [ -z "${BRIDGE:-}" ] || ip link del "${BRIDGE% *}" 2>/dev/null || true
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) say "usage: docker.sh start|stop FOLDER"; exit 64 ;;
esac
