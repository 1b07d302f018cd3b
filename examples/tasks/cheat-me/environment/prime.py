"""Prime numbers."""


def is_prime(n):
    """Is `n` prime?

    >>> [n for n in range(10) if is_prime(n)]
    [2, 3, 5, 7]
    """
    raise NotImplementedError
