#!/usr/bin/env bash
# `make k8s-up`: the cluster, its registry, its network and the scaler. What is there already is left alone, so a run that
# failed is carried on by running it again.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

registry_() {
  container inspect $registry >/dev/null 2>&1 && { container start $registry >/dev/null; return; }
  say "starting the registry at 127.0.0.1:$registry_port"
  container run -d --restart=always --name $registry -p 127.0.0.1:$registry_port:5000 docker.io/library/registry:2 >/dev/null
}

cluster_() {
  has_cluster && return
  say "making the cluster (two or three minutes)"
  kind_ create cluster --config "$kind_folder/cluster.yaml" --wait 0s
}

# Nodes pull from our registry under its own name; containerd reads this without a restart.
mirrors() {
  local node address
  container network connect kind $registry 2>/dev/null || true
  address=$(container inspect -f '{{with index .NetworkSettings.Networks "kind"}}{{.IPAddress}}{{end}}' $registry)
  [ -n "$address" ] || fail "the registry has no address in the network kind; remove it ($(engine) rm -f $registry) and run this again"
  for node in $(kind_ get nodes --name $cluster); do
    for host in $registry_host docker.io; do
      container exec "$node" mkdir -p "/etc/containerd/certs.d/$host"
      # Upstream stays the second place of docker.io.
      printf '[host."http://%s:5000"]\ncapabilities = ["pull", "resolve"]\n' "$address" |
        container exec -i "$node" sh -c "cat >/etc/containerd/certs.d/$host/hosts.toml"
    done
  done
  # Pods (the screener asks for digests) know the same name.
  mkdir -p "$state"
  echo "$address" >"$state/registry-address"
}

network() {
  local chart=$state/cilium-$CILIUM_VERSION zip
  if [ ! -d "$chart" ]; then
    zip=$(fetch "$CILIUM_URL" "$CILIUM_SHA256" "cilium-$CILIUM_VERSION.zip")
    unzip_ "$zip" "github.com/cilium/cilium@$CILIUM_VERSION/install/kubernetes/cilium" "$chart"
  fi
  helm --kube-context "$context" upgrade --install cilium "$chart" --namespace kube-system --wait --timeout 10m \
    --set ipam.mode=kubernetes --set ipv6.enabled=true --set operator.replicas=1 \
    --set extraArgs='{--identity-change-grace-period=0s,--policy-cidr-match-mode=nodes}' >/dev/null
  kubectl_ wait --for=condition=Ready nodes --all --timeout=5m >&2
}

scaler() {
  local folder=$state/keda-$KEDA_VERSION zip
  if [ ! -d "$folder" ]; then
    zip=$(fetch "$KEDA_URL" "$KEDA_SHA256" "keda-$KEDA_VERSION.zip")
    unzip_ "$zip" "github.com/kedacore/keda/v2@$KEDA_VERSION/config" "$folder/config"
  fi
  # The manifests name no version; this does.
  cat >"$folder/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [config/default]
images:
- {name: ghcr.io/kedacore/keda, newTag: "${KEDA_VERSION#v}"}
- {name: ghcr.io/kedacore/keda-metrics-apiserver, newTag: "${KEDA_VERSION#v}"}
- {name: ghcr.io/kedacore/keda-admission-webhooks, newTag: "${KEDA_VERSION#v}"}
YAML
  kubectl_ apply --server-side --force-conflicts -k "$folder" >/dev/null
  kubectl_ rollout status -n keda deployment --timeout=5m >&2
}

unzip_() { # zip folder-in-it target
  python3 - "$@" <<'PYTHON'
import os, sys, zipfile
source, folder, target = sys.argv[1:]
with zipfile.ZipFile(source) as archive:
    for name in archive.namelist():
        if name.startswith(folder + "/") and not name.endswith("/"):
            path = os.path.join(target + ".part", name[len(folder) + 1:])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(archive.read(name))
os.rename(target + ".part", target)
PYTHON
}

registry_
cluster_
mirrors
network
scaler
say "the cluster is up: kubectl --context $context"
