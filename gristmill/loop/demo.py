"""The demo's claims, tried on the embedded model: does filtering beat volume, do counterexamples beat additions at
random, and is forgetting caught?

Whatever comes out is told, with the sentence that says when a claim does not hold. A figure belongs to its seed: bases
of different seeds differ by more than most treatments do, so arms are compared within one.

Not covered: large models. That a claim holds here shows that the pipeline does what it says, no more.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gristmill.files import batch_of
from gristmill.generate.sample import Plan, samples
from gristmill.loop.clusters_table import UNCLUSTERED, read_clusters
from gristmill.loop.evals import read_evals
from gristmill.loop.evaluate import evaluate
from gristmill.loop.gate import Terms, gate
from gristmill.loop.mine import Mining
from gristmill.loop.mine_files import mine_files
from gristmill.loop.rounds import belongs
from gristmill.loop.suite import Suite
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.named import ready
from gristmill.plan.efficiency import efficiency
from gristmill.run import Run
from gristmill.score.named import score
from gristmill.score.score import Item
from gristmill.train.tiny.counters import counter
from gristmill.train.tiny.make import Recipe, make, taught_on
from gristmill.train.tiny.world import Mix, rows, schema

Row = dict[str, Any]
Say = Callable[[str], None]

FORM = {"hash": 1.0}
LENGTH = 40
"""Tokens of an answer."""

CANDIDATES, PROMPTS = 3_000, 1_000
"""Answers that a half-trained model writes, to so many problems."""

ITEMS = 1_200
"""Items of the gate."""


def _write(made: Sequence[Mapping[str, Any]], path: Path, *, answers: bool) -> None:
    pq.write_table(pa.Table.from_batches([batch_of(made, schema(answers))]), path)


def _suite(name: str, path: Path) -> Suite:
    return Suite(
        name=name,
        items=str(path),
        scores=["tiny"],
        slices=["slot_operation", "slot_carry", "slot_borrow"],
        samples=1,
        sampling={"max_tokens": LENGTH, "temperature": 0},
    )


def _evaluated(suite: Suite, model: Path, out: Path, run: Run) -> dict[str, Any]:
    asked = ready(f"hf:{model}", calls=Calls(run.path))
    try:
        return evaluate(suite, asked, out, run=run, seed=None, force=True)
    finally:
        wait(asked.close())


def filtering(out: Path, *, run: Run, seed: int, say: Say) -> dict[str, Any]:
    """A half-trained model answers problems at temperature 1; the verifier and exact duplicates decide what is kept.
    Trained on kept, on all and on an equal number at random, for as many steps each."""
    out.mkdir(parents=True, exist_ok=True)
    say("filtering: a half-trained model writes candidates")
    base = out / "base"
    if not base.exists():
        make(base, Recipe(seed=seed, steps=350, mix=Mix(forms=FORM)))
    prompts = list(rows(PROMPTS, seed=seed + 1, mix=Mix(forms=FORM)))
    model = ready(f"hf:{base}", calls=Calls(run.path))
    plan = Plan(n=CANDIDATES // PROMPTS, sampling={"max_tokens": LENGTH, "temperature": 1.0}, seed=seed)
    try:
        written = [row for row in samples(prompts, [model], plan) if row["response"]]
    finally:
        wait(model.close())
    verdicts = score("tiny")([Item(row["response"], row["reference"], row["prompt"]) for row in written])
    seen: set[str] = set()
    kept = []
    for row, verdict in zip(written, verdicts, strict=True):
        if verdict.value == 1 and row["id"] not in seen:
            seen.add(row["id"])
            kept.append(row)
    picked = Random(seed).sample(written, len(kept))
    items = out / "items.parquet"
    _write(list(rows(ITEMS, seed=seed + 2, part="test", mix=Mix(forms=FORM))), items, answers=False)
    suite = _suite("filtering", items)
    arms = {}
    for name, data in {"kept": kept, "all": written, "random": picked}.items():
        say(f"filtering: training on {name} ({len(data):,} rows)")
        if not (out / name).exists():
            taught_on(base, data, out / name, steps=150, seed=seed)
        arms[name] = _evaluated(suite, out / name, out / f"{name}.parquet", run)
    before = _evaluated(suite, base, out / "before.parquet", run)
    worth = efficiency(len(kept), len(written), 100 * arms["kept"]["accuracy"], 100 * arms["all"]["accuracy"])
    return {
        "candidates": len(written),
        "rows_kept": len(kept),
        "yield": len(kept) / len(written),
        "right": sum(v.value == 1 for v in verdicts) / len(verdicts),
        "base": _told(before),
        **{name: _told(each) for name, each in arms.items()},
        "per_example_ratio": worth.ratio,
        "kept_beats_all": arms["kept"]["accuracy"] > arms["all"]["accuracy"],
        "kept_beats_random": arms["kept"]["accuracy"] > arms["random"]["accuracy"],
    }


def countering(out: Path, *, run: Run, seed: int, say: Say) -> dict[str, Any]:
    """A model that hardly saw a borrow is mined, not told; 100 counterexamples with replay, 1,000 additions at random,
    and counterexamples without replay are trained on and put to the gate."""
    out.mkdir(parents=True, exist_ok=True)
    lacking = Mix(lacking={"borrow": 0.98}, forms=FORM)
    say("countering: training a model with a weakness")
    base = out / "base"
    if not base.exists():
        make(base, Recipe(seed=seed, mix=lacking))
    old = list(rows(8_000, seed=seed, mix=lacking, reasoning=1.0))
    mined, gated = out / "mined.parquet", out / "gate.parquet"
    _write(list(rows(500, seed=seed + 3, part="test", mix=Mix(forms=FORM))), mined, answers=False)
    _write(list(rows(ITEMS, seed=seed + 4, part="test", mix=Mix(forms=FORM))), gated, answers=False)
    say("countering: mining what it gets wrong")
    _evaluated(_suite("mined", mined), base, out / "failures.parquet", run)
    mine_files([str(out / "failures.parquet")], out / "clusters.parquet", run=run, mining=Mining(seed=seed), force=True)
    clusters = [each for each in read_clusters(out / "clusters.parquet") if each["cluster"] != UNCLUSTERED]
    if not clusters:
        return {"mined": None, "sentence": "no cluster of failures was found: there is nothing to counter"}
    first = clusters[0]
    made = counter({"definition": first["definition"], "items": []}, 100, seed)
    for row in made:
        row["id"] = f"counter-{row['reference']}"
    draws = Random(seed)
    more = list(rows(1_000, seed=seed + 5, mix=lacking, reasoning=1.0))
    sets = {
        "counter": ([*made * 10, *draws.sample(old, 3_000)], 400),
        "random": ([*more, *draws.sample(old, 3_000)], 400),
        "no_replay": (made, 60),
    }
    suite = _suite("gate", gated)
    before = out / "before.parquet"
    found: dict[str, Any] = {
        "mined": first["name"],
        "planted_first": "borrow" in first["definition"] or "subtract" in first["definition"],
        "base": {**_told(_evaluated(suite, base, before, run)), **_slices(before, first)},
    }
    for name, (data, steps) in sets.items():
        say(f"countering: training on {name}")
        if not (out / name).exists():
            taught_on(base, data, out / name, steps=steps, seed=seed, rate=0.01)
        after = out / f"after-{name}.parquet"
        told = _told(_evaluated(suite, out / name, after, run))
        verdict = _gated(before, after, first)
        found[name] = {**told, **_slices(after, first), "verdict": verdict["verdict"]}
    return found


def _marked(path: Path, cluster: Row) -> Any:
    evals = read_evals(str(path))
    return evals._replace(rows=[{**row, "mined": ["yes" if belongs(cluster, row) else "no"]} for row in evals.rows])


def _gated(before: Path, after: Path, cluster: Row) -> dict[str, Any]:
    terms = Terms(["mined=yes"], margin=0.05)
    return gate(_marked(before, cluster), _marked(after, cluster), terms, slices=["slot_operation", "mined"])


def _slices(path: Path, cluster: Row) -> dict[str, float]:
    """Accuracy in the mined cluster, and outside."""
    sides: dict[str, list[float]] = {"yes": [], "no": []}
    for row in _marked(path, cluster).rows:
        sides[row["mined"][0]].append(row["score_tiny"] or 0.0)
    return {
        name: sum(values) / len(values) if values else float("nan")
        for name, values in (("in_cluster", sides["yes"]), ("elsewhere", sides["no"]))
    }


def _told(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {"accuracy": summary["accuracy"], "interval": [summary["low"], summary["high"]]}


def words(filtered: Mapping[str, Any], countered: Mapping[str, Any]) -> list[str]:
    """The claims as a table, each with the sentence that says whether it holds on these figures."""
    lines = [
        f"Filtering, on the embedded model: {filtered['rows_kept']:,} of {filtered['candidates']:,} candidates kept "
        f"({filtered['yield']:.0%}; {filtered['right']:.0%} were right)",
        *(_line(name, filtered[name]) for name in ("base", "kept", "all", "random")),
        f"  per example, kept gives {filtered['per_example_ratio']:.1f}x what all gives",
        "  "
        + (
            "kept beats all and random of equal size, at equal steps"
            if filtered["kept_beats_all"] and filtered["kept_beats_random"]
            else "the claim does NOT hold on these figures: filtering did not win at equal steps"
        ),
    ]
    if countered["mined"] is None:
        return [*lines, countered["sentence"]]
    lines.append(f"Counterexamples: the worst failures mined are: {countered['mined']}")
    for name, what in (
        ("base", "before"),
        ("counter", "100 counterexamples + replay"),
        ("random", "1,000 at random + replay"),
        ("no_replay", "100 counterexamples alone"),
    ):
        each = countered[name]
        verdict = f"  gate: {each['verdict']}" if "verdict" in each else ""
        lines.append(f"  {what:<29} cluster {each['in_cluster']:>6.1%}  elsewhere {each['elsewhere']:>6.1%}{verdict}")
    gain = countered["counter"]["in_cluster"] - countered["random"]["in_cluster"]
    caught = countered["no_replay"]["verdict"] == "reject"
    lines.append(f"  counterexamples against additions at random: {gain:+.1%} in the cluster")
    lines.append(f"  forgetting without replay was {'caught' if caught else 'NOT caught'} by the gate")
    return lines


def _line(name: str, told: Mapping[str, Any]) -> str:
    low, high = told["interval"]
    return f"  {name:<8} {told['accuracy']:.1%} ({low:.1%} to {high:.1%})"
