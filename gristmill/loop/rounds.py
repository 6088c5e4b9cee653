"""The loop: evaluate, mine the worst failures, counter them, train, and let the gate decide; until it plateaus.

A round belongs to the model that is best so far. Its failures on the mined suite are ranked; the first clusters are
countered; what is made is mixed with replay and trained on; the candidate is compared with the model on the gate's own
items, where the clusters are the targets and nothing else may get worse. A candidate that is not promoted is dropped,
and the next round takes the clusters after these.

Every step is remembered by what it is made from: answers, verdicts, tables, weights. A loop that was killed is started
again as it was; what is finished is taken from the run, and the rest follows.

Not covered: people in the loop (edit the clusters file of a round, and start again).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill.errors import UsageError
from gristmill.files import batch_of
from gristmill.filter.ngrams import Index
from gristmill.keys import file_hash, key_of
from gristmill.loop.asks import asks_of
from gristmill.loop.clusters_table import UNCLUSTERED, read_clusters
from gristmill.loop.counter_files import Plan, counter_clusters
from gristmill.loop.counter_inputs import index_of, maker, replayed, suites
from gristmill.loop.evals import Evals, default_slices, read_evals
from gristmill.loop.evaluate import evaluate
from gristmill.loop.gate import Terms, gate
from gristmill.loop.loop_file import LoopFile
from gristmill.loop.mine import Mining
from gristmill.loop.mine_files import mine_files
from gristmill.loop.suite import Suite, read_suite
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.named import ready
from gristmill.parquet import marked
from gristmill.records import SCHEMAS
from gristmill.run import Run
from gristmill.score.named import score

Row = dict[str, Any]
Say = Callable[[str], None]

TARGET = "mined"
"""The field that says which countered clusters an item of the gate belongs to."""


@dataclass(frozen=True)
class Round:
    """What a round did, as JSON (`told`), and the model that is best after it."""

    told: dict[str, Any]
    model: str


def loop(file: LoopFile, out: Path, *, run: Run, say: Say | None = None) -> dict[str, Any]:
    """Run the rounds of a loop in the directory `out`, and tell what they did and why they ended.

    Raises what the steps raise: UsageError for what cannot be used, Refused for a budget or an endpoint.
    """
    out.mkdir(parents=True, exist_ok=True)
    mined, gated = read_suite(file.suite), read_suite(file.gate_suite)
    if Path(mined.items).resolve() == Path(gated.items).resolve():
        raise UsageError(
            f"loop: suite and gate_suite have the same items ({mined.items}); a gate needs items of its own"
        )
    model = _based(file)
    first = _evaluated(gated, model, out / "gate-0.parquet", run, say)
    rounds: list[dict[str, Any]] = []
    tried: set[str] = set()
    small, why = 0, f"{file.rounds} rounds are done"
    for number in range(1, file.rounds + 1):
        found = _round(file, number, model, tried, mined, gated, out, run, say)
        if found is None:
            why = "no cluster of failures is left that was not tried"
            break
        rounds.append(found.told)
        (out / f"round-{number}.json").write_bytes(orjson.dumps(found.told, option=orjson.OPT_INDENT_2))
        model = found.model
        if found.told["verdict"] == "promote":
            tried.clear()
        gain = found.told["all"]["difference"] if found.told["verdict"] == "promote" else 0.0
        small = small + 1 if gain < file.stop.gain else 0
        if small >= file.stop.rounds:
            why = f"{small} rounds in a row gained less than {file.stop.gain:.1%}"
            break
    last = _evaluated(gated, model, out / "gate-last.parquet", run, say)
    summary = {
        "base": file.base,
        "best": model,
        "rounds": rounds,
        "stopped": why,
        "accuracy": {"base": first["accuracy"], "best": last["accuracy"]},
    }
    (out / "loop.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    return summary


def _round(
    file: LoopFile,
    number: int,
    model: str,
    tried: set[str],
    mined: Suite,
    gated: Suite,
    out: Path,
    run: Run,
    say: Say | None,
) -> Round | None:
    """One round; None where there is no cluster that was not tried."""
    place = out / f"round-{number}"
    place.mkdir(exist_ok=True)
    evals, clusters = place / "mined.parquet", place / "clusters.parquet"
    before = _evaluated(mined, model, evals, run, say)
    mine_files([str(evals)], clusters, run=run, mining=Mining(seed=file.seed), say=say)
    known = [each for each in read_clusters(clusters) if each["cluster"] != UNCLUSTERED]
    chosen = [each for each in known if each["cluster"] not in tried][: file.counter.clusters]
    if not chosen:
        return None
    tried.update(each["cluster"] for each in chosen)
    counters = place / "counters.parquet"
    made = _countered(file, chosen, known, clusters, counters, run, say)
    data = place / "train.parquet"
    mixed = _mixed(file, counters, data, index_of(suites([], run), [str(evals)], known), run)
    candidate = place / "model"
    _trained(file, model, data, candidate, run, say)
    base_evals, new_evals = place / "gate-before.parquet", place / "gate-after.parquet"
    _evaluated(gated, model, base_evals, run, say)
    after = _evaluated(gated, f"hf:{candidate}", new_evals, run, say)
    verdict = _gated(file, chosen, str(base_evals), str(new_evals), run)
    told = {
        "round": number,
        "model": model,
        "candidate": f"hf:{candidate}",
        "mined_accuracy": before["accuracy"],
        "clusters": [_shown(each) for each in chosen],
        "counterexamples": made["rows_kept"],
        "trained_on": mixed,
        "verdict": verdict["verdict"],
        "why": verdict["why"],
        "all": verdict["all"],
        "checks": verdict["checks"],
        "accuracy": after["accuracy"],
    }
    return Round(told, f"hf:{candidate}" if verdict["verdict"] == "promote" else model)


def _based(file: LoopFile) -> str:
    if file.base.startswith(("http://", "https://", "fake:")):
        raise UsageError(f"loop base {file.base}: its weights are not here; allowed are hf:PATH and tiny")
    return file.base


def _evaluated(suite: Suite, model: str, out: Path, run: Run, say: Say | None) -> dict[str, Any]:
    asked = ready(model, calls=Calls(run.path))
    try:
        return evaluate(suite, asked, out, run=run, seed=None, say=say)
    finally:
        wait(asked.close())


def _shown(cluster: Row) -> dict[str, Any]:
    names = ("cluster", "name", "kind", "definition", "items", "failures", "rate", "frequency", "severity", "effort")
    return {name: cluster[name] for name in (*names, "priority")}


def _countered(
    file: LoopFile, chosen: Sequence[Row], known: Sequence[Row], path: Path, out: Path, run: Run, say: Say | None
) -> dict[str, Any]:
    entry = file.counter
    spec = _tiny_maker() if entry.made_by == "tiny" else entry.made_by
    verify = score(entry.verify) if entry.verify else None
    plan = Plan(n=entry.rows, seed=file.seed, made_by=maker(spec) if spec else None, spec=spec or "")
    model = ready(entry.model, calls=Calls(run.path)) if entry.model else None
    try:
        return counter_clusters(
            chosen, path, out, plan, clusters=known, run=run, asks=asks_of(), model=model, score=verify, say=say
        )
    finally:
        if model:
            wait(model.close())


def _tiny_maker() -> str:
    from gristmill.train.tiny import counters

    return f"{counters.__file__}:counter"


def _mixed(file: LoopFile, counters: Path, out: Path, index: Index, run: Run) -> dict[str, int]:
    """Write what is trained on: the kept counterexamples, each so many times, and replay that holds no item of
    `index`."""
    rows = pq.read_table(counters).to_pylist()
    waits = file.counter.model is not None and file.counter.verify is None
    kept = [row for row in rows if row["drop_rule"] is None and not waits]
    if not kept:
        raise UsageError(
            f"loop: no counterexample in {counters} may be trained on; "
            + ("verify them (counter: verify)" if waits else "see their drop_rule")
        )
    drawn = replayed([file.data], file.counter.replay, index, seed=file.seed) if file.counter.replay else []
    old = [row for row in drawn if row.get("drop_rule") is None]
    names = SCHEMAS["sample"].names
    every = [{name: row.get(name) for name in names} for row in kept for _ in range(file.counter.repeat)]
    for number, row in enumerate(every):
        row["copy"] = number % file.counter.repeat
    every += [{name: row.get(name) for name in names} | {"copy": 0} for row in old]
    table = pa.Table.from_batches([batch_of(every, marked(SCHEMAS["sample"]))])
    pq.write_table(table, out, compression="zstd")
    counts = {"counterexamples": len(kept), "repeat": file.counter.repeat, "replay": len(old), "rows": len(every)}
    run.output(out, "mix", params={"inputs": [str(counters), file.data]}, counts=counts)
    return counts


def _trained(file: LoopFile, model: str, data: Path, out: Path, run: Run, say: Say | None) -> None:
    """Train a candidate into `out`, unless it is there already from the same."""
    if file.train.method == "sft":
        from gristmill.train.pipeline import train
        from gristmill.train.settings import Settings

        settings = Settings(method="sft", lora=file.train.lora, args=file.train.args, command=file.train.command)
        train(str(data), model, out, settings, run=run, force=True, say=say)
        return
    from gristmill.train.pipeline import base_of
    from gristmill.train.tiny.make import taught_on

    base = base_of(model)
    parts = {"base": str(base), "data": file_hash(data), "steps": file.train.steps, "seed": file.seed}
    parts["rate"] = file.train.rate
    key = key_of(parts)
    there = [each for each in run.outputs() if each.name == "train" and each.path == str(out.resolve())]
    if there and there[-1].params.get("key") == key and (out / "config.json").is_file():
        return
    rows = pq.read_table(data).to_pylist()
    taught_on(base, rows, out, steps=file.train.steps, seed=file.seed, rate=file.train.rate)
    params = {"inputs": [str(data)], "model": model, "method": "fit", "key": key}
    run.output(out, "train", params=params, counts={"rows": pq.read_metadata(data).num_rows})


def _gated(file: LoopFile, chosen: Sequence[Row], before: str, after: str, run: Run) -> dict[str, Any]:
    base, candidate = (_targeted(read_evals(path), chosen) for path in (before, after))
    there = {name for row in base.rows for name in row[TARGET]}
    targets = [f"{TARGET}={name}" for each in chosen if (name := each["cluster"]) in there] or ["all"]
    entry = file.gate
    slices = default_slices(base) if entry.slices is None else entry.slices
    terms = Terms(
        targets, critical=entry.critical, margin=entry.margin, max_flips=entry.max_flips, least=entry.min_items
    )
    return gate(base, candidate, terms, run=run, slices=[*slices, TARGET])


def _targeted(evals: Evals, chosen: Sequence[Row]) -> Evals:
    """Evaluations whose rows say which of the countered clusters they belong to."""
    mined = [{**row, TARGET: [each["cluster"] for each in chosen if belongs(each, row)]} for row in evals.rows]
    return evals._replace(rows=mined)


def belongs(cluster: Row, row: Mapping[str, Any]) -> bool:
    """Whether a row lies in a cluster that predicates define (`tag borrow and digits = 2`); False for one of text and
    for intervals, whose members are known on the mined items alone."""
    if cluster["kind"] != "slice":
        return False
    meta = orjson.loads(row["meta"]) if row.get("meta") else {}
    return all(_holds(each.strip(), row, meta) for each in re.split(r" and | & ", cluster["definition"]))


def _holds(predicate: str, row: Mapping[str, Any], meta: Mapping[str, Any]) -> bool:
    if predicate.startswith("tag "):
        return predicate[4:] in (row.get("tags") or ())
    name, equals, value = predicate.partition(" = ")
    found = row.get(f"slot_{name}", meta.get(name))
    return bool(equals) and found is not None and str(found) == value
