#!/usr/bin/env bash
# Brings up a Kubernetes cluster of one node from host processes, with a registry of its own, in one folder. Prints the
# path of its kubeconfig. What runs already is left alone.
#
# usage: up.sh FOLDER
#
# CNI=cilium enforces NetworkPolicies; CNI=bridge does not. Without it: cilium where build.sh has built it, else bridge.
# ASSAY_SANDBOX_BIN: the folder of the static programs, for our own images. EVICT_BELOW: what must stay free of the node's
# memory, else its kubelet evicts pods (100Mi).
# One at a time on a machine: addresses are fixed (node 10.250.0.1, pods 10.244.0.0/16, services 10.96.0.0/16).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

state=$(realpath -m "${1:?usage: up.sh FOLDER}")
pki=$state/pki
need_root
need_packages "${cluster_packages[@]}"
for component in kubernetes containerd runc; do
  [ -d "$(bin_of $component)" ] || fail "$component is not built; run: tests/cluster/build.sh $component"
done
kubernetes=$(bin_of kubernetes) containerd=$(bin_of containerd) runc=$(bin_of runc) cilium=$(bin_of cilium)
[ -n "${CNI:-}" ] || { [ -d "$cilium" ] && CNI=cilium || CNI=bridge; }
kubectl() { "$kubernetes/kubectl" --kubeconfig "$pki/admin.kubeconfig" "$@"; }

mkdir -p "$state"/{pid,log,cni/conf,cni/bin,registry,kubelet,podlogs} "$run_folder"
echo "$CNI" >"$state/cni/name"
# For whoever wants the machine's one cluster next.
echo "$state" >"$run_folder/folder"

network() {
  # A node needs an address that is not the loopback; it stands on a bridge of its own.
  if ! ip link show assay-node >/dev/null 2>&1; then
    ip link add assay-node type bridge
    ip addr add $node_address/24 dev assay-node
    ip link set assay-node up
  fi
  [ -f "$state/ip_forward" ] || cat /proc/sys/net/ipv4/ip_forward >"$state/ip_forward"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  # A Docker on this machine drops everything else that is forwarded.
  for direction in -s -d; do
    iptables -w -C FORWARD "$direction" 10.244.0.0/16 -m comment --comment assay-cluster -j ACCEPT 2>/dev/null ||
      iptables -w -I FORWARD "$direction" 10.244.0.0/16 -m comment --comment assay-cluster -j ACCEPT
  done
}

registry() {
  [ -z "${ASSAY_ZOT:-}" ] || { zot; return; }
  cat >"$state/registry.yml" <<EOF
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $state/registry}, delete: {enabled: true}}
http: {addr: "$node_address:5000"}
EOF
  start registry docker-registry serve "$state/registry.yml"
  until_ok registry 180 curl -fs --noproxy '*' $registry_url/v2/
}

# What manifests/components/registry says, but for what this node lacks. Nodes and tests come without a name here; who may do
# what is tried on a second one, by the whole of that configuration.
zot() {
  "$cluster_folder/zot.sh" rights "$ASSAY_ZOT" || exit
  "$cluster_folder/zot.sh" open "$state/registry" $node_address:5000 >"$state/zot.json"
  "$ASSAY_ZOT" verify "$state/zot.json" >>"$state/log/registry.log" 2>&1 || fail "Zot does not take $state/zot.json; see $state/log/registry.log"
  start registry "$ASSAY_ZOT" serve "$state/zot.json"
  until_ok registry 180 curl -fs --noproxy '*' $registry_url/v2/
}

etcd() {
  start etcd etcd --name node1 --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
    --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
    --initial-cluster node1=http://127.0.0.1:12380
  until_ok etcd 180 curl -fs --noproxy '*' http://127.0.0.1:12379/health
}

