#!/usr/bin/env bash
# `make k8s-down`: removes cluster, registry and what was noted of them. Downloads stay. The CLI's profile `kind` stays too,
# and opens nothing any more.
set -uo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

has_cluster && kind_ delete cluster --name $cluster
container rm -f -v $registry >/dev/null 2>&1
rm -rf "$state/applied" "$state/registry" "$state/registry-address" "$state"/host-screener.* "$state/work"
say "the cluster is gone"
