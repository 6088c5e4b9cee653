"""Does filtering beat volume?

A model that learned errors with a system writes candidates; a verifier and the filter say which are kept; the model is
trained further on kept, on all, and on as many at random, for as many steps each.

The model's corpus held, of the sums that carry or borrow, `BUGGY` with the carry forgotten, so that it is mostly wrong
about these and right now and then: what a verifier can select is there. Errors with a system are the noise under which
filtering is known to win; `bench/demo_claims.py` has the noise under which it does not.

Not covered: candidates of another model, several rounds.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq

from gristmill.demo.arms import FORM, LENGTH, Arm, Row, evaluated, suite, trained, written
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.generate.sample import Plan, samples
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.named import ready
from gristmill.plan.efficiency import efficiency
from gristmill.run import Run
from gristmill.score.named import score
from gristmill.score.score import Item
from gristmill.train.tiny.make import Recipe, make
from gristmill.train.tiny.world import Mix, rows

Say = Callable[[str], None]

BUGGY = 0.6
PROMPTS, SAMPLES = 3_000, 2
"""Problems, and candidates for each."""
STEPS, RATE = 150, 0.005


def filtering(out: Path, *, run: Run, seed: int, say: Say) -> Row:
    """Try it in the empty directory `out`; returns what was found, as JSON."""
    base = out / "base"
    say("filtering: a model learns from a corpus with errors")
    make(base, Recipe(seed=seed, mix=Mix(forms=FORM), buggy=BUGGY))
    say(f"filtering: it writes {PROMPTS * SAMPLES:,} candidates")
    candidates = written(out / "candidates.parquet", scored(base, run, seed), answers=True, scores=["tiny"])
    summary = filter_files([str(candidates)], out / "filtered", SETTINGS, run=run)
    every = pq.read_table(out / "filtered" / "rows.parquet").to_pylist()
    kept = [row for row in every if row["drop_rule"] is None]
    whole = [row for row in every if row["response"]]  # of an empty answer nothing is learned
    picked = Random(seed).sample(whole, len(kept))
    items = suite(out / "filtering.parquet", seed=seed + 2)
    found: Row = {
        "candidates": len(every),
        "rows_kept": len(kept),
        "yield": summary["yield"],
        "dropped": summary["dropped"],
        "right": sum(row["score_tiny"] for row in every) / len(every),
        "base": told(evaluated(items, base, out / "base.parquet", run)),
    }
    for name, data in {"kept": kept, "all": whole, "random": picked}.items():
        say(f"filtering: training on {name} ({len(data):,} rows)")
        model = trained(base, Arm(data, STEPS), out / name, seed=seed, rate=RATE)
        found[name] = told(evaluated(items, model, out / f"{name}.parquet", run))
    worth = efficiency(len(kept), len(every), 100 * found["kept"]["accuracy"], 100 * found["all"]["accuracy"])
    return {**found, "per_example_ratio": worth.ratio}


SETTINGS = Settings(rules=(), near=None, minimum={"tiny": 1.0}, collapse="mark")
"""What keeps a candidate: the verifier, and that neither it nor its opening was there before. Near duplicates and the
rules for text are for texts; a sum is its digits."""


def scored(model: Path, run: Run, seed: int) -> list[Row]:
    """The candidates that a model writes at temperature 1 for problems of the world, with their `score_tiny`."""
    asked = ready(f"hf:{model}", calls=Calls(run.path))
    prompts = rows(PROMPTS, seed=seed + 1, mix=Mix(forms=FORM))
    plan = Plan(n=SAMPLES, sampling={"max_tokens": LENGTH, "temperature": 1.0}, seed=seed)
    try:
        answers = list(samples(prompts, [asked], plan))
    finally:
        wait(asked.close())
    verdicts = score("tiny")([Item(row["response"], row["reference"], row["prompt"]) for row in answers])
    return [{**row, "score_tiny": verdict.value} for row, verdict in zip(answers, verdicts, strict=True)]


def told(summary: Row) -> dict[str, Any]:
    """Accuracy and its interval."""
    return {"accuracy": summary["accuracy"], "interval": [summary["low"], summary["high"]]}
