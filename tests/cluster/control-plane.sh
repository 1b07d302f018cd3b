#!/usr/bin/env bash
# Puts the whole control plane onto the test cluster: images from the programs in a folder, Secrets of random keys, the
# manifests. Prints the API's address and, on the second line, an administrator's key. apply.sh has run before.
#
# usage: control-plane.sh KUBECTL ADMIN-KUBECONFIG REGISTRY-URL PROGRAMS       PROGRAMS: the folder of assay-api and the others
#        control-plane.sh down KUBECTL ADMIN-KUBECONFIG
#
# ASSAY_HELM=PROGRAM: the same by Helm and the chart, with KEDA's objects, on a cluster that apply.sh has not touched.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

if [ "${1:-}" = down ]; then
  shift
  kubectl=("${1:?kubectl}" --kubeconfig "${2:?kubeconfig}")
  "${kubectl[@]}" kustomize "$cluster_folder/overlay" | "${kubectl[@]}" delete --ignore-not-found --wait -f - >&2
  "${kubectl[@]}" delete secret -n assay-system --ignore-not-found database objects seal pending-work >&2
  exit 0
fi

kubectl=("${1:?usage: control-plane.sh KUBECTL KUBECONFIG REGISTRY-URL PROGRAMS}" --kubeconfig "${2:?kubeconfig}")
registry=${3:?registry} programs=${4:?programs}
client=("$cluster_folder/image.py" "$registry")
work=$(mktemp -d /tmp/assay-control-plane.XXXXXX)
trap 'rm -rf "$work"' EXIT

random() { od -An -vtx1 -N"$1" /dev/urandom | tr -d ' \n'; }

pack() { # folder: the same bytes for the same files
  tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$1.tar" .
  echo "$1.tar"
}

program() { # repository program
  mkdir -p "$work/$1/usr/local/bin" "$work/$1/etc/ssl/certs"
  cp -L /etc/ssl/certs/ca-certificates.crt "$work/$1/etc/ssl/certs/"
  strip -o "$work/$1/usr/local/bin/$2" "$programs/$2"
  "${client[@]}" import --base debian:bookworm-slim --change "ENTRYPOINT [\"/usr/local/bin/$2\"]" --change 'USER 10001:10001' \
    "$(pack "$work/$1")" "assay/$1:test"
}

# What images/postgres/Dockerfile installs, from this machine, which is the same Debian: programs, libraries, time zones.
postgres() {
  local root=$work/postgres bin libraries
  bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -1)
  mapfile -t libraries < <(ldd "$bin/postgres" "$bin/initdb" "$bin/psql" | awk '$2 == "=>" { print $3 }' | sort -u)
  mkdir -p "$root/usr/local/bin" "$root/etc"
  tar -C / -cf - "${bin#/}" "${bin:1:-4}/lib" "usr/share/postgresql/$(basename "${bin%/bin}")" usr/share/zoneinfo | tar -C "$root" -xf -
  # As files, not as links to them.
  tar -C / -chf - "${libraries[@]#/}" | tar -C "$root" -xf -
  cp "$cluster_folder/../../images/postgres/serve.sh" "$root/usr/local/bin/"
  printf 'root:x:0:0:root:/root:/bin/bash\nassay:x:10001:10001::/data:/usr/sbin/nologin\n' >"$root/etc/passwd"
  # The base has merged folders: what lies in /lib belongs to /usr/lib.
  if [ -d "$root/lib" ]; then cp -a "$root/lib/." "$root/usr/lib/" && rm -rf "${root:?}/lib"; fi
  "${client[@]}" import --base debian:bookworm-slim --change 'ENTRYPOINT ["/bin/sh", "/usr/local/bin/serve.sh"]' \
    --change 'USER 10001:10001' "$(pack "$root")" assay/postgres:test
}

# Builders have no aliases, so the object store is named by its address.
secrets() {
  local password
  "${kubectl[@]}" get secret -n assay-system seal >/dev/null 2>&1 && return
  password=$(random 24)
  # The seal is made last: without it, others are of a run that was killed here.
  "${kubectl[@]}" delete secret -n assay-system --ignore-not-found database objects pending-work >&2
  "${kubectl[@]}" create secret generic database -n assay-system --from-literal=password="$password" \
    --from-literal=url="postgres://assay:$password@postgres.assay-system.svc/assay" >&2
  "${kubectl[@]}" create secret generic objects -n assay-system --from-literal=endpoint=http://10.96.0.90:9000 \
    --from-literal=access-key="$(random 10)" --from-literal=secret-key="$(random 20)" >&2
  "${kubectl[@]}" create secret generic pending-work -n assay-system --from-literal=token="$(random 24)" >&2
  "${kubectl[@]}" create secret generic seal -n assay-system --from-literal=key="$(random 32)" >&2
}

