"""The steps of a round of the loop, each done once (`once.py`): evaluate, mine, counter, mix, train, gate.

They are plain calls of what the verbs of these names call; what is here is what each is made from, and what it took.

Not covered: which step follows (`rounds.py`); evaluations that judges pay for: their calls are in no figure here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gristmill.errors import Refused
from gristmill.generate.asking import Asking
from gristmill.keys import file_hash, hashed_files, key_of
from gristmill.loop.asks import asks_of
from gristmill.loop.clusters_table import UNCLUSTERED, read_clusters
from gristmill.loop.counter_files import Plan, counter_clusters
from gristmill.loop.counter_inputs import index_of, maker, maker_of, suites
from gristmill.loop.edits import Edits, read_edits
from gristmill.loop.evals import default_slices, read_evals
from gristmill.loop.evaluate import evaluate
from gristmill.loop.gate import Terms, gate
from gristmill.loop.loop_file import LoopFile
from gristmill.loop.mine import Mining
from gristmill.loop.mine_files import mine_files
from gristmill.loop.mixed import mix_counters
from gristmill.loop.once import TOOK, once, read_json, write_json
from gristmill.loop.suite import Suite
from gristmill.loop.targets import TARGET, targeted, targets
from gristmill.models.budget import Budget
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.named import entries, prices_of, ready
from gristmill.models.weights import content_of
from gristmill.run import Run
from gristmill.score.named import score
from gristmill.train.pipeline import base_of, train
from gristmill.train.settings import Settings, numbers

Row = dict[str, Any]
Say = Callable[[str], None]

_TOLD = ("cluster", "name", "kind", "definition", "items", "failures", "rate", "frequency", "severity", "effort")

SEEDS = 100
"""How far the seeds of two rounds are apart: makers of counterexamples use those after it too."""


@dataclass(frozen=True)
class Loop:
    """A loop under way: what its file says, its two suites, its directory, its run, and who is told of its steps."""

    file: LoopFile
    mined: Suite
    gated: Suite
    out: Path
    run: Run
    say: Say | None = None

    def seed(self, round_: int) -> int:
        """The seed of a round's draws: a cluster that comes again is countered by other rows."""
        return self.file.seed + SEEDS * (round_ - 1)

    def content(self, path: str) -> list[str]:
        """The hashes of what lies at a path."""
        return [each["hash"] for each in hashed_files([path], self.run.ledger)]


def evaluated(loop: Loop, suite: Suite, model: str, out: Path) -> Row:
    """Put a suite to a model on this machine; returns the account of `evaluate`."""
    parts = {
        "suite": suite.model_dump(mode="json", exclude={"items"}),
        "scores": [each.fingerprint for each in suite.built()],
        "items": loop.content(suite.items),
        "model": content_of(base_of(model)),
    }

    def make() -> Row:
        asked = ready(model, calls=Calls(loop.run.path))
        try:
            return evaluate(suite, asked, out, run=loop.run, seed=None, say=loop.say)
        finally:
            wait(asked.close())

    return once(out.with_suffix(".json"), parts, make, run=loop.run, out=out)


def mined(loop: Loop, evals: Path, out: Path) -> Row:
    """Mine an evaluation; returns {items, failures, rate, clusters}. The edits beside `out` are applied."""
    edits = out.with_suffix(".edits.yaml")
    said = (read_edits(edits) if edits.is_file() else Edits()).model_dump()
    parts = {"evals": file_hash(evals), "seed": loop.file.seed, "edits": said}

    def make() -> Row:
        told = mine_files([str(evals)], out, run=loop.run, mining=Mining(seed=loop.file.seed), say=loop.say)
        return {name: told[name] for name in ("items", "failures", "rate")} | {"clusters": len(told["clusters"])}

    return once(out.with_suffix(".json"), parts, make, run=loop.run, out=out)


