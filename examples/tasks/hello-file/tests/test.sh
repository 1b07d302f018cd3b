#!/bin/sh
# One line, and that line alone.
reward=0
if [ "$(cat /app/hello.txt 2>/dev/null)" = "Hello, Assay!" ]; then
  reward=1
fi
echo "$reward" > /logs/verifier/reward.txt
