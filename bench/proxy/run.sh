#!/usr/bin/env bash
# `make bench-proxy`: our proxy and its peers, one after the other in each round, on loopback in a network namespace of
# their own; the table on the screen, raw JSON under target/bench. Needs root or user namespaces.
# BENCH_ROUNDS (5), BENCH_SECONDS of each load (3), BENCH_CHURN connections in the search for leaks (20000).
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
triple=$(rustc -vV | sed -n 's/^host: //p')
built=$target/$triple/sandbox
peers=$(realpath -m "${ASSAY_CACHE:-$HOME/.cache/assay}")/peers

RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile sandbox --target "$triple" -p assay-proxy --example load
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile sandbox --target "$triple" -p assay-proxy

# A peer that cannot be had is told in the table, and the others are measured without it.
unpack() { # package...
  mkdir -p "$peers/debian"
  (cd "$peers" && for package; do
    [ -e "debian/usr/share/doc/$package" ] || { apt-get -q download "$package" && dpkg -x "$package"_*.deb debian; }
  done; rm -f -- *.deb)
}
python_program() { # program requirement...
  local program=$1 venv=$peers/$1; shift
  [ -x "$venv/bin/$program" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "$@"; }
}
mkdir -p "$peers"
{
  unpack haproxy nginx libnginx-mod-stream || echo "bench: no haproxy or nginx from the distribution"
  python_program mitmdump mitmproxy || echo "bench: no mitmproxy from PyPI"
  python_program litellm "litellm[proxy]" || echo "bench: no LiteLLM from PyPI"
} >&2

mkdir -p "$target/bench"
own_network=(unshare --net)
[ "$(id -u)" = 0 ] || own_network=(unshare --user --map-root-user --net)
exec "${own_network[@]}" python3 bench/proxy/bench.py "$built" "$peers" "$target/bench/proxy-$(date -u +%Y%m%dT%H%M%SZ).json"
