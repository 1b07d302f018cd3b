#!/bin/sh
set -e
echo "Hello, Assay!" > /app/hello.txt
