"""How often the intervals of `gristmill curve` hold the truth, by simulation.

    python bench/curve_coverage.py [CURVES]

Curves ceiling - a n^-b with b from 0.2 to 0.8, ceilings from .5 to .95, scores at 100 rows from .05 to .6 of them; 6
sizes from 100 to 3,200, 3 seeds each, 500 items. Where the answer is *cannot tell*, no figure is claimed.
"""

import sys

import numpy as np

from gristmill.plan.curve import Point, fit

SIZES = (100, 200, 400, 800, 1_600, 3_200)
ITEMS, SEEDS = 500, 3


def main() -> None:
    curves = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rng = np.random.default_rng(0)
    held = {"ceiling": 0, "score at twice the data": 0}
    verdicts: dict[str, int] = {}
    wrong = 0
    for _ in range(curves):
        b, ceiling = rng.uniform(0.2, 0.8), rng.uniform(0.5, 0.95)
        a = ceiling * (1 - rng.uniform(0.05, 0.6)) * SIZES[0] ** b

        def truth(n, ceiling=ceiling, a=a, b=b):
            return ceiling - a * n**-b

        points = [Point(n, rng.binomial(ITEMS, truth(n)) / ITEMS, ITEMS) for n in SIZES for _ in range(SEEDS)]
        found = fit(points)
        held["ceiling"] += found.ceiling.low <= ceiling <= found.ceiling.high
        held["score at twice the data"] += found.at_twice.low <= truth(2 * SIZES[-1]) <= found.at_twice.high
        verdicts[found.verdict] = verdicts.get(found.verdict, 0) + 1
        gain = truth(2 * SIZES[-1]) - truth(SIZES[-1])
        wrong += (found.verdict == "saturated" and gain >= 0.01) or (found.verdict == "more data helps" and gain <= 0)
    for name, count in held.items():
        print(f"{name:<26}{count / curves:>7.1%} of the intervals hold it ({curves} curves)")
    print(", ".join(f"{name}: {count}" for name, count in verdicts.items()), f"; wrong verdicts {wrong}")


if __name__ == "__main__":
    main()
