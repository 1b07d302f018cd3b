# What Cilium leaves on a machine: devices, rules, maps. Sourced by down.sh, after its processes have ended.
# shellcheck shell=bash disable=SC2154

iptables -w -t mangle -D OUTPUT -o cilium_host -m comment --comment assay-cluster -j MARK --set-xmark 0xc00/0xf00 2>/dev/null
for device in cilium_host cilium_net cilium_vxlan $(ip -o link | grep -oE 'lxc[0-9a-f_]+(health)?' | sort -u); do
  ip link del "$device" 2>/dev/null
done
tc qdisc del dev assay-node clsact 2>/dev/null
ip rule | grep -E 'lookup 200[45]' | sed 's/^[0-9]*:\s*//' | while read -r rule; do
  # shellcheck disable=SC2086 # a rule is several words
  ip rule del $rule
done
awk '$5 ~ /^\/run\/cilium/ { print $5 }' /proc/self/mountinfo | sort -r | xargs -r -n1 umount
rm -rf /run/cilium
rm -rf /sys/fs/bpf/tc /sys/fs/bpf/cilium /sys/fs/bpf/xdp
[ ! -f "$state/cilium.bpffs" ] || umount /sys/fs/bpf
