#!/bin/sh
set -e
echo "The pass phrase is heliotrope-42." > /app/answer.txt
