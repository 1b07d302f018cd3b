#!/bin/sh
set -e
cat > /app/intervals.py <<'PYTHON'
"""Intervals of whole numbers."""


def merge(intervals):
    """Merges pairs that overlap or touch; gives a sorted list."""
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
PYTHON
