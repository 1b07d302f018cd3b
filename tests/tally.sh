#!/usr/bin/env bash
# Counts what test programs have printed, and ends with one line: N passed, N failed, N skipped.
#
# usage: tally.sh LOG STATUS      STATUS is that of what wrote the log
#
# ASSAY_NO_SKIP=1: a test that says `skipped:` counts as failed, but for what ASSAY_MAY_SKIP (a regular expression) names.
set -uo pipefail
log=$1 status=$2

read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
skipped=$(grep -c '^skipped: ' "$log")
grep '^skipped: ' "$log" | sort | uniq -c
if [ "${ASSAY_NO_SKIP:-}" = 1 ]; then
  unexpected=$(grep '^skipped: ' "$log" | grep -cvE "${ASSAY_MAY_SKIP:-^$}")
  failed=$((failed + unexpected))
fi
# A test program that does not compile or dies has no result line of its own.
if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
