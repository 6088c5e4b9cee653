"""pass@k: the chance that at least one of k samples passes, estimated without bias from n samples of which c passed.

1 - C(n - c, k) / C(n, k), equation 1 of Chen et al. 2021, "Evaluating Large Language Models Trained on Code",
arXiv:2107.03374; the mean over tasks is the figure that is reported.
"""

from math import comb


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The estimate for one task. Raises ValueError unless 0 ≤ passed ≤ samples and 1 ≤ k ≤ samples."""
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples, {passed} of them passed: allowed are 0 ≤ passed, k ≤ samples")
    return 1 - comb(samples - passed, k) / comb(samples, k)
