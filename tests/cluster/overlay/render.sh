#!/usr/bin/env bash
# Helm's post-renderer on the test cluster: puts `fixed` over what the chart renders. KUBECTL names the client.
set -euo pipefail
fixed=$(cd "$(dirname "$0")" && pwd)/fixed
work=$(mktemp -d /tmp/assay-render.XXXXXX)
trap 'rm -rf "$work"' EXIT
cat >"$work/all.yaml"
cat >"$work/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [all.yaml]
components: [$(realpath --relative-to "$work" "$fixed")]
YAML
"$KUBECTL" kustomize "$work"
