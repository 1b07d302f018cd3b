#!/bin/sh
# Installs the clients of the matrix beside the checkout and prints the folder that has them:
#
#     ASSAY_CLIENTS=$(tests/clients/setup.sh) cargo test -p assay-tests --test clients
#
# Everything is kept in ${ASSAY_CACHE:-$HOME/.cache/assay}/clients; what has not changed is not made again. Versions are
# pinned in python/requirements.txt, node/package.json and rust/Cargo.toml; curl, git, npm, Node, Go and Java are this
# machine's.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${ASSAY_CACHE:-$HOME/.cache/assay}
to=$cache/clients
python=/usr/bin/python3

for program in "$python" node npm go javac cargo curl git; do
  command -v "$program" >/dev/null || {
    echo "$program is missing" >&2
    exit 1
  }
done

# Makes a thing anew when the files that it is made of have changed.
made_of() { # name files…
  name=$1
  shift
  sum=$(cat "$@" | sha256sum)
  [ "$sum" = "$(cat "$to/$name.sum" 2>/dev/null)" ]
}
remember() {
  printf '%s\n' "$sum" >"$to/$name.sum"
}

mkdir -p "$to"
cp -r "$here/python" "$here/node" "$here/shell" "$to"

made_of venv "$here/python/requirements.txt" || {
  rm -rf "$to/venv"
  "$python" -m venv "$to/venv" >&2
  "$to/venv/bin/pip" install -q --disable-pip-version-check -r "$here/python/requirements.txt" >&2
  remember
}
made_of node_modules "$here/node/package.json" || {
  npm install --silent --prefix "$to/node" >&2
  remember
}
made_of go "$here/go/main.go" "$here/go/go.mod" || {
  (cd "$here/go" && go build -trimpath -o "$to/go-client" .) >&2
  remember
}
made_of java "$here/java/Client.java" || {
  javac -d "$to/java" "$here/java/Client.java" >&2
  remember
}
made_of rust "$here/rust/Cargo.toml" "$here/rust/Cargo.lock" "$here/rust/src/main.rs" || {
  cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml" --target-dir "$to/rust" >&2
  cp "$to/rust/debug/client" "$to/rust-client"
  rm -rf "$to/rust"
  remember
}
echo "$to"
