"""Counter files: from a table of clusters to rows to train on, checked, mixed with replay, and accounted for.

Rows are wanted by cluster and kind. A round asks for as many as are missing, in the order of clusters, kinds and
numbers; what comes back is verified, compared with the evaluations and told from repeats in that order, and what is
still missing is asked for in the next round. So the rows depend on the answers alone, never on which came first, and
the ledger makes a run that was stopped go on where it was.

Not covered: training on the rows (`gristmill train`), and what they brought (`gristmill gate`).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.filter.ngrams import Index
from gristmill.generate.asking import Asking, Made
from gristmill.generate.judged import Verified, drop
from gristmill.loop.asks import KINDS, Ask
from gristmill.loop.clusters_table import UNCLUSTERED
from gristmill.loop.counter import Done, Seed, Seen, Target, Task, asked_of, done, marks, result_of, target_of, verify
from gristmill.loop.counter_inputs import index_of, mark_leaks, mined_from, replayed, rows_made, suites
from gristmill.models.drive import finished
from gristmill.models.protocol import Model
from gristmill.parquet import RowWriter, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.records import DROPS, SCHEMAS, row_id
from gristmill.run import Run, peak_rss_mb
from gristmill.score.score import Score

Row = dict[str, Any]

ROUNDS = 4
"""How often what is missing is asked for."""

SHARES = {"look_alike": 0.4, "contrast": 0.2, "boundary": 0.2, "negative": 0.2}
"""What the rows of a cluster are, unless said otherwise."""

REPLAY_SHARE = 0.5
"""The share of replay among the rows. Measured on the embedded model: 100 counterexamples alone drove every other slice
from .96 to .05; shown five times beside 500 old rows they left it at .93, and the slice rose from .00 to .87."""


@dataclass(frozen=True)
class Plan:
    """What is wanted: `n` kept rows a cluster, their `shares` by kind, the `replay_share` of the whole (with `replay`
    files), `sampling` for the model. `made_by` is a function of the user's, named `spec`, in the model's place."""

    n: int = 100
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    seed: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    replay: Sequence[str] = ()
    replay_share: float = REPLAY_SHARE
    made_by: Callable[..., Any] | None = None
    spec: str = ""

    def quotas(self) -> dict[str, int]:
        """The rows of each kind: the largest remainders get what rounding leaves."""
        exact = {kind: self.n * self.shares.get(kind, 0.0) / sum(self.shares.values()) for kind in KINDS}
        whole = {kind: int(value) for kind, value in exact.items()}
        by_rest = sorted(KINDS, key=lambda kind: (whole[kind] - exact[kind], KINDS.index(kind)))
        for kind in by_rest[: self.n - sum(whole.values())]:
            whole[kind] += 1
        return whole


class _Making:
    """The rows so far, and what each of them must pass."""

    def __init__(self, clusters: Sequence[Row], index: Index, score: Score | None):
        self.index, self.score, self.seen = index, score, Seen(clusters)
        self.rows: list[tuple[tuple[int, int, int], Row]] = []
        self.held_out = {
            name: member["key"]
            for cluster in clusters
            for member in cluster["members"]
            if member["half"] == "held_out"
            for name in (member["id"], member["row"], member["lineage"])
        }

    def take(self, made: Sequence[tuple[tuple[int, int, int], Row]]) -> None:
        """Check rows in the order of their places, and take them."""
        rows = [row for _, row in made]
        for row in rows:
            row["id"] = row_id("sample", row)
            for parent in row["parents"]:
                if row.get("drop_rule") is None and parent in self.held_out:
                    drop(row, "held_out_seed", of=parent, item=self.held_out[parent])
        mark_leaks(rows, self.index)
        for row in rows:
            self.seen.mark(row)
        self.rows += made

    def in_order(self) -> list[Row]:
        """All rows by cluster, kind and number; what no score has verified is for people to look at."""
        rows = [row for _, row in sorted(self.rows, key=lambda pair: pair[0])]
        for row in rows:
            if self.score is None and row.get("drop_rule") is None:
                row["flag_review"] = "answer"
        return rows

    def kept(self, cluster: int, kind: int) -> list[Row]:
        """The kept rows of a cluster and kind."""
        return [row for place, row in self.rows if place[:2] == (cluster, kind) and row.get("drop_rule") is None]


def counter_clusters(
    chosen: Sequence[Row],
    path: Path,
    out: Path,
    plan: Plan,
    *,
    clusters: Sequence[Row],
    run: Run,
    asks: Mapping[str, Ask],
    model: Model | None = None,
    score: Score | None = None,
    checker: Model | None = None,
    against: Sequence[str] = (),
    asking: Asking | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Make counterexamples to the `chosen` of `clusters` (rows of the table at `path`), write them to `out`, and tell
    what they are.

    No row may repeat an item of any of the clusters, or of the suites (`counter_inputs.suites`). `score` verifies
    answers: those of a model against another answer of `checker` to the same question, those of a function by
    themselves. Raises Refused, with the rows so far in `out`, when a budget is spent, too many calls fail or an
    endpoint is gone; UsageError for no cluster, and for neither a model nor a function.
    """
    check_replaceable(out, "counter", force=force)
    chosen = [cluster for cluster in chosen if cluster["cluster"] != UNCLUSTERED]
    if not chosen:
        raise UsageError(f"{path}: holds no cluster; there is nothing to counter")
    if (model is None) == (plan.made_by is None):
        raise UsageError("counter: name a model (-m) or a function (--with FILE.py:FUNCTION), one of them")
    started, stages = time.monotonic(), Stages(say)
    files, evals = suites(against, run), mined_from(path, run)
    making = _Making(clusters, index_of(files, evals, clusters), score)
    targets = [target_of(cluster, plan.seed) for cluster in chosen]
    asking = asking or Asking()
    stages.begin("counter", plan.n * len(chosen))
    if plan.made_by is not None:
        _by_function(targets, plan, making)
    else:
        assert model is not None
        verified = Verified(score, checker or model) if score else None
        _by_model(targets, plan, making, asking, partial(_work, asks, model, plan, verified), verified)
    made = making.in_order()
    kept = sum(row.get("drop_rule") is None for row in made)
    wanted = round(kept * plan.replay_share / (1 - plan.replay_share)) if plan.replay else 0
    old = replayed(plan.replay, wanted, making.index, seed=plan.seed) if wanted else []
    rows = made + old
    stages.end(f"{len(rows):>11,} rows", asking.tally.note())
    stop = asking.ended(len(rows), None, out)
    summary = _summary(chosen, plan, making, old, wanted) | {
        "clusters_file": str(path),
        "against": files + evals,
        "verified_by": score.name if score else None,
        "stopped": str(stop) if stop else None,
        **asking.tally.summary(),
        "seconds": round(time.monotonic() - started, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    if rows:
        with space_wanted("the output", out), beside(out) as partial_dir:
            with RowWriter(partial_dir / out.name, _schema(rows, score)) as writer:
                for row in rows:
                    writer.write(asking.copies.numbered(row))
            params = {"inputs": [str(path)], "shares": dict(plan.shares), "n": plan.n, "seed": plan.seed}
            counts = {name: summary[name] for name in ("rows", "rows_kept", "weights")}
            run.output(out, "counter", params=params, counts=counts, beside=partial_dir / out.name)
    if stop:
        raise stop
    return summary


def _work(asks: Mapping[str, Ask], model: Model, plan: Plan, verified: Verified | None, task: Task) -> Any:
    ask = asks[task.kind]
    return partial(done, task, ask, asked_of(task, ask, model, plan.sampling, plan.seed), verified)


def _by_model(
    targets: Sequence[Target],
    plan: Plan,
    making: _Making,
    asking: Asking,
    work: Callable[[Task], Any],
    verified: Verified | None,
) -> None:
    """Fill the quotas by rounds of calls; contrast pairs come after the look-alikes they are edits of."""
    quotas = plan.quotas()
    for stage in (tuple(kind for kind in KINDS if kind != "contrast"), ("contrast",)):
        asked: Counter[tuple[int, str]] = Counter()
        for _ in range(ROUNDS):
            tasks = list(_missing(targets, stage, quotas, making, asked))
            if not tasks or asking.stop:
                break
            found: list[Done] = []
            for _ in asking.counted(_made(finished(map(work, tasks)), found)):
                pass
            if verified:
                verified.settle(
                    [(result_of(each.row), each.answers) for each in found if not each.row.get("drop_rule")]
                )
            making.take([(_place(targets, each.task), each.row) for each in found])


def _made(stream: Iterator[Done], found: list[Done]) -> Iterator[Made]:
    """The calls of a stream, to be counted; its rows are gathered, for they are judged together."""
    for each in stream:
        found.append(each)
        yield Made(each.calls, lambda _: ())


def _missing(
    targets: Sequence[Target],
    kinds: Sequence[str],
    quotas: Mapping[str, int],
    making: _Making,
    asked: Counter[tuple[int, str]],
) -> Iterator[Task]:
    for place, target in enumerate(targets):
        for kind in kinds:
            seeds = target.seeds.get(kind, ())
            if kind == "contrast":
                seeds = [Seed(row, row["parents"][0]) for row in making.kept(place, KINDS.index("look_alike"))]
            short = quotas[kind] - len(making.kept(place, KINDS.index(kind)))
            for _ in range(short if seeds else 0):
                number = asked[place, kind]
                asked[place, kind] += 1
                yield Task(target, kind, number, seeds[number % len(seeds)])


def _place(targets: Sequence[Target], task: Task) -> tuple[int, int, int]:
    return targets.index(task.target), KINDS.index(task.kind), task.number


def _by_function(targets: Sequence[Target], plan: Plan, making: _Making) -> None:
    """Fill the quota of each cluster with rows of the user's function; each round draws with a seed of its own."""
    assert plan.made_by is not None
    for place, target in enumerate(targets):
        cluster, number = _for_function(target), 0
        for turn in range(ROUNDS):
            short = plan.n - sum(len(making.kept(place, kind)) for kind in range(len(KINDS) + 1))
            if short <= 0:
                break
            rows = rows_made(plan.made_by, cluster, short, plan.seed + turn, plan.spec)
            if not rows:
                break
            made = []
            for row in rows:
                row |= marks(target.cluster, row["flag_counter"], parents=row["parents"]) | {"sample": number}
                kind = KINDS.index(row["flag_counter"]) if row["flag_counter"] in KINDS else len(KINDS)
                made.append(((place, kind, number), row))
                number += 1
            if making.score:
                verify(making.score, rows)
            making.take(made)


def _for_function(target: Target) -> Row:
    cluster = target.cluster
    known = {name: cluster[name] for name in ("name", "definition", "kind", "words")}
    names = ("id", "prompt", "reference", "response", "tags", "failed")
    train = [member for member in cluster["members"] if member["half"] == "train" and member["inside"]]
    items = [{name: each[name] for name in names} | {"facts": orjson.loads(each["facts"])} for each in train]
    return {"id": cluster["cluster"], **known, "items": items}


def _summary(chosen: Sequence[Row], plan: Plan, making: _Making, old: Sequence[Row], wanted: int) -> Row:
    """What was made, by cluster and kind, what was dropped and why, and what weight everything has in the whole."""
    told = []
    for place, cluster in enumerate(chosen):
        mine = [(KINDS[at[1]] if at[1] < len(KINDS) else "other", row) for at, row in making.rows if at[0] == place]
        kinds = {
            kind: {
                "made": sum(name == kind for name, _ in mine),
                "kept": sum(name == kind and row.get("drop_rule") is None for name, row in mine),
            }
            for kind in dict.fromkeys([*KINDS, *(name for name, _ in mine)])
        }
        if plan.made_by is None:
            for kind, quota in plan.quotas().items():
                kinds[kind]["wanted"] = quota
        kept = sum(each["kept"] for each in kinds.values())
        told.append({"cluster": cluster["cluster"], "name": cluster["name"], "kept": kept, "kinds": kinds})
    rows = [row for _, row in making.rows] + list(old)
    good = [row for row in rows if row.get("drop_rule") is None]
    weights = Counter(row["flag_counter"] for row in good)
    return {
        "gristmill": __version__,
        "rows": len(rows),
        "rows_kept": len(good),
        "dropped": dict(Counter(row["drop_rule"] for row in rows if row.get("drop_rule")).most_common()),
        "clusters": told,
        "wanted": plan.n,
        "replay": {"wanted": wanted, "rows": sum(row.get("drop_rule") is None for row in old)},
        "weights": {name: count / len(good) for name, count in weights.items()},
        "for_people": sum(row.get("flag_review") is not None for row in good),
    }


def _schema(rows: Sequence[Row], score: Score | None) -> pa.Schema:
    names = {name for row in rows for name in row}
    slots = [pa.field(name, pa.large_string()) for name in sorted(names) if name.startswith("slot_")]
    flags = [pa.field(f"flag_{name}", pa.large_string()) for name in ("cluster", "counter", "pair", "review")]
    scored = []
    if score:
        kinds = {"score": pa.float64(), "verdict": pa.large_string(), "why": pa.large_string()}
        scored = [pa.field(f"{prefix}_{score.name}", kind) for prefix, kind in kinds.items()]
    return marked(pa.schema([*SCHEMAS["sample"], *slots, *scored, *flags, *DROPS]))
