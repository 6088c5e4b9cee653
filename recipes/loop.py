"""A model made better in rounds: evaluate → mine → counter → mix → train → gate, as plain calls.

    python recipes/loop.py -o loop-out       # the embedded model (extra `train`): some minutes on one core, no network

For whom `gristmill loop LOOP.yaml` is too narrow: put your own between the calls. Here a round tries several
candidates, with more and with less replay, and the gate, which knows how often its items were looked at, decides on
each. The model saw next to no borrows; nobody tells the loop. Copy this file and put your weights, suites and makers of
counterexamples into it. Started again, no answer is asked for, and no candidate trained, twice.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gristmill import Calls, GristmillError, Run, ready
from gristmill.loop.asks import asks_of
from gristmill.loop.clusters_table import UNCLUSTERED, read_clusters
from gristmill.loop.counter_files import Plan, counter_clusters
from gristmill.loop.counter_inputs import index_of, suites
from gristmill.loop.evals import read_evals
from gristmill.loop.evaluate import evaluate
from gristmill.loop.gate import Terms, gate
from gristmill.loop.mine_files import mine_files
from gristmill.loop.mixed import mix_counters
from gristmill.loop.suite import Suite
from gristmill.loop.targets import TARGET, targeted, targets
from gristmill.models.drive import wait
from gristmill.score.named import score
from gristmill.train.pipeline import train
from gristmill.train.settings import Settings
from gristmill.train.tiny.counters import counter
from gristmill.train.tiny.data import write_data
from gristmill.train.tiny.make import Recipe, make
from gristmill.train.tiny.world import Mix

FORMS = {"hash": 1.0}
LACKING = Mix(lacking={"borrow": 0.98}, forms=FORMS)
REPLAY = (2_000, 500)
"""Old rows beside the counterexamples: a candidate for each."""


def main(
    run: Run,
    out: Path,
    *,
    rounds: int = 2,
    items: int = 1_200,
    steps: int = 250,
    base_steps: int = 500,
    replay: Sequence[int] = REPLAY,
) -> str:
    """Improve a model in `rounds`, and return the best: `hf:` and its directory."""
    out.mkdir(parents=True, exist_ok=True)
    base, data = out / "base", out / "base.parquet"
    if not base.exists():
        make(base, Recipe(seed=1, steps=base_steps, mix=LACKING))
    write_data(data, 8_000, answers=True, seed=1, mix=LACKING)
    mined, gated = (suite(out, name, items // share, seed) for name, share, seed in (("mined", 3, 11), ("gate", 1, 12)))

    best, before = f"hf:{base}", out / "gate-base.parquet"
    print(f"begun with {evaluated(gated, best, before, run):.1%}")
    for number in range(1, rounds + 1):
        place = out / f"round-{number}"
        place.mkdir(exist_ok=True)

        # What is wrong: failures on items that the gate does not have.
        failures, clusters = place / "failures.parquet", place / "clusters.parquet"
        evaluated(mined, best, failures, run)
        mine_files([str(failures)], clusters, run=run)
        known = [each for each in read_clusters(clusters) if each["cluster"] != UNCLUSTERED]
        if not known:
            print(f"round {number}: no cluster of failures is left")
            break
        worst = known[:1]
        print(f"round {number}: {worst[0]['name']} ({worst[0]['rate']:.0%} of {worst[0]['items']} fail)")

        # What is against it: rows by a function here; a model in its place is `model=ready(…)`, with a plan without it.
        counters = place / "counters.parquet"
        plan = Plan(n=100, seed=number, made_by=counter, spec="gristmill/train/tiny/counters.py:counter")
        counter_clusters(worst, clusters, counters, plan, clusters=known, run=run, asks=asks_of(), score=score("tiny"))
        index = index_of(suites([], run), [str(failures)], known)

        # Candidates, each put to the gate against the best model so far.
        passed = {}
        for old in replay:
            rows, model, after = (place / f"{name}-{old}{end}" for name, end in PARTS)
            mix_counters(counters, [str(data)], rows, repeat=5, replay=old, index=index, seed=number, run=run)
            train(str(rows), best, model, Settings("fit", args={"steps": steps}), run=run)
            accuracy = evaluated(gated, f"hf:{model}", after, run)
            verdict = judged(before, after, worst, run)
            print(f"  {old} of replay: {accuracy:.1%}, {verdict['verdict']} {'; '.join(verdict['why'])[:120]}")
            if verdict["verdict"] == "promote":
                passed[accuracy] = (f"hf:{model}", after)
        if passed:
            best, before = passed[max(passed)]
    return best


PARTS = (("train", ".parquet"), ("model", ""), ("after", ".parquet"))


def suite(out: Path, name: str, n: int, seed: int) -> Suite:
    """A suite of `n` items of the part of the world that no model is trained on."""
    items = write_data(out / f"{name}.parquet", n, answers=False, seed=seed, part="test", mix=Mix(forms=FORMS))
    sampling = {"max_tokens": 48, "temperature": 0}
    return Suite(name=name, items=str(items), scores=["tiny"], slices=["slot_operation"], sampling=sampling)


def evaluated(items: Suite, model: str, out: Path, run: Run) -> float:
    """The accuracy of a model; its answers and verdicts in `out`."""
    asked = ready(model, calls=Calls(run.path))
    try:
        accuracy: float = evaluate(items, asked, out, run=run, seed=None)["accuracy"]
    finally:
        wait(asked.close())
    return accuracy


def judged(before: Path, after: Path, clusters: Sequence[dict[str, Any]], run: Run) -> dict[str, Any]:
    """The verdict of the gate: better in the clusters, nowhere more than five points worse."""
    base, candidate = (targeted(read_evals(str(path)), clusters) for path in (before, after))
    terms = Terms(targets(base, clusters), margin=0.05)
    return gate(base, candidate, terms, run=run, slices=["slot_operation", TARGET])


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description="A model made better in rounds.")
    flags.add_argument("-o", "--out", type=Path, default=Path("loop-out"), metavar="DIR", help="directory to write")
    given = flags.parse_args()
    try:
        print(f"the best model: {main(Run(given.out / 'run'), given.out)}")
    except GristmillError as error:
        sys.exit(f"loop: {error}")