containerd() {
  local hosts
  for hosts in docker.io $node_address:5000; do
    mkdir -p "$state/certs.d/$hosts"
    # Read at each pull, so never written while one may go on.
    [ -f "$state/certs.d/$hosts/hosts.toml" ] || printf 'server = "%s"\n[host."%s"]\ncapabilities = ["pull", "resolve"]\n' $registry_url $registry_url >"$state/certs.d/$hosts/hosts.toml"
  done
  cp -n /usr/lib/cni/* "$state/cni/bin/"
  cat >"$state/containerd.toml" <<EOF
version = 3
root = "$state/containerd"
state = "$run_folder/containerd"
oom_score = 0
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "$node_address:5000/assay/pause:1"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "$state/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["$state/cni/bin"]
    conf_dir = "$state/cni/conf"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "$runc/runc"
        SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "$state/opt"
EOF
  if [ "$CNI" = bridge ]; then
    cat >"$state/cni/conf/10-bridge.conflist" <<EOF
{"cniVersion":"1.0.0","name":"assay","plugins":[{"type":"bridge","bridge":"assay-pods","isGateway":true,"ipMasq":false,
 "hairpinMode":true,"ipam":{"type":"host-local","dataDir":"$state/cni/ipam","ranges":[[{"subnet":"10.244.0.0/24"}]],
 "routes":[{"dst":"0.0.0.0/0"}]}}]}
EOF
  fi
  start containerd env PATH="$containerd:$runc:$PATH" "$containerd/containerd" --config "$state/containerd.toml"
  until_ok containerd 180 "$containerd/ctr" -a "$containerd_socket" version
}

apiserver() {
  # Who asks for what, without what is said: how often our screeners do.
  cat >"$state/audit.yaml" <<EOF
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:assay-system:screener"]}
- {level: None}
EOF
  start kube-apiserver "$kubernetes/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 \
    --bind-address=$node_address --advertise-address=$node_address --secure-port=6443 --service-cluster-ip-range=10.96.0.0/16 \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --client-ca-file="$pki/ca.crt" \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-key-file="$pki/service-accounts.pub" --service-account-signing-key-file="$pki/service-accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User --proxy-client-cert-file="$pki/front-proxy-client.crt" \
    --proxy-client-key-file="$pki/front-proxy-client.key" --allow-privileged=true --profiling=false \
    --audit-policy-file="$state/audit.yaml" --audit-log-path="$state/log/audit.log" --audit-log-maxsize=64 --audit-log-maxbackup=1
  # The controller manager leaves at once when the roles that it needs are not there yet.
  until_ok kube-apiserver 300 kubectl get --raw /readyz
}

controllers() {
  local own="--kubeconfig=$pki/controller-manager.kubeconfig"
  start kube-controller-manager "$kubernetes/kube-controller-manager" "$own" "--authentication-${own#--}" "--authorization-${own#--}" \
    --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials=true \
    --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --allocate-node-cidrs=true --cluster-cidr=10.244.0.0/16 --service-cluster-ip-range=10.96.0.0/16
  own="--kubeconfig=$pki/scheduler.kubeconfig"
  start kube-scheduler "$kubernetes/kube-scheduler" "$own" "--authentication-${own#--}" "--authorization-${own#--}" \
    --bind-address=127.0.0.1 --leader-elect=false
}

kubelet() {
  # Read for each pod, so never written while there are some.
  [ -f "$state/resolv.conf" ] || echo "nameserver 127.0.0.1" >"$state/resolv.conf"
  cat >"$state/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_address
port: 10250
healthzBindAddress: 127.0.0.1
authentication: {x509: {clientCAFile: $pki/ca.crt}, webhook: {enabled: true}, anonymous: {enabled: false}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-server.crt
tlsPrivateKeyFile: $pki/kubelet-server.key
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
oomScoreAdj: 0
maxOpenFiles: 20000
podPidsLimit: 4096
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
resolvConf: $state/resolv.conf
containerRuntimeEndpoint: unix://$containerd_socket
staticPodPath: ""
serializeImagePulls: false
podLogsDir: $state/podlogs
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
# Soft: a hard one counts as memory that pods cannot have, and a kubelet that starts anew refuses them instead of evicting.
${EVICT_BELOW:+evictionSoft: {memory.available: "$EVICT_BELOW"\}}
${EVICT_BELOW:+evictionSoftGracePeriod: {memory.available: 1s\}}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
EOF
  start kubelet "$kubernetes/kubelet" --config="$state/kubelet.yaml" --kubeconfig="$pki/kubelet.kubeconfig" \
    --root-dir="$state/kubelet" --hostname-override=node1 --node-ip=$node_address
  until_ok kubelet 180 kubectl get node node1
}

kube_proxy() {
  # It leaves when its file is written anew.
  [ -f "$state/kube-proxy.yaml" ] || cat >"$state/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: node1
clientConnection: {kubeconfig: $pki/kube-proxy.kubeconfig}
clusterCIDR: 10.244.0.0/16
bindAddress: $node_address
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
nodePortAddresses: ["$node_address/32"]
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
oomScoreAdj: 0
EOF
  start kube-proxy "$kubernetes/kube-proxy" --config="$state/kube-proxy.yaml"
}

ready() { kubectl wait --for=condition=Ready node/node1 --timeout=1s; }
account() { kubectl get serviceaccount default; }

network
"$cluster_folder/pki.sh" "$pki" $node_address
registry
etcd
apiserver &
api=$!
containerd
"$cluster_folder/images.sh" $registry_url >&2
wait $api || fail "the API server does not get ready; its log is $state/log/kube-apiserver.log"
controllers
kubelet
kube_proxy
[ "$CNI" != cilium ] || . "$cluster_folder/cilium.sh"
until_ok kubelet 300 ready
until_ok kube-controller-manager 180 account
say "one node, Kubernetes $(version_of kubernetes), CNI $CNI, registry $registry_url, ready after $SECONDS s"
echo "$pki/admin.kubeconfig"
