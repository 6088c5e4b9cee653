"""The loop: evaluate, mine the worst failures, counter them, train, and let the gate decide; until it is enough.

A round belongs to the model that is best so far. Its failures on the mined suite are ranked; the first clusters are
countered; what is made is mixed with replay and trained on; the candidate is compared with the model on the gate's own
items, where the clusters are the targets and nothing else may get worse. A candidate that is not promoted is dropped,
and the next round takes the clusters after these. `stops.py` says when it ends.

Every step is done once (`once.py`). A loop that was killed is started again as it was; what is finished is taken from
its directory and its run, and the rest follows. One process at a time works in a directory.

Not covered: people in the loop (edit the clusters file of a round, and start again).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gristmill.beside import alone
from gristmill.errors import UsageError
from gristmill.loop import steps, stops
from gristmill.loop.checks import check_gate, check_loop
from gristmill.loop.clusters_table import read_clusters
from gristmill.loop.loop_file import LoopFile
from gristmill.loop.once import total, write_json
from gristmill.loop.steps import Loop, Row, Say
from gristmill.loop.suite import read_suite
from gristmill.models.budget import Budget
from gristmill.report.loop import write_loop_report
from gristmill.run import Run

PROMOTED = "promote"


@dataclass
class Standing:
    """Where a loop stands: the best model, its evaluations, and what was done."""

    model: str
    gate: Path
    """The best model's evaluation on the gate's items."""
    accuracy: float
    mined: Path | None = None
    """Its evaluation on the mined items; None before there is one."""
    tried: set[str] = field(default_factory=set)
    """The clusters that were countered since it is the best."""
    gains: list[float] = field(default_factory=list)
    """Of each round on the gate's items; 0 for one that was not promoted."""
    took: list[Row] = field(default_factory=list)
    """What each step took, with its name and round."""

    def note(self, round_: int, step: str, told: Row) -> Row:
        """Note what a step took."""
        self.took.append({"round": round_, "step": step, **told["took"]})
        return told