def countered(loop: Loop, round_: int, chosen: Sequence[Row], clusters: Path, out: Path, budget: Budget) -> Row:
    """Make counterexamples to the `chosen` of the clusters in a table; returns the account of `counter_clusters`, or
    nothing but `took`, if the budget was spent before its end.

    Raises Refused when the model does not answer; what was answered is kept.
    """
    entry, known = loop.file.counter, known_clusters(clusters)
    spec = maker_of(entry.made_by)
    against = suites([], loop.run)
    parts = {
        "clusters": file_hash(clusters),
        "chosen": [each["cluster"] for each in chosen],
        "with": [*loop.content(spec.rpartition(":")[0]), spec.rpartition(":")[2]] if spec else None,
        "model": entry.model,
        "verify": score(entry.verify).fingerprint if entry.verify else None,
        "rows": entry.rows,
        "seed": loop.seed(round_),
        "against": [each for path in against for each in loop.content(path)],
    }

    def make() -> Row:
        plan = Plan(n=entry.rows, seed=loop.seed(round_), made_by=maker(spec) if spec else None, spec=spec)
        ask = partial(counter_clusters, chosen, clusters, out, plan, clusters=known, run=loop.run, asks=asks_of())
        verify = score(entry.verify) if entry.verify else None
        if not entry.model:
            return ask(score=verify, say=loop.say)
        model = ready(entry.model, calls=Calls(loop.run.path), budget=budget)
        priced = prices_of(entry.model, entries())
        prices = {model.name: priced} if priced else {}
        try:
            return ask(model=model, score=verify, asking=Asking(budget=budget, prices=prices), say=loop.say)
        finally:
            wait(model.close())

    try:
        return once(out.with_suffix(".json"), parts, make, run=loop.run, out=out)
    except Refused:
        if budget.refusal() is None:  # another reason: calls that fail
            raise
    return _cut(out.with_suffix(".cut.json"), key_of(parts), budget)


def _cut(account: Path, key: str, budget: Budget) -> Row:
    """What a step took that the budget cut: the answers that were charged now are those of an earlier start and more,
    or, if the calls ended sooner, fewer."""
    took: Row = {"calls": budget.calls, "tokens_in": budget.tokens_in, "tokens_out": budget.tokens_out}
    took |= {"money": budget.spent["cost"], "seconds": 0.0}
    before = read_json(account) if account.is_file() else {}
    if before.get("key") == key and before["took"]["calls"] > took["calls"]:
        took = before["took"]
    write_json(account, {"key": key, "took": took})
    return {"took": took}


def known_clusters(path: Path) -> list[Row]:
    """The clusters of a table, without the unclustered bin."""
    return [each for each in read_clusters(path) if each["cluster"] != UNCLUSTERED]


def mixed(loop: Loop, round_: int, counters: Path, evals: Path, clusters: Path, out: Path) -> Row:
    """Mix counterexamples with replay; returns {counterexamples, repeat, replay, rows}. No row of the replay holds an
    item that was mined, or of a suite."""
    entry = loop.file.counter
    against = suites([], loop.run)
    parts = {
        "counters": file_hash(counters),
        "data": loop.content(loop.file.data),
        "against": [each for path in [*against, str(evals)] for each in loop.content(path)],
        "repeat": entry.repeat,
        "replay": entry.replay,
        "seed": loop.seed(round_),
    }

    def make() -> Row:
        index = index_of(against, [str(evals)], known_clusters(clusters))
        data, seed = [loop.file.data], loop.seed(round_)
        return mix_counters(
            counters, data, out, repeat=entry.repeat, replay=entry.replay, index=index, seed=seed, run=loop.run
        )

    return once(out.with_suffix(".json"), parts, make, run=loop.run, out=out)


def trained(loop: Loop, model: str, data: Path, out: Path) -> Row:
    """Train a candidate; returns the record of `train`, which sees to it that nothing is trained twice."""
    record = train(str(data), model, out, settings_of(loop.file), run=loop.run, force=True, say=loop.say)
    return {**record, "took": dict.fromkeys(TOOK, 0) | {"seconds": record["seconds"]}}


def settings_of(file: LoopFile) -> Settings:
    """How a loop's file says to train. Raises UsageError for what does not go together."""
    entry = file.train
    args = numbers(entry.args)
    if entry.method == "fit":
        given = {"steps": entry.steps, "rate": entry.rate}
        args = {name: value for name, value in given.items() if value is not None}
    return Settings(entry.method, entry.lora, args, file.seed, command=entry.command)


def gated(loop: Loop, chosen: Sequence[Row], before: Path, after: Path, out: Path) -> Row:
    """Compare two evaluations, the chosen clusters being the targets; returns the verdict of `gate`."""
    entry = loop.file.gate
    parts = {
        "before": file_hash(before),
        "after": file_hash(after),
        "gate": entry.model_dump(mode="json"),
        "chosen": [each["cluster"] for each in chosen],
    }

    def make() -> Row:
        base, candidate = (targeted(read_evals(str(path)), chosen) for path in (before, after))
        slices = default_slices(base) if entry.slices is None else entry.slices
        terms = Terms(
            targets(base, chosen),
            critical=entry.critical,
            margin=entry.margin,
            max_flips=entry.max_flips,
            least=entry.min_items,
        )
        return gate(base, candidate, terms, run=loop.run, slices=[*slices, TARGET])

    return once(out, parts, make, run=loop.run)


def shown(cluster: Row) -> Row:
    """What is told of a cluster."""
    return {name: cluster[name] for name in (*_TOLD, "priority")}
