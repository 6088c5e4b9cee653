"""Confidence intervals of shares.

Wilson's score interval (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953) holds the truth about as often as
it says, on average over shares, also for few observations (Agresti & Coull 1998,
https://doi.org/10.1080/00031305.1998.10480550).

Not covered: observations that depend on each other (count them as fewer); intervals that hold the truth at least as
often as they say, which are scipy's (`binomtest(...).proportion_ci(method="exact")`).
"""

from math import sqrt

from scipy.special import ndtri


def wilson(count: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval, from 0 to 1, of a share of which `count` of `n` were seen; (0, 1) for none seen.

    Neither need be a whole number, which scipy's `binomtest` asks for.
    """
    if n <= 0:
        return 0.0, 1.0
    share, z = count / n, float(ndtri((1 + confidence) / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return 0.0 if share == 0 else middle - half, 1.0 if share == 1 else middle + half
