#!/usr/bin/env bash
# Tries tasks that others wrote: `assay task check` on every folder below those named that has a task.toml. Prints a line
# for each, tab-separated: its name, `ok` (oracle 1 and nop 0), `accepted` (with --static), or what the check said; then the sums.
#
# usage: foreign.sh [--static] FOLDER…        ASSAY names the program, its options too; `assay` when absent
# Needs an installation that the program's profile opens, but with --static.
set -uo pipefail

words=(task check)
good=ok
if [ "${1:-}" = --static ]; then
  words+=(--static)
  good=accepted
  shift
fi
[ $# -gt 0 ] || { echo "usage: foreign.sh [--static] FOLDER…" >&2; exit 64; }
read -ra assay <<<"${ASSAY:-assay}"

passed=0 all=0
while IFS= read -r -d '' file; do
  folder=$(dirname "$file")
  all=$((all + 1))
  if said=$("${assay[@]}" "${words[@]}" "$folder" 2>&1 >/dev/null </dev/null); then
    passed=$((passed + 1)) said=$good
  fi
  printf '%s\t%s\n' "$(basename "$folder")" "$(printf '%s' "$said" | tail -1 | cut -c1-300)"
done < <(find "$@" -name task.toml -print0 | sort -z)
echo "$passed of $all $good"
