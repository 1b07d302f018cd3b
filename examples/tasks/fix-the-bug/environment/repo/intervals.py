"""Intervals of whole numbers."""


def merge(intervals):
    """Merges pairs that overlap or touch; gives a sorted list."""
    intervals.sort()
    merged = []
    for start, end in intervals:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
