#!/usr/bin/env bash
# `make k8s-up`: the cluster, its registry, its network and the scaler. What is there already is left alone, so a run that
# failed is carried on by running it again.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# A container beside the cluster, not the pod of manifests/components/registry: our own images, with which everything else starts,
# have to be somewhere before anything runs in the cluster, and neither a node port nor a volume is in the way of pushing them. It
# reads that component's own configuration, so who may push and who may only pull is the same here as there.
registry_() {
  local image folder=$state/registry
  image=$(zot)
  users
  mkdir -p "$folder/etc/config"
  cp "$project/manifests/components/registry/zot.json" "$folder/etc/config/zot.json"
  if [ "$(container inspect -f '{{index .Config.Labels "assay.dev/image"}}' $registry 2>/dev/null)" = "$image" ]; then
    container start $registry >/dev/null
  else
    say "starting the registry at 127.0.0.1:$registry_port"
    container rm -f -v $registry >/dev/null 2>&1 || true
    # As root of its container, since nobody else may read the users' file.
    container run -d --restart=always --name $registry --label "assay.dev/image=$image" --user 0 \
      -p 127.0.0.1:$registry_port:5000 -v "$folder/etc:/etc/zot:ro,z" -v /var/lib/zot \
      "$image" serve /etc/zot/config/zot.json >/dev/null
  fi
  curl -fsS --noproxy '*' --retry 30 --retry-delay 1 --retry-all-errors -o /dev/null "http://127.0.0.1:$registry_port/livez" \
    2>/dev/null || fail "the registry does not answer; see what it says: $(engine) logs $registry"
}

zot() {
  case $(uname -m) in
  x86_64) echo "ghcr.io/project-zot/zot-linux-amd64:$ZOT_VERSION@$ZOT_DIGEST_AMD64" ;;
  aarch64 | arm64) echo "ghcr.io/project-zot/zot-linux-arm64:$ZOT_VERSION@$ZOT_DIGEST_ARM64" ;;
  *) fail "there is no image of the registry (Zot) for a machine of kind $(uname -m)" ;;
  esac
}

# `operator` pushes our images (images.sh), `builder` those of tasks; `screener` and `node` only pull.
users() {
  local folder=$state/registry user
  [ -s "$folder/etc/users/htpasswd" ] && return
  # One from before knows other passwords.
  container rm -f -v $registry >/dev/null 2>&1 || true
  (
    umask 077
    mkdir -p "$folder/passwords" "$folder/etc/users"
    for user in operator builder screener node; do
      random 16 >"$folder/passwords/$user"
      hashed $user
    done >"$folder/htpasswd"
    mv "$folder/htpasswd" "$folder/etc/users/htpasswd"
  )
}

# A line of htpasswd: bcrypt, by the C library.
hashed() { # user
  password "$1" | perl -e 'my $hash = crypt(<STDIN>, "\$2y\$05\$$ARGV[1]") // "";
    $hash =~ /^\$2y/ or die "the C library of this machine has no bcrypt\n"; print "$ARGV[0]:$hash\n"' "$1" "$(random 11)"
}

cluster_() {
  has_cluster && return
  say "making the cluster (two or three minutes)"
  kind_ create cluster --config "$kind_folder/cluster.yaml" --wait 0s
}

# Nodes pull from our registry under its own name, as the user `node`; containerd reads this without a restart.
mirrors() {
  local node address login
  login=$(basic node)
  container network connect kind $registry 2>/dev/null || true
  address=$(container inspect -f '{{with index .NetworkSettings.Networks "kind"}}{{.IPAddress}}{{end}}' $registry)
  [ -n "$address" ] || fail "the registry has no address in the network kind; remove it ($(engine) rm -f $registry) and run this again"
  for node in $(kind_ get nodes --name $cluster); do
    for host in $registry_host docker.io; do
      container exec "$node" mkdir -p "/etc/containerd/certs.d/$host"
      # Upstream stays the second place of docker.io.
      printf '[host."%s"]\ncapabilities = ["pull", "resolve"]\n[host."%s".header]\nauthorization = "Basic %s"\n' \
        "http://$address:5000" "http://$address:5000" "$login" |
        container exec -i "$node" sh -c "umask 077 && cat >/etc/containerd/certs.d/$host/hosts.toml"
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