pinned() { # repository: as pods name it
  echo "${registry#http://}/assay/$1@$("${client[@]}" digest "assay/$1:test")"
}

builds() { # separator: the screener's settings about images of tasks
  local builder=buildah
  [ -z "${ASSAY_KANIKO:-}" ] || builder=kaniko
  cat <<LINES
ASSAY_IMAGE_REPOSITORY$1${registry#http://}/assay/tasks
ASSAY_BUILDER_IMAGE$1$(pinned builder)
ASSAY_${builder^^}_IMAGE$1$(pinned $builder)
ASSAY_BUILD_MEMORY_MB$1"1024"
ASSAY_IMAGE_MB$1"2048"
LINES
}

named() { # a kustomization that puts digests over names
  echo "apiVersion: kustomize.config.k8s.io/v1beta1"
  echo "kind: Kustomization"
  echo "resources: [$(realpath --relative-to "$work/named" "$cluster_folder/overlay")]"
  echo "components: [images, $(realpath --relative-to "$work/named" "$cluster_folder/../../manifests/components/sandbox-images")]"
  echo "configMapGenerator:"
  echo "- {name: screener, namespace: assay-system, behavior: merge, options: {disableNameSuffixHash: true}, envs: [builds.env]}"
}

images() {
  local name
  echo "apiVersion: kustomize.config.k8s.io/v1alpha1"
  echo "kind: Component"
  echo "images:"
  for name in api screener cli postgres init-iptables proxy; do
    echo "- {name: assay/$name, newName: ${registry#http://}/assay/$name, digest: \"$("${client[@]}" digest "assay/$name:test")\"}"
  done
}

by_kustomize() {
  mkdir -p "$work/named/images"
  named >"$work/named/kustomization.yaml"
  builds '=' | tr -d '"' >"$work/named/builds.env"
  images >"$work/named/images/kustomization.yaml"
  # A Job cannot be changed.
  "${kubectl[@]}" delete job -n assay-system migrate --ignore-not-found --wait >&2
  "${kubectl[@]}" apply --server-side --force-conflicts -k "$work/named" >&2
  "${kubectl[@]}" rollout status -n assay-system statefulset/postgres --timeout=300s >&2
  "${kubectl[@]}" wait -n assay-system --for=condition=Complete job/migrate --timeout=300s >&2
}

values() { # what the overlay says, in the chart's words
  local name
  echo "images:"
  for name in api screener cli postgres init-iptables proxy; do
    echo "  ${name%-iptables}: \"$(pinned "$name")\""
  done
  cat <<YAML
development: {enabled: true}
keda: {enabled: true, maxReplicas: 3}
api:
  settings: {ASSAY_SLOTS_PER_WORKER: "2", ASSAY_MAX_WORKERS: "3"}
screeners:
  settings:
    ASSAY_RESOLVERS: 10.96.0.10:53
    ASSAY_MIRRORS: docker.io=$registry,${registry#http://}=$registry
    ASSAY_SLOTS: "2"
    ASSAY_CPU_REQUEST_PERCENT: "5"
YAML
  builds ': ' | sed 's/^/    /'
}

# Namespaces hold the Secrets that the chart wants, so they are there before it and become its own.
by_helm() {
  values >"$work/values.yaml"
  KUBECTL=${kubectl[0]} "$ASSAY_HELM" --kubeconfig "${kubectl[2]}" install assay "$cluster_folder/../../manifests/chart" \
    --namespace default --take-ownership --values "$work/values.yaml" --post-renderer "$cluster_folder/overlay/render.sh" \
    --wait --timeout 10m >&2
}

program api assay-api
program screener assay-screener
program cli assay
postgres
[ -z "${ASSAY_HELM:-}" ] || "${kubectl[@]}" apply -f "$cluster_folder/../../manifests/base/namespaces.yaml" >&2
secrets
if [ -n "${ASSAY_HELM:-}" ]; then by_helm; else by_kustomize; fi
for name in deployment/api statefulset/screener-1 statefulset/screener-2; do
  "${kubectl[@]}" rollout status -n assay-system "$name" --timeout=300s >&2
done
echo http://10.96.0.80:8000
"${kubectl[@]}" exec -n assay-system deployment/api -c api -- assay-api key create --name cluster --scope admin
