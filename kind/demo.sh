#!/usr/bin/env bash
# `make k8s-demo`: evaluates the oracle and a curious agent in the cluster, then shows what the proxy's audit says of it: a
# model call that was forwarded, and a connection that was denied.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

assay() { "${CARGO_TARGET_DIR:-$project/target}/release/assay" --profile kind "$@"; }
tasks=$project/examples/tasks agents=$project/examples/agents

assay run "$tasks/hello-file" --agent oracle
evaluation=$(assay --json submit "$tasks/ask-the-model" --agent "$agents/hostile" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
assay watch "$evaluation" || true
run=$(assay --json show "$evaluation" | python3 -c 'import json, sys; print(json.load(sys.stdin)["runs"][0]["id"])')
audit=$(assay logs "$run" --proxy)
say "one forwarded model call and one denied connection, from the proxy's audit:"
for line in ' model .* allow ' ' deny '; do
  grep -m1 -E -- "$line" <<<"$audit" || fail "the audit has no line with$line; model services come from the Secret upstreams (docs/OPERATIONS.md)"
done
