#!/bin/sh
# Podman's API service under one folder, with its own storage.
#
# usage: podman.sh start FOLDER     prints the socket's path when the service answers
#        podman.sh left FOLDER      names what suites left there, one a line; fails where there is anything
#        podman.sh stop FOLDER      stops that service and what is left in its containers, and no other
#        podman.sh run FOLDER …     podman on the same storage, e.g. `base-images.sh podman.sh run FOLDER`
set -eu

folder=$(realpath -m "${2:?folder}")
socket=$folder/podman.sock
. "$(dirname "$0")/lib.sh"

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

answers() { curl -fsS --max-time 10 --unix-socket "$socket" http://d/_ping >/dev/null 2>&1; }

start() {
    command -v podman >/dev/null || { say "podman is missing: apt-get install podman"; exit 69; }
    configure
    if ! answers; then
        rm -f "$socket"
        forget_the_dead
        # Its monitors write a file "oom" to where it was started.
        cd "$folder"
        CONTAINERS_CONF=$folder/containers.conf setsid podman --root "$folder/root" --runroot "$folder/run" \
            --tmpdir "$folder/tmp" system service --time 0 "unix://$socket" >"$folder/podman.log" 2>&1 </dev/null &
        pid=$!
        echo $pid >"$folder/podman.pid"
        until_it_answers "$pid" "$folder/podman.log"
    fi
    echo "$socket"
}

# Its monitors outlive the service, and what they watch outlives them.
monitors() { pgrep -f "conmon .*$folder/root" || true; }

# Podman's network plug-in forwards ports of this machine to containers by packet rules. Those of a container that was
# killed rather than removed stay, and whoever is given such a port afterwards is reached by nobody.
forget_the_dead() {
    rules=$(iptables-save -t nat 2>/dev/null) || return 0
    forwarded=$(echo "$rules" | grep -- '--comment "dnat name: ') || return 0
    for id in $(echo "$forwarded" | grep -oE '[0-9a-f]{64}' | sort -u); do
        pgrep -f "conmon .*-c $id" >/dev/null && continue
        own=$(echo "$forwarded" | grep "$id")
        for port in $(echo "$own" | sed -n 's/.*--dport \([0-9]*\) .*/\1/p'); do
            echo "$rules" | grep -E -- "^-A NETAVARK-DN-.* --dport $port "
        done
        echo "$own"
    done | { echo '*nat'; sed 's/^-A/-D/' | sort -u; echo COMMIT; } | iptables-restore --noflush --wait ||
        say "rules of containers that are gone stay in the table nat"
}

left() {
    things=$(
        listed ps --all --format 'container {{.Names}} {{.Status}}'
        listed volume ls --format 'volume {{.Name}}'
        listed network ls --format 'network {{.Name}}' | grep -vx 'network podman' || true
        for pid in $(inside) $(monitors); do name_process "$pid"; done
    )
    tell "$things"
}

stop() {
    [ -f "$folder/podman.pid" ] || return 0
    # In the first round the holders of namespaces are refused, because others depend on them.
    ours rm --all --force --time 0 >/dev/null 2>&1 || ours rm --all --force --time 0 >/dev/null 2>&1 || true
    end "$(cat "$folder/podman.pid")"
    # shellcheck disable=SC2046 # lists of process ids
    end $(monitors)
    # shellcheck disable=SC2046
    end $(inside)
    forget_the_dead
    # Podman keeps its storage mounted, and a folder with mounts cannot be removed.
    unmount
}

case ${1:-} in
start) start ;;
left) left ;;
stop) stop ;;
run)
    shift 2
    ours "$@"
    ;;
*) say "usage: podman.sh start|left|stop|run FOLDER"; exit 64 ;;
esac
