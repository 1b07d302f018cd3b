#!/usr/bin/env bash
# A validator's key in the CLI's profile `kind`, made once.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

assay() { "${CARGO_TARGET_DIR:-$project/target}/release/assay" --profile kind "$@"; }

assay list >/dev/null 2>&1 && exit 0
key=$(kubectl_ exec -n assay-system deployment/api -c api -- assay-api key create --name "kind-$(random 4)" --scope validator)
assay login http://127.0.0.1:8000 <<<"$key"
