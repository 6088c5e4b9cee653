"""The gate's errors, by simulation: bad candidates promoted, and whether the power it states is the power it has.

    python bench/gate_power.py [DRAWS]

Items are of two slices, `target` and `other`. A candidate gains on the target; on the other slice it is worse by the
margin exactly (a false promotion), or equal (a missed one). `share` of the items tell the models apart. *five looks*:
five such bad candidates, one after another, on the same items; any that is promoted counts.
"""

import sys
import tempfile

import numpy as np

from gristmill.loop.evals import Evals
from gristmill.loop.gate import Terms, gate
from gristmill.run import Run

MARGIN, GAIN = 0.05, 0.15
TERMS = Terms(("tags=target",), margin=MARGIN, effect=GAIN, max_flips=1.0)
SIZES = [(100, 0.2), (300, 0.1), (300, 0.3), (1000, 0.2)]
RIGHT = 0.6
"""Items that both models are right on, of those that do not tell them apart."""


def outcomes(rng, n, share, difference):
    """Of n items, whether the baseline and whether the candidate is right."""
    share = max(share, abs(difference))
    gained, lost = (share + difference) / 2, (share - difference) / 2
    both = (1 - share) * RIGHT
    drawn = rng.choice(4, size=n, p=[gained, lost, both, 1 - gained - lost - both])
    return np.isin(drawn, (1, 2)), np.isin(drawn, (0, 2))


def evals(right):
    """Rows of one model, by slice."""
    rows = [
        {"suite": "s", "item": f"{tag}{n}", "tags": [tag], "score_x": float(value)}
        for tag, values in right.items()
        for n, value in enumerate(values)
    ]
    return Evals(rows, ("tags",), ("x",))


def drawn(rng, n, share, difference):
    """A baseline and a candidate whose other slice differs by `difference`."""
    target, other = outcomes(rng, n, 0.3, GAIN), outcomes(rng, n, share, difference)
    return [evals({"target": target[side], "other": other[side]}) for side in (0, 1)]


def promoted(rng, draws, n, share):
    """How often a candidate is promoted that is worse by the margin."""
    return np.mean([gate(*drawn(rng, n, share, -MARGIN), TERMS)["verdict"] == "promote" for _ in range(draws)])


def promoted_in_five(rng, draws, n, share):
    """How often one of five bad candidates on the same items is."""
    found = 0
    for _ in range(draws):
        with tempfile.TemporaryDirectory() as directory:
            run = Run(directory)
            found += any(gate(*drawn(rng, n, share, -MARGIN), TERMS, run=run)["verdict"] == "promote" for _ in range(5))
    return found / draws


def power(rng, draws, n, share):
    """Of candidates that are equal elsewhere: how often each check passes, and how probably it was said to."""
    passed, stated = {"target": 0, "slice": 0}, {"target": 0.0, "slice": 0.0}
    for _ in range(draws):
        for check in gate(*drawn(rng, n, share, 0.0), TERMS)["checks"]:
            if check["check"] in passed and check["name"] != "rest":
                passed[check["check"]] += check["verdict"] == "pass"
                stated[check["check"]] += check["power"]
    return {name: (passed[name] / draws, stated[name] / draws) for name in passed}


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = np.random.default_rng(0)
    missed = False
    print(f"{draws} draws a line; margin {MARGIN:.0%}, gain on the target {GAIN:.0%}\n")
    print("| items a slice | tell apart | bad promoted | target: passed, stated | other: passed, stated |")
    print("|---:|---:|---:|---:|---:|")
    for n, share in SIZES:
        bad, said = promoted(rng, draws, n, share), power(rng, draws, n, share)
        missed |= bad > 0.05 or any(abs(was - told) > 0.03 for was, told in said.values())
        both = " | ".join(f"{was:.1%}, {told:.1%}" for was, told in said.values())
        print(f"| {n} | {share:.0%} | {bad:.1%} | {both} |", flush=True)
    five = promoted_in_five(rng, draws // 5, 300, 0.3)
    print(f"\nfive looks at 300 items: one of five bad candidates promoted in {five:.1%} of {draws // 5} draws")
    sys.exit(bool(missed or five > 0.05))


if __name__ == "__main__":
    main()
