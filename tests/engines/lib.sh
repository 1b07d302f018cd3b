# shellcheck shell=sh
# What the scripts of both engines share. `$folder` is the engine's, and `say` its own.

# Waits until `answers`, for as long as the daemon lives and a busy machine may need.
until_it_answers() { # PID LOG
    tries=0
    until answers; do
        tries=$((tries + 1))
        if ! kill -0 "$1" 2>/dev/null || [ $tries -ge 1200 ]; then
            tail -20 "$2" >&2
            say "the daemon ended, or does not answer"
            exit 70
        fi
        sleep 0.1
    done
}

# The processes whose own root lies in the folder: those in containers, whoever has started them.
inside() {
    grep -sF "$folder/" /proc/[0-9]*/mountinfo | awk '$5 == "/" { split($1, path, "/"); print path[3] }' | sort -u
}

name_process() { # PID
    words=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | cut -c 1-200) || return 0
    # One that is dead and not yet collected has no words.
    [ -z "$words" ] || echo "process $1 $words"
}

# Prints what there is, and fails where there is anything.
tell() { # THINGS
    [ -n "$1" ] || return 0
    echo "$1"
    return 1
}

# What a client of the engine prints, or that it cannot.
listed() { # COMMAND…
    ours "$@" 2>/dev/null || echo "an engine that does not answer to $1 $2"
}

# Kills these processes and waits until they are gone.
end() { # PID…
    for pid in "$@"; do kill -9 "$pid" 2>/dev/null || true; done
    for pid in "$@"; do
        tries=0
        until [ -z "$(name_process "$pid")" ] || [ $tries -ge 100 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
    done
}

# Takes every mount beneath the folder away.
unmount() {
    awk -v folder="$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount -l "$mount" 2>/dev/null || true
    done
}
