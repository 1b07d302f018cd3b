#!/usr/bin/env bash
# Runs every test that this machine can run and ends with one line: N passed, N failed, N skipped.
# Starts private container daemons where it may (root, packages installed) and stops them again.
# ASSAY_NO_SKIP, ASSAY_MAY_SKIP: see tally.sh.
set -uo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
triple=$(rustc -vV | sed -n 's/^host: //p')
work=$(mktemp -d /tmp/assay-tests.XXXXXX)
log=$work/tests.log
export ASSAY_SANDBOX_BIN=${ASSAY_SANDBOX_BIN:-$(realpath -m "$target")/$triple/sandbox}

stop() {
  for engine in docker podman; do
    [ -d "$work/$engine" ] && tests/engines/$engine.sh stop "$work/$engine"
  done
  rm -rf "$work"
}
trap stop EXIT

# A daemon of our own: the tests create and destroy containers and must not meet anybody else's.
start_engine() { # name program variable
  local name=$1 program=$2 variable=$3
  if [ -n "${!variable:-}" ]; then return; fi
  if [ "$(id -u)" != 0 ] || ! command -v "$program" >/dev/null; then
    echo "tests: no private $name (needs root and $program)"
    return
  fi
  mkdir -p "$work/$name"
  if socket=$(tests/engines/$name.sh start "$work/$name"); then
    # Without them every test there would fail; so they say what they lack instead.
    if DOCKER_HOST=unix://$socket tests/engines/base-images.sh; then
      export "$variable=$socket"
    else
      echo "tests: no base images in $name, so nothing runs there"
    fi
  else
    echo "tests: $name did not start"
  fi
}
start_engine docker dockerd ASSAY_TEST_DOCKER
start_engine podman podman ASSAY_TEST_PODMAN

# Each target of the fuzz driver in proxy/tests/fuzz.rs.
export ASSAY_FUZZ_SECONDS=${ASSAY_FUZZ_SECONDS:-10}
cargo test --workspace --no-fail-fast -- --show-output 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
# A screener's attempts and what runs leave, once more on the other engine.
if [ -n "${ASSAY_TEST_PODMAN:-}" ]; then
  ASSAY_TEST_DOCKER=$ASSAY_TEST_PODMAN cargo test --workspace --no-fail-fast --test attempt --test records -- --show-output 2>&1 | tee -a "$log"
  [ "${PIPESTATUS[0]}" = 0 ] || status=1
fi
# Every interleaving of the account. The crate is compiled for it in another way, so it has a folder of its own.
RUSTFLAGS="--cfg loom" cargo test -p assay-core --test loom --target-dir "$target/loom" 2>&1 | tee -a "$log"
[ "${PIPESTATUS[0]}" = 0 ] || status=1

# A suite takes away what it made; what it did not is named. Told as a test is, so that it counts as one.
if_nothing_is_left() { # name
  local things
  if things=$(tests/engines/"$1".sh left "$work/$1"); then
    echo "test result: ok. 1 passed; 0 failed: nothing is left in $1"
  else
    printf 'test result: FAILED. 0 passed; 1 failed: the suites left in %s\n%s\n' "$1" "$things"
  fi
}
for engine in docker podman; do
  [ ! -d "$work/$engine" ] || if_nothing_is_left $engine 2>&1 | tee -a "$log"
done

tests/tally.sh "$log" "$status"
