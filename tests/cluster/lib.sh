# What the scripts of the test cluster share. Sourced, never run.
# shellcheck shell=bash

cluster_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster_cache=${ASSAY_CACHE:-$HOME/.cache/assay}/cluster

say() { echo "cluster: $*" >&2; }

fail() { # sentence: what is wrong, and what to do
  say "$*"
  exit 70
}

# Debian packages: what each is for stands beside it.
cluster_packages=(
  etcd-server                # the store of the API server
  containernetworking-plugins # loopback and the plain bridge
  libseccomp-dev gcc libc6-dev pkg-config # runc links libseccomp
  clang-19 llvm-19 bpftool   # Cilium compiles its programs when it starts
  docker-registry            # the registry that nodes pull from
  openssl curl iproute2 iptables nftables debootstrap util-linux
)

need_root() {
  [ "$(id -u)" = 0 ] || fail "needs root: a kubelet makes namespaces, mounts and cgroups. Run it as root"
}

# Says all that is missing in one line, or installs it where that is allowed (root and CLUSTER_INSTALL=1).
need_packages() { # package…
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  [ "${CLUSTER_INSTALL:-}" = 1 ] || fail "missing packages; run: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  # A package that starts a service of its own would take our ports.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.assay && chmod +x /usr/sbin/policy-rc.d.assay
  local kept=
  [ -e /usr/sbin/policy-rc.d ] && kept=1 || mv /usr/sbin/policy-rc.d.assay /usr/sbin/policy-rc.d
  local status=0
  # A mirror that hiccups is asked again, and another apt on this machine is waited for.
  local patient=(-o Acquire::Retries=5 -o DPkg::Lock::Timeout=600)
  { apt-get "${patient[@]}" update -qq && DEBIAN_FRONTEND=noninteractive apt-get "${patient[@]}" install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } || status=$?
  rm -f /usr/sbin/policy-rc.d.assay
  [ -n "$kept" ] || rm -f /usr/sbin/policy-rc.d
  [ $status = 0 ] || fail "apt-get could not install ${missing[*]}; see its messages above"
}

version_of() { # component
  awk -v name="$1" '$1 == name { print $2 }' "$cluster_folder/versions"
}

module_of() { # component
  awk -v name="$1" '$1 == name { print $3 }' "$cluster_folder/versions"
}

programs_of() { # component: its main packages as import paths
  awk -v name="$1" '$1 == name { for (i = 4; i <= NF; i++) print ($i == "." ? $3 : $3 "/" $i) }' "$cluster_folder/versions"
}

# Where a component's programs lie. The name says what they were made from, so nothing stale is ever used.
bin_of() { # component
  local made
  made=$(cat "$cluster_folder/modules/$1/go.mod" "$cluster_folder/modules/$1/go.sum" "$cluster_folder/build/$1.sh" | sha256sum)
  echo "$cluster_cache/$1-$(version_of "$1")-${made:0:10}"
}

# --- a running cluster: everything of it lies in one folder, its processes are known by pid

node_address=10.250.0.1
registry_url=http://$node_address:5000
# Sockets have short names by law; the folder may be deep.
run_folder=/run/assay-cluster
containerd_socket=$run_folder/containerd.sock

alive() { # name
  local pid
  [ -f "$state/pid/$1" ] && pid=$(cat "$state/pid/$1") && [ -d "/proc/$pid" ] && [ "$(ps -o stat= -p "$pid" | cut -c1)" != Z ]
}

start() { # name command…
  local name=$1
  shift
  if alive "$name"; then return; fi
  # Not with the lock of run.sh: it is to be free when that has been killed.
  setsid "$@" >>"$state/log/$name.log" 2>&1 </dev/null 8>&- &
  echo $! >"$state/pid/$name"
}

stop() { # name [tenths of a second]
  local pid tries=0
  [ -f "$state/pid/$1" ] || return 0
  pid=$(cat "$state/pid/$1")
  # Each names its folder in its arguments; after a restart of the machine the number is somebody else's.
  if ! grep -qszF -- "$state" "/proc/$pid/cmdline"; then
    rm -f "$state/pid/$1"
    return 0
  fi
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt "${2:-50}" ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$state/pid/$1"
}

# Waits for a command to succeed; the log's end says what is wrong where it does not.
until_ok() { # name seconds command…
  local name=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ] || ! alive "$name"; then
      tail -40 "$state/log/$name.log" >&2
      fail "$name does not answer to: $*. Its log is $state/log/$name.log"
    fi
    sleep 0.1
  done
}
