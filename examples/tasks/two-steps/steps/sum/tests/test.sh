#!/bin/sh
. /tests/reward.sh
if [ "$(cat /app/sum.txt 2>/dev/null)" = "1155" ]; then give 1; else give 0; fi
