#!/bin/sh
# A Docker daemon of our own, under one folder.
#
# usage: docker.sh start FOLDER    prints the socket's path when the daemon answers
#        docker.sh left FOLDER     names what suites left there, one a line; fails where there is anything
#        docker.sh stop FOLDER     stops that daemon and what is left in its containers, and no other
#
# BRIDGE="NAME ADDRESS/BITS" gives it a bridge of its own, made by `start` and removed by `stop`: two daemons on one
# bridge would take each other's addresses.
set -eu

folder=$(realpath -m "${2:?folder}")
socket=$folder/docker.sock
. "$(dirname "$0")/lib.sh"

say() { echo "docker.sh: $*" >&2; }

ours() { docker -H "unix://$socket" "$@"; }

answers() { ours info >/dev/null 2>&1; }

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
    if ! answers; then
        setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" \
            --host "unix://$socket" ${bridge:+--bridge "$bridge"} >>"$folder/docker.log" 2>&1 </dev/null &
        until_it_answers $! "$folder/docker.log"
    fi
    echo "$socket"
}

# The daemon's own containerd, and the shims, which outlive both. The folder's path names them.
shims() { pgrep -f "containerd.*$folder/exec/" || true; }

left() {
    things=$(
        listed ps --all --format 'container {{.Names}} {{.Status}}'
        listed volume ls --format 'volume {{.Name}}'
        listed network ls --filter type=custom --format 'network {{.Name}}'
        for pid in $(inside); do name_process "$pid"; done
    )
    tell "$things"
}

stop() {
    if [ -f "$folder/docker.pid" ] && pid=$(cat "$folder/docker.pid") && kill "$pid" 2>/dev/null; then
        tries=0
        while kill -0 "$pid" 2>/dev/null && [ $tries -lt 600 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
        ! kill -0 "$pid" 2>/dev/null || end "$pid"
    fi
    # What a daemon that was killed leaves: its containers with their shims, its mounts.
    # shellcheck disable=SC2046 # lists of process ids
    end $(shims)
    # shellcheck disable=SC2046
    end $(inside)
    unmount
    [ -z "${BRIDGE:-}" ] || ip link del "${BRIDGE% *}" 2>/dev/null || true
}

case ${1:-} in
start) start ;;
left) left ;;
stop) stop ;;
*) say "usage: docker.sh start|left|stop FOLDER"; exit 64 ;;
esac
