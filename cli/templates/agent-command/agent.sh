#!/bin/sh
# A command agent. It starts in the task's folder; $ASSAY_INSTRUCTION names the file that says what to do.
set -eu
echo "the task asks:"
cat "$ASSAY_INSTRUCTION"
# Replace this by real work, e.g. a program that asks a model at $OPENAI_BASE_URL.
echo "This agent was here." > AGENT_NOTE.md
