#!/bin/bash
# Programs that fetch from hosts which the proxy passes through: package.sh git|pip|npm FOLDER-OF-CLIENTS BASE
set -euo pipefail
name=$1 clients=$2 base=$3
into=$(mktemp -d -p "$HOME")
case $name in
  git)
    version=$(git --version | awk '{ print $3 }')
    git clone --quiet "$base/git/sample.git" "$into/sample"
    text=$(cat "$into/sample/README")
    ;;
  pip)
    version=$("$clients/venv/bin/python" -m pip --version | awk '{ print $2 }')
    "$clients/venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --root-user-action ignore \
      --retries 0 --target "$into" --index-url "$base/simple" assay-sample
    text=$(cat "$into/assay_sample.py")
    ;;
  npm)
    version=$(npm --version)
    npm install --silent --fetch-retries 0 --registry "$base/npm/" --prefix "$into" --cache "$into/.cache" assay-sample >&2
    text=$(cat "$into/node_modules/assay-sample/index.js")
    ;;
esac
printf '{"version": "%s", "pieces": 1, "text": "%s"}\n' "$version" "$text"
