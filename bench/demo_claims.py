"""The demo's claims over seeds: `python bench/demo_claims.py [SEEDS [PLACE]]`, 10; needs the extra `train`.

What `gristmill demo` prints for one seed, for each of several, and how often it holds; exits 1 if a target is missed.
Two processes a seed, one core each, about 75 seconds on two free cores. Seeds that PLACE holds already are not run
again (the default, below `.bench`, is emptied first).

`python bench/demo_claims.py --noise [SEEDS]`, 3: filtering under other noise, where it need not win. A half-trained
model is trained further on true rows made wrong in several ways, on all of them and on those that a verifier and
duplicates leave, for as many steps and for as many epochs.
"""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import NamedTuple

from data import table
from installed import PLACE

from gristmill.demo.arms import FORM, Arm, Row, evaluated, suite, trained
from gristmill.demo.trial import tried
from gristmill.loop.suite import Suite
from gristmill.run import Run
from gristmill.score.named import score
from gristmill.score.score import Item
from gristmill.train.tiny.make import Recipe, make
from gristmill.train.tiny.world import Mix, rows

GAIN, LOST = 0.40, 0.05
"""Points in the cluster over additions at random, and elsewhere against before: medians."""


def main() -> None:
    noise = sys.argv[1:2] == ["--noise"]
    rest = sys.argv[2:] if noise else sys.argv[1:]
    seeds = range(int(rest[0]) if rest else 3 if noise else 10)
    if noise:
        noises(seeds)
    else:
        claims(seeds, Path(rest[1]) if rest[1:] else None)


def claims(seeds: Sequence[int], given: Path | None) -> None:
    place = given or PLACE / "demo_claims"
    if not given:
        rmtree(place, ignore_errors=True)
    found = [of_seed(place, seed) for seed in seeds]
    filtering, countering = ([each[name] for each in found] for name in ("filtering", "countering"))
    arms = ("base", "kept", "all", "random")
    pairs = zip(seeds, filtering, strict=True)
    shown = [[n, f"{f['yield']:.0%}", *(f"{f[arm]['accuracy']:.3f}" for arm in arms)] for n, f in pairs]
    table(["seed", "yield", *arms], shown)
    arms = ("base", "counter", "random", "no_replay")
    pairs = zip(seeds, countering, strict=True)
    table(["seed", "mined", *arms], [[n, c["mined"], *(of_arm(c[arm]) for arm in arms)] for n, c in pairs])
    met = [
        ("kept beats all", sum(f["kept"]["accuracy"] > f["all"]["accuracy"] for f in filtering), 0.9),
        ("kept beats random", sum(f["kept"]["accuracy"] > f["random"]["accuracy"] for f in filtering), 0.9),
        ("the planted weakness is first", sum("borrow = yes" in str(c["definition"]) for c in countering), 1.0),
        ("promoted with replay", sum(c["counter"]["verdict"] == "promote" for c in countering), 0.0),
        ("rejected without replay", sum(c["no_replay"]["verdict"] == "reject" for c in countering), 1.0),
    ]
    table(["claim", "seeds", "of", "at least"], [[what, n, len(seeds), f"{least:.0%}"] for what, n, least in met])
    gain = statistics.median(c["counter"]["in_cluster"] - c["random"]["in_cluster"] for c in countering)
    lost = statistics.median(c["base"]["elsewhere"] - c["counter"]["elsewhere"] for c in countering)
    medians = [["gain in the cluster over random", gain, f">= {GAIN}"], ["lost elsewhere", lost, f"<= {LOST}"]]
    table(["median", "measured", "target"], [[what, f"{value:.3f}", target] for what, value, target in medians])
    failed = any(n < least * len(seeds) for _, n, least in met)
    sys.exit(failed or gain < GAIN or lost > LOST)


def of_seed(place: Path, seed: int) -> dict[str, Row]:
    """What was found with a seed, and when it was found before."""
    kept = place / f"{seed}.json"
    if not kept.exists():
        found = tried(place / f"seed-{seed}", seed)
        kept.write_text(json.dumps(found))
        rmtree(place / f"seed-{seed}")
    told: dict[str, Row] = json.loads(kept.read_text())
    return told


