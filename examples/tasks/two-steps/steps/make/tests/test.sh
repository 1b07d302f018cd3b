#!/bin/sh
. /tests/reward.sh
want=$(i=1; while [ $i -le 10 ]; do echo "$i $((i * i))"; i=$((i + 1)); done)
if [ "$(cat /app/squares.txt 2>/dev/null)" = "$want" ]; then give 1; else give 0; fi
