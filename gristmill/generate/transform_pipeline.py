"""Transform files: from tables to a Parquet file of results, and the account of what they took.

With a share of reasoning the file is a mix: every original once, changed or as it is. Results that failed would break
the share; the fewest rows whose absence mends it are marked (`drop_rule` `reason_share`), so that among the kept rows
it is exact.

Not covered: more than one result for an original in a mix.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.filter.marks import evidence
from gristmill.generate import mix
from gristmill.generate.asking import Asking
from gristmill.generate.direct import has_reasoning
from gristmill.generate.originals import Originals
from gristmill.generate.pipeline import plan_told
from gristmill.generate.sample import Plan, Row
from gristmill.generate.transform import Transform, transformed
from gristmill.models.protocol import Model
from gristmill.parquet import GROUP_ROWS, RowWriter, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.records import CARRIED, DROPS, SCHEMAS
from gristmill.run import Run, peak_rss_mb

BAD_SHOWN = 20
"""Bad rows that the summary names."""

_MIXED = ["id", "copy", "source_file", "tags", "response", "reasoning", "drop_rule"]


def transform_rows(
    originals: Originals,
    transform: Transform,
    models: Sequence[Model],
    out: Path,
    plan: Plan,
    *,
    run: Run,
    asking: Asking | None = None,
    reason_share: float | None = None,
    source: Sequence[str] = (),
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Transform the `originals`, write the results to `out`, and tell what they took.

    Returns the summary. Raises Refused, with the rows so far in `out`, when a budget is spent, too many calls fail or
    an endpoint is gone; UsageError, with nothing written, for what makes every call fail.
    """
    check_replaceable(out, "transform", force=force)
    op = transform.op
    if not models and not op.marked:
        raise UsageError(f"-m: {op.name} asks a model; name one")
    started = time.monotonic()
    stages = Stages(say)
    if reason_share is not None:
        transform = replace(transform, only=frozenset(to_change(originals, transform, plan, reason_share)))
    asking = asking or Asking()
    counts, told = _Counts(transform), None
    with space_wanted("the output", out), beside(out) as partial:
        file = partial / out.name
        stages.begin("transform", originals.count)
        with RowWriter(file, _schema(originals, transform)) as writer:
            for row in asking.counted(transformed(originals, transform, models, plan)):
                counts.add(row)
                writer.write(row)
        if reason_share is not None:
            told, dropped = mended(file, reason_share, transform.seed)
            counts.dropped.update({"reason_share": dropped} if dropped else {})
        stages.end(f"{writer.rows:>11,} rows", asking.tally.note())
        stop = asking.ended(writer.rows, None, out)
        summary: dict[str, Any] = {
            "gristmill": __version__,
            "source": list(source),
            **op.lineage,
            "rows_in": originals.count,
            "rows": writer.rows,
            "rows_kept": writer.rows - counts.dropped.total(),
            "dropped": dict(counts.dropped.most_common()),
            "first_failure": counts.failure,
            "rows_bad": len(originals.bad),
            "bad_rows": originals.bad[:BAD_SHOWN],
            "rows_unanswered": originals.unanswered,
            "verdicts": {name: dict(found.most_common()) for name, found in counts.verdicts.items()},
            "reason_share": told,
            "stopped": str(stop) if stop else None,
            **asking.tally.summary(),
            "seconds": round(time.monotonic() - started, 2),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        if writer.rows:
            params = {"inputs": list(source), **op.lineage, "plan": plan_told(plan)}
            params["models"] = [model.name for model in models]
            noted = {name: summary[name] for name in ("rows", "rows_kept", "calls", "failed", "cost", "reason_share")}
            run.output(out, "transform", params=params, counts=noted, beside=file)
    if stop:
        raise stop
    return summary


def to_change(originals: Originals, transform: Transform, plan: Plan, share: float) -> set[tuple[str, int]]:
    """The keys of the originals that are to be changed for a share of reasoning.

    Raises UsageError for a transform that neither adds nor takes reasoning, for several results an original, and where
    the share cannot be reached.
    """
    op = transform.op
    adds = op.makes == ["reasoning"]
    if not (adds or op.marked):
        raise UsageError(f"--reason-share: {op.name} neither adds nor takes reasoning; use --op reason or --op strip")
    if transform.keep_original:
        raise UsageError("--reason-share --keep-original: in a mix an original comes once; leave --keep-original out")
    if plan.n * len(plan.rungs) > 1:
        raise UsageError("--reason-share: in a mix an original comes once; use -n 1 and one temperature")
    members = (_member(row) for row in originals)
    return mix.chosen(members, share, adds=adds, seed=transform.seed)


def mended(file: Path, share: float, seed: int) -> tuple[dict[str, Any], int]:
    """Mark the fewest rows of a file for the share to be exact among the kept ones; what the mix is, and how many."""
    members = list(_members(file))
    dropped = mix.surplus(members, share, seed=seed)
    if dropped:
        facts = evidence(share=share, why="one of the fewest rows without which the share is exact")
        whole = file.with_name(f"{file.name}.whole")
        file.rename(whole)
        with pq.ParquetFile(whole) as old, pq.ParquetWriter(file, old.schema_arrow, compression="zstd") as new:
            for batch in old.iter_batches(GROUP_ROWS):
                new.write_table(_marked(pa.Table.from_batches([batch]), dropped, facts))
        whole.unlink()
    stay = (member for member in members if (member.id, member.copy) not in dropped)
    return mix.told(stay, share, dropped=len(dropped)), len(dropped)


def _marked(table: pa.Table, dropped: set[tuple[str, int]], facts: str) -> pa.Table:
    keys = zip(table["id"].to_pylist(), table["copy"].to_pylist(), strict=True)
    over = [key in dropped for key in keys]
    for name, value in (("drop_rule", "reason_share"), ("drop_evidence", facts)):
        place = table.column_names.index(name)
        old = table[name].to_pylist()
        new = [value if mark else before for mark, before in zip(over, old, strict=True)]
        table = table.set_column(place, table.schema.field(name), pa.array(new, pa.large_string()))
    return table


def _members(file: Path) -> Iterator[mix.Member]:
    """The kept rows of a file."""
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(GROUP_ROWS, columns=_MIXED):
            yield from (_member(row) for row in batch.to_pylist() if row["drop_rule"] is None)


def _member(row: Row) -> mix.Member:
    stratum = (row["source_file"], *sorted(row["tags"] or ()))
    return mix.Member(row["id"], row["copy"], stratum, has_reasoning(row))


class _Counts:
    """What became of the rows."""

    def __init__(self, transform: Transform):
        self.dropped: Counter[str] = Counter()
        self.failure: str | None = None
        """What the first row that failed says."""
        columns = transform.judge.columns if transform.judge else []
        self.verdicts: dict[str, Counter[str]] = {
            name.removeprefix("verdict_"): Counter() for name in columns if name.startswith("verdict_")
        }

    def add(self, row: Row) -> None:
        if row.get("drop_rule"):
            self.dropped[row["drop_rule"]] += 1
            self.failure = self.failure or row.get("error")
        for name, counter in self.verdicts.items():
            if verdict := row.get(f"verdict_{name}"):
                counter[verdict] += 1


def _schema(originals: Originals, transform: Transform) -> pa.Schema:
    """The columns of the output: of a sample, what originals carry, what is set, what the judge fills, the drops."""
    whole = transform.keep_original or transform.only is not None
    prefixes = tuple(CARRIED) if whole else ("slot_",)
    names = [name for name in originals.columns if name.startswith(prefixes)]
    names += ["slot_style"] if transform.styles else []
    names += ["slot_language"] if transform.language else []
    names += transform.judge.columns if transform.judge else []
    added = [pa.field(name, _type(name)) for name in dict.fromkeys(names)]
    return marked(pa.schema([*SCHEMAS["sample"], *added, *DROPS]))


def _type(name: str) -> pa.DataType:
    return next(kind for prefix, kind in CARRIED.items() if name.startswith(prefix))
