#!/bin/bash
# curl as a client of the matrix: curl.sh plain|stream BASE
set -euo pipefail
base=$2
[ "$base" = - ] && base=$OPENAI_BASE_URL
streams=false
[ "$1" = stream ] && streams=true
question='{"model": "test/small", "max_tokens": 200, "stream": '$streams', "messages": [{"role": "user", "content": "ASSAY-TOKENS: 40"}]}'
version=$(curl --version | awk 'NR == 1 { print $2 }')
curl --silent --show-error --fail --no-buffer --header "authorization: Bearer $OPENAI_API_KEY" \
  --header 'content-type: application/json' --data "$question" "$base/chat/completions" |
  /usr/bin/python3 -B "$(dirname "$0")/../python/answers.py" "$1" "$version"
