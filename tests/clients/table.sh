#!/usr/bin/env bash
# Shows the client matrix as a table, and fails when a client does. `make clients` builds the sandbox's programs first.
set -uo pipefail
cd "$(dirname "$0")/../.."

ASSAY_CLIENTS=$(tests/clients/setup.sh) || exit
triple=$(rustc -vV | sed -n 's/^host: //p')
export ASSAY_CLIENTS ASSAY_SANDBOX_BIN=${ASSAY_SANDBOX_BIN:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/$triple/sandbox}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --workspace --test clients -- --show-output --test-threads 1 >"$log" 2>&1
status=$?
{
  echo '| client | version | route | plain | streaming | verdict |'
  echo '|---|---|---|---|---|---|'
  grep '^| ' "$log"
} | column -t -s '|' -o '|'
grep '^skipped: ' "$log" | sort -u
[ "$status" = 0 ] || sed -n '/^failures:/,$p' "$log"
exit "$status"
