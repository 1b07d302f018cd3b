#!/bin/sh
# Gives an engine the base images that task Dockerfiles name: those that it has, else made from what was kept here, else
# pulled where a registry answers, else made by debootstrap.
#
# usage: base-images.sh [COMMAND…]      COMMAND is the engine's client, `docker` when absent (or `podman --root … `)
# ONLY=IMAGE gives that one alone. ASSAY_PULL=never asks no registry.
#
# debian:bookworm-slim   Debian 12, minbase
# python:3.12-slim       the same with Debian's own Python (3.11), pip, venv, git and roots; `python` is `python3`
#
# debootstrap needs root. The root file systems are kept as tars in ${ASSAY_CACHE:-$HOME/.cache/assay}; a second
# engine gets its images from there within seconds.
set -eu

[ $# -gt 0 ] || set -- docker
cache=${ASSAY_CACHE:-$HOME/.cache/assay}
mkdir -p "$cache/debs"

say() { echo "base-images: $*" >&2; }

# make NAME EXTRA-PACKAGES: writes $cache/NAME.tar
make() {
    name=$1 include=$2
    [ "$(id -u)" = 0 ] || { say "no registry gave $name, and only root can make it"; exit 69; }
    command -v debootstrap >/dev/null || { say "debootstrap is missing: apt-get install debootstrap"; exit 69; }
    root=$(mktemp -d "$cache/$name.XXXXXX")
    trap 'rm -rf "$root"' EXIT
    say "making $name (takes a minute or two)"
    tries=1
    until debootstrap --variant=minbase --merged-usr --cache-dir="$cache/debs" ${include:+--include="$include"} \
        bookworm "$root" >"$cache/$name.log" 2>&1; do
        # A download may break off. What has come is kept, so another try only does the rest.
        if [ $tries -ge 3 ]; then
            tail -20 "$cache/$name.log" >&2
            say "debootstrap failed, see $cache/$name.log"
            exit 70
        fi
        tries=$((tries + 1))
        rm -rf "$root" && mkdir -m 700 "$root"
    done
    [ -z "$include" ] || ln -sf python3 "$root/usr/bin/python"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* \
        "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/var/log/*.log "$root"/etc/resolv.conf "$root"/etc/hostname
    tar -C "$root" --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$cache/$name.tar.part" .
    mv "$cache/$name.tar.part" "$cache/$name.tar"
    rm -rf "$root"
    trap - EXIT
}

# pull IMAGE ENGINE-COMMAND…: fails where no registry answers soon
pull() {
    image=$1
    shift
    [ "${ASSAY_PULL:-}" != never ] && timeout 60 "$@" pull -q "$image" >/dev/null 2>&1
}

# ensure IMAGE NAME EXTRA-PACKAGES CMD ENGINE-COMMAND…
ensure() {
    image=$1 name=$2 include=$3 cmd=$4
    shift 4
    [ -z "${ONLY:-}" ] || [ "$ONLY" = "$image" ] || return 0
    if "$@" image inspect "$image" >/dev/null 2>&1; then
        say "$image is there"
        return
    fi
    if [ ! -f "$cache/$name.tar" ] && pull "$image" "$@"; then
        say "$image pulled"
        return
    fi
    [ -f "$cache/$name.tar" ] || make "$name" "$include"
    "$@" import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change "CMD [\"$cmd\"]" "$cache/$name.tar" "$image" >/dev/null
    say "$image made from $cache/$name.tar"
}

# One maker at a time: several engines share the cache.
exec 9>"$cache/lock"
flock 9
ensure debian:bookworm-slim bookworm-slim-1 '' bash "$@"
ensure python:3.12-slim python-slim-1 \
    ca-certificates,python3,python3-pip,python3-venv,git python3 "$@"
