#!/bin/bash
# Runs before the step: without the table of the first step there is nothing to add up.
set -e
test -s /app/squares.txt
echo 3 > /app/factor.txt
