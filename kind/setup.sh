#!/usr/bin/env bash
# `make k8s-setup`: from nothing to an API at http://127.0.0.1:8000. Each step can be run alone, and leaves alone what is done.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

"$kind_folder/preflight.sh"
for step in up images apply profile; do
  say "step $step"
  "$kind_folder/$step.sh" || fail "step $step failed; see above, put it right, and run make k8s-setup again: it carries on from here"
done
say "the API is at http://127.0.0.1:8000. Try it:"
echo "${CARGO_TARGET_DIR:-target}/release/assay --profile kind run examples/tasks/hello-file --agent oracle"
