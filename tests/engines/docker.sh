#!/bin/sh
# A Docker daemon of our own, under one folder.
#
# usage: docker.sh start FOLDER    prints the socket's path when the daemon answers
#        docker.sh stop FOLDER     stops that daemon, and no other
set -eu

folder=$(realpath -m "${2:?folder}")
socket=$folder/docker.sock

say() { echo "docker.sh: $*" >&2; }

start() {
    command -v dockerd >/dev/null || { say "dockerd is missing: apt-get install docker.io"; exit 69; }
    mkdir -p "$folder"
    if ! docker -H "unix://$socket" info >/dev/null 2>&1; then
        setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" \
            --host "unix://$socket" >"$folder/docker.log" 2>&1 </dev/null &
        tries=0
        until docker -H "unix://$socket" info >/dev/null 2>&1; do
            tries=$((tries + 1))
            [ $tries -lt 300 ] || { tail -20 "$folder/docker.log" >&2; say "no answer in 30 s"; exit 70; }
            sleep 0.1
        done
    fi
    echo "$socket"
}

stop() {
    [ -f "$folder/docker.pid" ] || return 0
    pid=$(cat "$folder/docker.pid")
    kill "$pid" 2>/dev/null || return 0
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 200 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) say "usage: docker.sh start|stop FOLDER"; exit 64 ;;
esac
