#!/bin/sh
set -e
i=1
while [ $i -le 10 ]; do
  echo "$i $((i * i))"
  i=$((i + 1))
done > /app/squares.txt