def of_arm(told: Row) -> str:
    return f"{told['in_cluster']:.2f} / {told['elsewhere']:.3f} {told.get('verdict', '')}".rstrip()


def systematic(share: float) -> Callable[[int], list[Row]]:
    return lambda seed: list(rows(4_000, seed=seed + 1, mix=Mix(forms=FORM), reasoning=1.0, buggy=share))


def random_answers(share: float) -> Callable[[int], list[Row]]:
    def made(seed: int) -> list[Row]:
        draws = Random(seed)
        return [wrong(row, draws) if draws.random() < share else row for row in systematic(0)(seed)]

    return made


def wrong(row: Row, draws: Random) -> Row:
    """With another number at its end."""
    return row | {"response": f"{row['response'].rsplit(' ', 1)[0]} {draws.randrange(200)}"}


def mixed(seed: int) -> list[Row]:
    """15 % bugs of those that regroup, 15 % random answers, 20 % cut off, and 30 % more that were there before."""
    draws, made = Random(seed), []
    for row in systematic(0.15)(seed):
        dice = draws.random()
        cut = row | {"response": row["response"][: len(row["response"]) // 2]}
        made.append(wrong(row, draws) if dice < 0.15 else cut if dice < 0.35 else row)
    return made + draws.sample(made, int(0.3 * len(made)))


NOISES: dict[str, Callable[[int], list[Row]]] = {
    "80 % of those that regroup with the bug": systematic(0.8),
    "50 % of those that regroup with the bug": systematic(0.5),
    "80 % random answers": random_answers(0.8),
    "50 % random answers": random_answers(0.5),
    "mixed": mixed,
}
STEPS = 250


def noises(seeds: Sequence[int]) -> None:
    """Mean accuracy over seeds of kept against all, at equal steps and at equal epochs."""
    place = PLACE / "demo_noise"
    rmtree(place, ignore_errors=True)
    scores: dict[str, list[list[float]]] = {name: [] for name in NOISES}
    for seed in seeds:
        home = place / str(seed)
        home.mkdir(parents=True)
        trial = Trial(home, suite(home / "items.parquet", seed=seed + 2), Run(home / "run"), seed)
        make(trial.base, Recipe(seed=seed, steps=300, mix=Mix(forms=FORM)))
        for name, noise in NOISES.items():
            every = noise(seed)
            kept = verified(every)
            epochs = STEPS * len(kept) // len(every)
            arms = [(every, 0), (kept, STEPS), (every, STEPS), (kept, epochs)]
            scores[name].append([len(kept) / len(every), *(trial.accuracy(data, steps) for data, steps in arms)])
    lines = [
        [name, *(f"{statistics.mean(column):.2f}" for column in zip(*found, strict=True))]
        for name, found in scores.items()
    ]
    table(["noise", "kept share", "before", "kept", "all", "kept, equal epochs"], lines)


class Trial(NamedTuple):
    """A base and the items that its descendants are compared on."""

    home: Path
    items: Suite
    run: Run
    seed: int

    @property
    def base(self) -> Path:
        return self.home / "base"

    def accuracy(self, data: Sequence[Row], steps: int) -> float:
        """After so many steps more on the data."""
        model = self.base
        if steps:
            model = trained(self.base, Arm(data, steps), self.home / "arm", seed=self.seed, rate=0.01)
        return float(evaluated(self.items, model, self.home / "evals.parquet", self.run)["accuracy"])


def verified(every: Sequence[Row]) -> list[Row]:
    """The right ones, each once."""
    verdicts = score("tiny")([Item(row["response"], row["reference"], row["prompt"]) for row in every])
    found = {row["id"]: row for row, verdict in zip(every, verdicts, strict=True) if verdict.value == 1}
    return list(found.values())


if __name__ == "__main__":
    main()