def loop(file: LoopFile, out: Path, *, run: Run, say: Say | None = None) -> dict[str, Any]:
    """Run the rounds of a loop in the directory `out`, and tell what they did, what they took and why they ended.

    `out/loop.json` (what is returned) and `out/loop.html` are written after each round. Raises UsageError for what
    cannot be used, Refused for a model that does not answer.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / ".lock").exists()):
        raise UsageError(f"-o {out}: not a directory of a loop; name another")
    mined, gated = read_suite(file.suite), read_suite(file.gate_suite)
    check_loop(file, mined, gated)
    with alone(out, "loop"):
        return _looped(Loop(file, mined, gated, out, run, say))


def _looped(loop: Loop) -> Row:
    file, out = loop.file, loop.out
    gate = out / "gate-0.parquet"
    first = steps.evaluated(loop, loop.gated, file.base, gate)
    check_gate(file, gate)
    now = Standing(file.base, gate, first["accuracy"])
    now.note(0, "gate items", first)
    rounds: list[Row] = []
    stopped = None
    for number in range(1, file.rounds + 1):
        found = _round(loop, number, now)
        if isinstance(found, str):
            stopped = found
            break
        write_json(out / f"round-{number}.json", found)
        rounds.append(found)
        _told(loop, now, rounds, first, None)
        if stopped := stops.plateau(file.stop, now.gains):
            break
    return _told(loop, now, rounds, first, stopped or f"rounds: {file.rounds} of {file.rounds} are done (rounds)")


def _told(loop: Loop, now: Standing, rounds: Sequence[Row], first: Row, stopped: str | None) -> Row:
    """The summary so far, written with its report."""
    summary = {
        "base": loop.file.base,
        "best": now.model,
        "run": str(loop.run.path),
        "rounds": rounds,
        "stopped": stopped,
        "accuracy": {"base": first["accuracy"], "best": now.accuracy},
        "steps": now.took,
        "took": total(now.took),
    }
    write_json(loop.out / "loop.json", summary)
    write_loop_report(loop.out)
    return summary


def _round(loop: Loop, number: int, now: Standing) -> Row | str:
    """One round; or why there is none."""
    file, place = loop.file, loop.out / f"round-{number}"
    if why := stops.spent(file.stop, total(now.took)):
        return why
    place.mkdir(exist_ok=True)
    if now.mined is None:
        now.mined = place / "mined.parquet"
        now.note(number, "mined items", steps.evaluated(loop, loop.mined, now.model, now.mined))
    clusters, counters, data = (place / f"{name}.parquet" for name in ("clusters", "counters", "train"))
    failures = now.note(number, "mine", steps.mined(loop, now.mined, clusters))
    left = [each for each in steps.known_clusters(clusters) if each["cluster"] not in now.tried]
    unseen = stops.unseen_mass(read_clusters(clusters), failures["items"])
    if why := stops.seen(file.stop, unseen, left):
        return why
    if not left:
        return "clusters: none is left that was not tried"
    chosen = left[: file.counter.clusters]
    made = _countered(loop, number, now, chosen, clusters)
    if isinstance(made, str):
        return made
    told: Row = {
        "round": number,
        "model": now.model,
        "mined": {name: failures[name] for name in ("items", "failures", "rate")} | {"unseen": unseen},
        "clusters": [steps.shown(each) for each in chosen],
        "counterexamples": made["rows_kept"],
        "dropped": made["dropped"],
        "files": {"mined": now.mined, "clusters": clusters, "counters": counters, "before": now.gate},
    }
    if made["rows_kept"]:
        mix = now.note(number, "mix", steps.mixed(loop, number, counters, now.mined, clusters, data))
        told["trained_on"] = {name: mix[name] for name in ("counterexamples", "repeat", "replay", "rows")}
        told["files"] |= {"train": data, "after": place / AFTER}
        told |= _judged(loop, number, now, chosen, data)
    else:
        told |= _NOTHING
    now.tried.update(each["cluster"] for each in chosen)
    if told["verdict"] == PROMOTED:
        now.model, now.gate, now.accuracy = told["candidate"], place / AFTER, told["accuracy"]
        now.mined = None
        now.tried.clear()
    now.gains.append(told["all"]["difference"] if told["verdict"] == PROMOTED else 0.0)
    told["files"] = {name: str(path.relative_to(loop.out)) for name, path in told["files"].items()}
    took = [each for each in now.took if each["round"] == number]
    return told | {"steps": took, "took": total(took)}


AFTER = "gate-after.parquet"

_NOTHING: Row = {
    "verdict": "nothing",
    "why": ["no counterexample was kept"],
    "trained_on": {"counterexamples": 0, "repeat": 0, "replay": 0, "rows": 0},
    "candidate": None,
    "all": None,
    "checks": [],
}
"""What a round comes to that has nothing to train on."""


def _countered(loop: Loop, number: int, now: Standing, chosen: Sequence[Row], clusters: Path) -> Row | str:
    """Counterexamples to the chosen clusters; or why the budget does not allow them."""
    limit, spent = loop.file.stop.budget.cost, total(now.took)["money"]
    budget = Budget(None if limit is None else limit - spent)
    made = steps.countered(loop, number, chosen, clusters, clusters.with_name("counters.parquet"), budget)
    if "rows" in made:
        return now.note(number, "counter", made)
    now.note(number, "counter, cut", made)
    return f"budget: {limit:g} may be spent on calls, and round {number} would take more (stop: budget: cost)"


def _judged(loop: Loop, number: int, now: Standing, chosen: Sequence[Row], data: Path) -> Row:
    """Train a candidate and put it to the gate."""
    place = data.parent
    record = now.note(number, "train", steps.trained(loop, now.model, data, place / "model"))
    candidate = f"hf:{place / 'model'}"
    after = now.note(number, "gate items", steps.evaluated(loop, loop.gated, candidate, place / AFTER))
    verdict = now.note(number, "gate", steps.gated(loop, chosen, now.gate, place / AFTER, place / "gate.json"))
    return {
        "candidate": candidate,
        "base_content": record["base"]["content"],
        "accuracy": after["accuracy"],
        **{name: verdict[name] for name in ("verdict", "why", "all", "checks", "look")},
    }
