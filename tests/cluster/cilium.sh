# Cilium as host processes: agent and operator, identities in the cluster's own objects, native routing, kube-proxy kept.
# Sourced by up.sh.
# shellcheck shell=bash disable=SC2154

mkdir -p "$state/cilium/lib" "$state/cilium/bin" /run/cilium
touch "$state/cilium.used"
[ -d "$state/cilium/lib/bpf" ] || cp -r "$cilium/bpf" "$state/cilium/lib/bpf"
# The agent compiles its programs; it calls `clang` and `llc`, and newer compilers warn about more.
[ -x "$state/cilium/bin/clang" ] || printf '#!/bin/sh\nexec /usr/bin/clang-19 "$@" -Wno-error\n' >"$state/cilium/bin/clang"
chmod +x "$state/cilium/bin/clang"
ln -sf /usr/bin/llc-19 "$state/cilium/bin/llc"
# A node that runs calls it at any time, so it is never half of it.
cmp -s "$cilium/cilium-cni" "$state/cni/bin/cilium-cni" ||
  { cp "$cilium/cilium-cni" "$state/cilium/cilium-cni" && mv "$state/cilium/cilium-cni" "$state/cni/bin/"; }
mountpoint -q /sys/fs/bpf || { mount -t bpf bpffs /sys/fs/bpf && touch "$state/cilium.bpffs"; }

common=(--k8s-kubeconfig-path="$pki/admin.kubeconfig" --k8s-namespace=kube-system --identity-allocation-mode=crd
  --ipam=kubernetes --enable-ipv4=true --enable-ipv6=false)
# It leaves when it cannot renew its lease in time; the API server is started again meanwhile, on a machine that may be busy.
start cilium-operator env K8S_NODE_NAME=node1 CILIUM_K8S_NAMESPACE=kube-system "$cilium/cilium-operator" "${common[@]}" \
  --operator-api-serve-addr=127.0.0.1:9234 --unmanaged-pod-watcher-interval=0 --remove-cilium-node-taints=false \
  --set-cilium-is-up-condition=false --enable-metrics=false --cilium-endpoint-gc-interval=5m \
  --leader-election-lease-duration=150s --leader-election-renew-deadline=120s
# A grace of 0: a label changed is a policy changed. ipBlocks never match addresses of nodes but for cidr-match-mode.
start cilium-agent env K8S_NODE_NAME=node1 CILIUM_K8S_NAMESPACE=kube-system "PATH=$state/cilium/bin:$PATH:/usr/sbin" \
  "$cilium/cilium-agent" "${common[@]}" --k8s-require-ipv4-pod-cidr=true --routing-mode=native \
  --ipv4-native-routing-cidr=10.244.0.0/16 --enable-ipv4-masquerade=false --install-iptables-rules=false \
  --enable-l7-proxy=false --enable-envoy-config=false --enable-hubble=false --enable-health-checking=false \
  --enable-endpoint-health-checking=false --kube-proxy-replacement=false --devices=assay-node \
  --direct-routing-device=assay-node --cgroup-root=/sys/fs/cgroup/unified --bpf-root=/sys/fs/bpf \
  --lib-dir="$state/cilium/lib" --state-dir=/run/cilium --enable-policy=default --cni-exclusive=false \
  --cni-log-file="$state/log/cilium-cni.log" --enable-xt-socket-fallback=false --enable-bandwidth-manager=false \
  --agent-health-port=9879 --enable-host-legacy-routing=true --identity-change-grace-period=0s \
  --policy-cidr-match-mode=nodes
until_ok cilium-agent 300 curl -fs --noproxy '*' -H 'brief: true' http://127.0.0.1:9879/healthz
# What the node itself sends carries this mark, else Cilium takes it for foreign and policies stop probes and control calls.
# Cilium's own rules would set it, together with much that is not needed here.
mark_own_packets() { iptables -w -t mangle "$1" OUTPUT -o cilium_host -m comment --comment assay-cluster -j MARK --set-xmark 0xc00/0xf00; }
mark_own_packets -C 2>/dev/null || mark_own_packets -A
# Written in place, not by the agent: containerd's watcher can miss its atomic rename, and the node stays not ready.
[ -f "$state/cni/conf/05-cilium.conflist" ] || echo '{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni",
"enable-debug":false,"log-file":"'"$state/log/cilium-cni.log"'"}]}' >"$state/cni/conf/05-cilium.conflist"
