#!/bin/sh
# The pass phrase as a word of its own, however the model wraps it.
reward=0
if grep -qw -- "heliotrope-42" /app/answer.txt 2>/dev/null; then
  reward=1
fi
echo "$reward" > /logs/verifier/reward.txt
