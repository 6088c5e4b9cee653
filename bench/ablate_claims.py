"""How often `gristmill ablate` claims an effect that is not there, and finds one that is, by simulation.

    python bench/ablate_claims.py [SIMULATIONS]

An arm's score on an item: its own difficulty, what the arm adds, what its seed adds, and chance. 300 items, 3 seeds, 8
arms; seeds differ by one point (standard deviation). Half of the comparisons have no effect.
"""

import sys

import numpy as np

from gristmill.mix.ablate import Part, judge

ITEMS, SEEDS, ARMS = 300, 3, 8
SEED_SD = 0.01
EFFECTS = (0.0, 0.02, 0.04, 0.08)


def main() -> None:
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rng = np.random.default_rng(0)
    print(f"{'effect':>7}{'helps':>8}{'hurts':>8}{'nothing':>9}   of {simulations * (ARMS - 1)} comparisons")
    for effect in EFFECTS:
        said = {"helps": 0, "hurts": 0, "no evidence": 0}
        for _ in range(simulations):
            difficulty = rng.beta(2, 2, ITEMS)

            def scored(adds, difficulty=difficulty):
                share = np.clip(difficulty + adds + rng.normal() * SEED_SD, 0, 1)
                return {"sums": (rng.random(ITEMS) < share).astype(float).tolist()}

            results = {"ours": [scored(effect) for _ in range(SEEDS)]}
            results |= {f"arm {n}": [scored(0.0) for _ in range(SEEDS)] for n in range(ARMS - 1)}
            for each in judge(results, [Part(name, "ours", name) for name in list(results)[1:]]):
                said[each.verdict] += 1
        total = sum(said.values())
        print(f"{effect:>7.0%}" + "".join(f"{said[word] / total:>8.1%}" for word in said))


if __name__ == "__main__":
    main()
