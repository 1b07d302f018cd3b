#!/usr/bin/env bash
# Stops the cluster of one folder and removes what it left on the machine: processes, mounts, bridges, cgroups, rules.
#
# usage: down.sh FOLDER        KEEP=1 keeps the folder (logs, store, images)
set -uo pipefail
. "$(dirname "$0")/lib.sh"

state=$(realpath -m "${1:?usage: down.sh FOLDER}")
# Nothing was started there.
[ -d "$state/pid" ] || { rm -f "$state/passing"; rmdir "$state" 2>/dev/null; exit 0; }
need_root
ctr=("$(bin_of containerd)/ctr" -a "$containerd_socket" -n k8s.io)

stop_containers() {
  local round task
  alive containerd || return 0
  for round in 1 2 3; do
    for task in $("${ctr[@]}" tasks ls -q 2>/dev/null); do
      { timeout 10 "${ctr[@]}" tasks kill -s SIGKILL "$task"; timeout 10 "${ctr[@]}" tasks rm -f "$task"; } >/dev/null 2>&1 &
    done
    wait
  done
}

# A containerd that is gone kills nothing, and its containers outlive their shims. Its folder names the first process of each,
# whose end takes the others; the control group says that the number is still that one's.
stop_orphans() {
  local bundle pid
  for bundle in "$run_folder"/containerd/io.containerd.runtime.v2.task/k8s.io/*; do
    pid=$(cat "$bundle/init.pid" 2>/dev/null) || continue
    ! grep -qs -- "$(basename "$bundle")" "/proc/$pid/cgroup" || kill -9 "$pid" 2>/dev/null
  done
}

# Shims outlive their containerd; the socket's path in their arguments names ours.
stop_shims() {
  local process
  for process in /proc/[0-9]*; do
    if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q -- "shim.*-address $containerd_socket"; then
      kill -9 "${process#/proc/}" 2>/dev/null
    fi
  done
}

unmount() {
  awk -v state="$state/" -v run="$run_folder/" 'index($5, state) == 1 || index($5, run) == 1 { print $5 }' /proc/self/mountinfo |
    sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null; done
}

remove_network() {
  local device namespace direction
  "$(bin_of kubernetes)/kube-proxy" --cleanup >/dev/null 2>&1
  [ ! -f "$state/cilium.used" ] || . "$cluster_folder/cilium-down.sh"
  for device in assay-pods assay-node; do ip link del $device 2>/dev/null; done
  for namespace in $(ip netns list 2>/dev/null | awk '/^cni-/ { print $1 }'); do ip netns del "$namespace" 2>/dev/null; done
  for direction in -s -d; do
    iptables -w -D FORWARD "$direction" 10.244.0.0/16 -m comment --comment assay-cluster -j ACCEPT 2>/dev/null
  done
  [ ! -f "$state/ip_forward" ] || cat "$state/ip_forward" >/proc/sys/net/ipv4/ip_forward
}

remove_cgroups() {
  local root
  for root in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
    [ ! -d "$root" ] || find "$root" -depth -type d -exec rmdir {} \; 2>/dev/null
  done
}

stop kubelet
stop_containers
for name in kube-proxy cilium-agent cilium-operator kube-scheduler kube-controller-manager containerd; do stop $name & done
wait
stop kube-apiserver 30
stop registry
stop etcd
stop_orphans
stop_shims
remove_network
unmount
remove_cgroups
rm -rf "$run_folder"
[ -n "${KEEP:-}" ] || rm -rf "$state"
exit 0
