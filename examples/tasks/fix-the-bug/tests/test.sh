#!/bin/sh
# Isolated: neither the working directory nor the user's site packages can replace what the tests import.
python3 -I /tests/check.py
