"""Do counterexamples beat volume, and is forgetting caught?

A model that hardly saw a borrow is evaluated, its failures are mined (nothing tells where to look), and the first
cluster is countered: by 100 counterexamples with replay, by 1,000 additions at random with replay, by the 100
counterexamples alone. The gate judges each on items of its own.

Not covered: several rounds (`gristmill loop`).
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import orjson

from gristmill.demo.arms import FORM, ITEMS, Arm, Row, evaluated, suite, trained
from gristmill.demo.filtering import told
from gristmill.loop.clusters_table import UNCLUSTERED, read_clusters
from gristmill.loop.evals import Evals, read_evals
from gristmill.loop.gate import Terms, gate
from gristmill.loop.mine import Mining
from gristmill.loop.mine_files import mine_files
from gristmill.loop.targets import belongs
from gristmill.run import Run
from gristmill.train.tiny.counters import counter
from gristmill.train.tiny.make import Recipe, make
from gristmill.train.tiny.world import Mix, rows

Say = Callable[[str], None]

LACKING = Mix(lacking={"borrow": 0.98}, forms=FORM)
"""What the model learns from: subtractions, of which 2 % of those with a borrow are left."""
COUNTEREXAMPLES, REPEAT, REPLAY, ADDITIONS = 100, 10, 3_000, 1_000
STEPS, ALONE, RATE = 400, 60, 0.01
"""Steps with replay and without. A hundred rows are forgotten over in 60, and more only make that worse."""
MINED = 500
MARGIN = 0.05


def countering(out: Path, *, run: Run, seed: int, say: Say) -> Row:
    """Try it in the empty directory `out`; returns what was found, as JSON. `mined` is None where no cluster was."""
    base = out / "base"
    say("countering: a model learns from a corpus that lacks something")
    make(base, Recipe(seed=seed, mix=LACKING))
    say("countering: its failures are mined")
    cluster = _mined(base, out, run, seed)
    if cluster is None:
        return {"mined": None}
    old = list(rows(8_000, seed=seed, mix=LACKING, reasoning=1.0))
    replay = Random(seed).sample(old, REPLAY)
    counters = _rows_of(cluster, seed)
    additions = list(rows(ADDITIONS, seed=seed + 5, mix=LACKING, reasoning=1.0))
    arms = {
        "counter": Arm([*counters * REPEAT, *replay], STEPS),
        "random": Arm([*additions, *replay], STEPS),
        "no_replay": Arm(counters, ALONE),
    }
    gated = suite(out / "gate.parquet", seed=seed + 4, items=ITEMS)
    summary = told(evaluated(gated, base, out / "base.parquet", run))
    before = _marked(out / "base.parquet", cluster)
    found: Row = {"mined": cluster["name"], "definition": cluster["definition"], "base": {**summary, **_sides(before)}}
    for name, arm in arms.items():
        say(f"countering: training on {NAMES[name]}")
        model = trained(base, arm, out / name, seed=seed, rate=RATE)
        summary = told(evaluated(gated, model, out / f"{name}.parquet", run))
        after = _marked(out / f"{name}.parquet", cluster)
        terms = Terms(["mined=yes"], margin=MARGIN)
        verdict = gate(before, after, terms, slices=["slot_operation", "mined"])
        (out / f"gate-{name}.json").write_bytes(orjson.dumps(verdict, option=orjson.OPT_INDENT_2))
        found[name] = {**summary, **_sides(after), "verdict": verdict["verdict"], "why": verdict["why"]}
    return found


NAMES = {
    "base": "nothing more",
    "counter": f"{COUNTEREXAMPLES} counterexamples with replay",
    "random": f"{ADDITIONS:,} additions at random with replay",
    "no_replay": f"{COUNTEREXAMPLES} counterexamples alone",
}
"""What each arm was trained on, in words."""


def _mined(base: Path, out: Path, run: Run, seed: int) -> Row | None:
    """The first cluster of the ranked failures on items of their own."""
    failures, clusters = out / "failures.parquet", out / "clusters.parquet"
    evaluated(suite(out / "mined.parquet", seed=seed + 3, items=MINED), base, failures, run)
    mine_files([str(failures)], clusters, run=run, mining=Mining(seed=seed), force=True)
    return next((each for each in read_clusters(clusters) if each["cluster"] != UNCLUSTERED), None)


def _rows_of(cluster: Row, seed: int) -> list[Row]:
    made = counter({"definition": cluster["definition"], "items": cluster["items"]}, COUNTEREXAMPLES, seed)
    return [{**row, "id": f"counter-{number}"} for number, row in enumerate(made)]


def _marked(path: Path, cluster: Row) -> Evals:
    """Evaluations whose rows say whether they belong to the cluster."""
    evals = read_evals(str(path))
    return evals._replace(rows=[{**row, "mined": ["yes" if belongs(cluster, row) else "no"]} for row in evals.rows])


def _sides(evals: Evals) -> dict[str, Any]:
    """Accuracy in the cluster and elsewhere; None where there are no items."""
    sides: dict[str, list[float]] = {"yes": [], "no": []}
    for row in evals.rows:
        sides[row["mined"][0]].append(row["score_tiny"] or 0.0)
    means = {side: sum(values) / len(values) if values else None for side, values in sides.items()}
    return {"in_cluster": means["yes"], "elsewhere": means["no"]}
