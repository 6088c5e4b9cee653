"""Whether the verdicts of `gristmill ablate` on the embedded model are right, over many seeds. Needs the extra `train`.

    python bench/ablate_tiny.py [SEEDS]

Each seed is a world with 3,000 kept rows of four sources, all of bare sums:

    base      1,500  right, but without borrows (98 % left out), and with few carries (70 % left out)
    harmful     800  sums with a carry, which is forgotten in every one of them: 27 % of all rows
    counter     400  right subtractions with a borrow: the counterexamples
    useless     300  more of what the base source has, right and new, and of no use

A model that learned from 4,000 rows without borrows is trained further, 150 steps an arm, three training seeds an arm,
and answers 1,000 held-out items of the whole world. The settings were chosen so that each source does what its name
says (four trainings an arm, in one world: harmful -.18, counter +.14, useless .00, each within .02). What matters:
carries are few in the base source, because otherwise right and wrong ones are nearly as many and the useless source
truly helps, by diluting the wrong ones.

Targets: harmful *hurts* and counter *helps* in 9 of 10 seeds, useless *helps* in 1 of 10 at most; exits 1 otherwise.
"""

import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill.files import batch_of
from gristmill.mix.ablate import arms, judge
from gristmill.plan.asked import asked
from gristmill.plan.trainer import Tiny
from gristmill.plan.trial import trial
from gristmill.run import Run
from gristmill.train.tiny.make import Recipe, make
from gristmill.train.tiny.world import Mix, rows, schema

BARE = Mix(forms={"hash": 1.0}, wordings={"bare": 1.0})
BASE = replace(BARE, lacking={"borrow": 0.98, "carry": 0.7})
SIZES = {"base": 1_500, "harmful": 800, "counter": 400, "useless": 300}
ITEMS, STEPS, TRAININGS = 1_000, 150, 3

SUITE = """\
name: sums
items: items.parquet
scores: [tiny]
slices: [slot_carry, slot_borrow]
sampling: {max_tokens: 40}
"""


def world(seed: int) -> list[dict]:
    """The kept rows of all sources."""
    more = SIZES["base"] + SIZES["useless"]
    right = list(rows(more, seed=seed, mix=BASE, reasoning=1.0))
    carries = replace(BARE, only={"carry": "yes"})
    borrows = replace(BARE, only={"borrow": "yes"})
    sources = {
        "base": right[: SIZES["base"]],
        "useless": right[SIZES["base"] :],
        "harmful": list(rows(SIZES["harmful"], seed=100 + seed, mix=carries, reasoning=1.0, buggy=1.0)),
        "counter": list(rows(SIZES["counter"], seed=200 + seed, mix=borrows, reasoning=1.0)),
    }
    return [{**row, "meta": orjson.dumps({"source": name}).decode()} for name, some in sources.items() for row in some]


def judged(seed: int, place: Path) -> dict[tuple[str, str], tuple[str, float]]:
    """By part and capability the verdict and the difference, in the world of a seed."""
    base = place / "base"
    make(base, Recipe(seed=seed, steps=450, rows=4_000, mix=replace(BARE, lacking={"borrow": 0.98})))
    items = list(rows(ITEMS, seed=300 + seed, part="test", mix=BARE))
    pq.write_table(pa.Table.from_batches([batch_of(items, schema(answers=False))]), place / "items.parquet")
    (place / "suite.yaml").write_text(SUITE)
    run = Run(place / "run")
    suites = asked(run, [place / "suite.yaml"])
    every = world(seed)
    made, parts = arms(every, parts=(), named=[f"source={name}" for name in SIZES if name != "base"])
    results = {
        arm.name: [
            trial(run, arm.rows(training), Tiny(STEPS, base), training, place / "trials", suites=suites)
            for training in range(TRAININGS)
        ]
        for arm in made
    }
    return {(v.part.removeprefix("source="), v.capability): (v.verdict, v.difference) for v in judge(results, parts)}


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    said = {name: Counter() for name in SIZES if name != "base"}
    started, cpu = time.monotonic(), time.process_time()
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as place:
            found = judged(seed, Path(place))
        for (name, _), (verdict, _) in found.items():
            said[name][verdict] += 1
        told = "   ".join(f"{name} {verdict} {difference:+.3f}" for (name, _), (verdict, difference) in found.items())
        print(f"seed {seed}: {told}   ({time.monotonic() - started:,.0f} s)", flush=True)
    for name, counts in said.items():
        print(f"{name:<8} " + ", ".join(f"{verdict} {count}" for verdict, count in sorted(counts.items())))
    print(f"{time.monotonic() - started:,.0f} s, {time.process_time() - cpu:,.0f} CPU-seconds")
    enough = 0.9 * seeds
    met = said["harmful"]["hurts"] >= enough and said["counter"]["helps"] >= enough
    sys.exit(not met or said["useless"]["helps"] > seeds - enough)


if __name__ == "__main__":
    main()
