#!/bin/sh
set -e
cat > /app/prime.py <<'PYTHON'
"""Prime numbers."""


def is_prime(n):
    """Is `n` prime?

    >>> [n for n in range(10) if is_prime(n)]
    [2, 3, 5, 7]
    """
    if n < 4:
        return n >= 2
    if n % 2 == 0:
        return False
    return all(n % divisor for divisor in range(3, int(n**0.5) + 1, 2))
PYTHON
