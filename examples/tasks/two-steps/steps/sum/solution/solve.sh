#!/bin/sh
set -e
sum=0
while read -r _ square; do
  sum=$((sum + square))
done < /app/squares.txt
echo $((sum * $(cat /app/factor.txt))) > /app/sum.txt
