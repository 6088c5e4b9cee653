"""The whole filter, from files to a directory: rules, scores, contamination, exact, near, openings, in that order.

Each stage sees what the earlier ones kept; every measured value is stored on its row, and no row is deleted. The rows
are read, measured and written once as a work table beside the output; the stages then look at the columns they need,
and a last pass writes the rows in input order. The output directory appears by a rename when all of it is written.

Not covered: remembering stages between runs, so a second run measures again.
"""

import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import daft
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import col, lit
from daft.functions import is_null

from gristmill import __version__
from gristmill.errors import BadInput, UsageError
from gristmill.export import training_row
from gristmill.files import BAD, ORDER, check_bad, scan, with_copies
from gristmill.filter.balance import Balance
from gristmill.filter.collapse import openings_findings
from gristmill.filter.contamination import contamination_findings, index_files
from gristmill.filter.duplicates import exact_findings, followed
from gristmill.filter.marks import Table, kept, mark
from gristmill.filter.near import PAIRS, near_findings
from gristmill.filter.ngrams import Index
from gristmill.filter.rules import DEFAULT_RULES, Rule, apply_rules, describe
from gristmill.filter.scores import keep_top, minimum_scores
from gristmill.filter.text import TextOf
from gristmill.formats import BROKEN, expand
from gristmill.records import DROPS, Kind, kind_of

WINDOW = 100_000
"""Rows the last pass holds at a time."""

WORK_FILE = 32 << 20
"""Bytes after which the work table begins a new file; the writer holds a file in memory until then."""

OUTPUTS = {
    *("rows.parquet", "kept.parquet", "kept.jsonl", "pairs.parquet"),
    *("bad_rows.jsonl", "summary.json", "report.html"),
}
"""The files of an output directory."""

ALARMS = ("broken_file", "large_cluster", "source_loss")

_TRAINED = {"prompt", "tools", "response", "chosen", "rejected", "label"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What `filter_files` does, with the defaults of the command line."""

    rules: Sequence[Rule] = DEFAULT_RULES
    exact: bool = True
    near: float | None = 0.8
    recall: float = 0.99
    numbers: Literal["guard", "merge"] = "guard"
    boilerplate: float | None = None
    collapse: Literal["report", "mark"] = "report"
    against: Sequence[str] = ()
    minimum: Mapping[str, float] = field(default_factory=dict)
    keep_unjudged: bool = False
    keep_top: tuple[float, str] | None = None
    prefer: str | None = None
    text: TextOf = "both"
    columns: Mapping[str, str] = field(default_factory=dict)
    max_bad: float = 0.01
    limit: int | None = None

    @property
    def scores(self) -> list[str]:
        """The scores named anywhere, so that the reader carries them."""
        named = [*self.minimum, *([self.keep_top[1]] if self.keep_top else []), *([self.prefer] if self.prefer else [])]
        return list(dict.fromkeys(named))


def filter_files(
    inputs: Sequence[str],
    out: str | Path,
    settings: Settings = Settings(),
    *,
    force: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Filter files into the directory `out` and return its `summary.json` as a dict.

    Writes `rows.parquet` (all rows), `kept.parquet`, `kept.jsonl` (for trainers), `pairs.parquet` (near-duplicate
    pairs), `bad_rows.jsonl`, `summary.json` and `report.html`. An `out` that a filter wrote before is replaced;
    anything else is refused unless `force`. `say` is told of each stage as it ends.

    Raises BadInput when a file or more rows than `settings.max_bad` cannot be read (they are listed in
    `OUT.bad_rows.jsonl`), or when no row is usable, and UsageError for settings that do not fit the data.
    """
    from gristmill.report.html import write_report  # plots are slow to import

    started = time.monotonic()
    out = Path(out).resolve() if "://" not in str(out) else Path(out)
    check_replaceable(out, force)
    if inside := [path for path in expand([*inputs, *settings.against]) if Path(path).resolve().is_relative_to(out)]:
        raise UsageError(f"-o {out} would replace the input {inside[0]}; name another directory")
    index = index_files(settings.against) if settings.against else None  # first: a wrong path should cost no reading
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    partial.mkdir(parents=True)
    try:
        summary = _filtered(inputs, partial, index, settings, _Stages(say or (lambda _: None)))
        summary["seconds"] = round(time.monotonic() - started, 2)
        summary["peak_rss_mb"] = round(_peak_rss_mb(), 1)
        (partial / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        write_report(partial)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except BadInput as error:
        listed = partial / "bad_rows.jsonl"
        if not listed.exists() or not listed.stat().st_size:
            raise
        saved = listed.rename(out.with_name(f"{out.name}.bad_rows.jsonl"))
        raise BadInput(f"{error}; all of them: {saved}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def _filtered(
    inputs: Sequence[str], partial: Path, index: Index | None, settings: Settings, stages: "_Stages"
) -> dict[str, Any]:
    """Run the stages, write the tables into `partial`, and return the summary but for time and memory."""
    table, counts = _measured(inputs, partial, settings, stages)
    table, found = _judged(table, index, settings, partial, stages)
    summary = {
        "gristmill": __version__,
        "inputs": list(inputs),
        "kind": counts["kind"],
        "rows_in": counts["rows"],
        "rows_bad": counts["bad"],
        **_written(table, counts["kind"], counts["orders"], partial, stages),
        "rules": describe(settings.rules) | _stage_rules(settings),
        **found,
        "runner": daft.get_or_create_runner().name,
        "stages": stages.done,
        "alarms": counts["alarms"] + found["alarms"],
    }
    summary["yield"] = summary["rows_kept"] / summary["rows_in"]
    shutil.rmtree(partial / "work")
    return summary


def check_replaceable(out: Path, force: bool) -> None:
    """Raise UsageError if `out` exists and neither is empty, nor was written by a filter, nor is forced."""
    if "://" in str(out):
        raise UsageError(f"-o {out}: filter writes to a local directory; name one")
    if out.is_file():
        raise UsageError(f"-o {out} is a file; name a directory")
    if not force and out.exists() and any(out.iterdir()) and not _is_ours(out):
        raise UsageError(f"-o {out} holds files that gristmill filter did not write; name another, or add --force")


def _is_ours(out: Path) -> bool:
    """Whether a filter wrote the directory, and all that is in it."""
    try:
        written = "gristmill" in orjson.loads((out / "summary.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return written and {path.name for path in out.iterdir()} <= OUTPUTS


class _Stages:
    """What each stage did and how long it took."""

    def __init__(self, say: Say):
        self.say, self.done = say, list[dict[str, Any]]()
        self.since = time.monotonic()

    def end(self, name: str, rows_in: int, dropped: int, note: str = "") -> None:
        seconds = self.tell(name, f"{rows_in:>11,} rows  {dropped:>10,} dropped", note)
        self.done.append({"name": name, "rows_in": rows_in, "dropped": dropped, "seconds": seconds})

    def tell(self, name: str, what: str, note: str = "") -> float:
        """Say what was done since the last call; returns the seconds it took."""
        seconds, self.since = time.monotonic() - self.since, time.monotonic()
        self.say(f"{name:<14}{what:<37}{seconds:>7.1f} s  {note}".rstrip())
        return round(seconds, 3)


def _measured(
    inputs: Sequence[str], partial: Path, settings: Settings, stages: _Stages
) -> tuple[Table, dict[str, Any]]:
    """Read the files, apply what looks at one row alone, and write the work table."""
    source = scan(inputs, columns=settings.columns, scores=settings.scores, limit=settings.limit)
    kind: Kind = kind_of(source.column_names)
    # A bad row passes the steps as one that was dropped before.
    table = source.with_columns(
        {f.name: lit(None).cast(daft.DataType.from_arrow_type(f.type)) for f in DROPS} | {"drop_rule": col(BAD)}
    )
    table = minimum_scores(apply_rules(table, settings.rules), dict(settings.minimum), settings.keep_unjudged)
    work = partial / "work"
    with daft.execution_config_ctx(parquet_target_filesize=WORK_FILE):
        table.write_parquet(str(work))
    files = sorted(str(path) for path in work.glob("*.parquet"))
    if not files:
        raise BadInput(f"no usable row: {', '.join(inputs)} hold none")
    table = daft.read_parquet(files)
    narrow = table.select(ORDER, BAD, "drop_rule").to_arrow()
    bad = _bad_rows(table, partial)
    check_bad(len(bad), len(narrow), settings.max_bad, first=bad[0] if bad else None)
    good = narrow.filter(pc.is_null(narrow[BAD]))
    broken = [
        {"name": "broken_file", "message": f"{row['source_file']}: {row[BAD]}", "value": 1.0, "limit": 0.0}
        for row in bad
        if row[BAD].startswith(BROKEN)
    ]
    stages.end("read + rules", len(good), len(good) - good["drop_rule"].null_count, f"{len(bad):,} bad rows")
    orders = good[ORDER].combine_chunks().sort()
    counts = {"kind": kind, "rows": len(good), "bad": len(bad), "orders": orders, "alarms": broken}
    return with_copies(table.where(is_null(col(BAD)))), counts


def _bad_rows(table: Table, partial: Path) -> list[dict[str, Any]]:
    bad: list[dict[str, Any]] = (
        table.where(~is_null(col(BAD))).sort(ORDER).select("source_file", "source_row", BAD).to_pylist()
    )
    with (partial / "bad_rows.jsonl").open("wb") as file:
        for row in bad:
            line = {"file": row["source_file"], "line": row["source_row"], "reason": row[BAD]}
            file.write(orjson.dumps(line) + b"\n")
    return bad


def _judged(
    table: Table, index: Index | None, settings: Settings, partial: Path, stages: _Stages
) -> tuple[Table, dict[str, Any]]:
    """The stages that compare rows with each other or with an evaluation; what they found besides."""
    found: dict[str, Any] = {"contamination": [], "near_duplicates": None, "alarms": []}

    def stage(name: str, table: Table, findings: pa.Table, rows_in: int) -> tuple[Table, int]:
        dropped = len(findings) - findings["drop_rule"].null_count
        stages.end(name, rows_in, dropped)
        return mark(table, findings), rows_in - dropped

    left = kept(table).count_rows()
    if settings.keep_top:
        table = keep_top(table, *settings.keep_top, settings.keep_unjudged)
        before, left = left, kept(table).count_rows()
        stages.end("keep-top", before, before - left)
    if index is not None:
        contamination = contamination_findings(table, index, text=settings.text)
        found["contamination"] = contamination.evaluations
        table, left = stage("contamination", table, contamination.findings, left)
    exact = None
    unmarked = table
    if settings.exact:
        exact = exact_findings(table, text=settings.text, prefer=settings.prefer)
        table, left = stage("exact", table, exact, left)
    pairs = PAIRS.empty_table()
    if settings.near is not None:
        near = near_findings(
            table,
            threshold=settings.near,
            recall=settings.recall,
            numbers=settings.numbers,
            boilerplate=settings.boilerplate,
            text=settings.text,
            prefer=settings.prefer,
        )
        found["near_duplicates"] = near.report
        found["alarms"] += near.report["alarms"]
        pairs = near.pairs
        if exact is not None:  # an equal of a row that falls to a third is a duplicate of the third
            table = mark(unmarked, followed(exact, near.findings))
        table, left = stage("near", table, near.findings, left)
    pq.write_table(pairs, partial / "pairs.parquet")
    openings = openings_findings(table, mark=settings.collapse == "mark", prefer=settings.prefer)
    found["openings"] = openings.report
    table, left = stage("openings", table, openings.findings, left)
    return table, found


def _written(table: Table, kind: Kind, orders: pa.Array, partial: Path, stages: _Stages) -> dict[str, Any]:
    """Write the rows in input order, a window at a time; returns the counts and the balance."""
    balance, dropped = Balance(kind, len(orders)), Counter[str]()
    rows_kept = 0
    with ExitStack() as files:
        chat = files.enter_context((partial / "kept.jsonl").open("wb"))
        writers: list[pq.ParquetWriter] = []
        for window in _windows(table, orders):
            survivors = window.filter(pc.is_null(window["drop_rule"]))
            if not writers:
                for name in ("rows.parquet", "kept.parquet"):
                    writer = pq.ParquetWriter(partial / name, window.schema, compression="zstd")
                    writers.append(files.enter_context(writer))
            writers[0].write_table(window)
            writers[1].write_table(survivors)
            for row in survivors.select(_TRAINED & set(window.column_names)).to_pylist():
                chat.write(orjson.dumps(training_row(kind, row)) + b"\n")
            balance.add(window)
            reasons = pc.value_counts(window["drop_rule"].drop_null()).to_pylist()
            dropped.update({entry["values"]: entry["counts"] for entry in reasons})
            rows_kept += len(survivors)
    stages.tell("write", f"{len(orders):>11,} rows")
    return {"rows_kept": rows_kept, "dropped": dict(dropped.most_common()), "balance": balance.summary()}


def _windows(table: Table, orders: pa.Array) -> Iterator[pa.Table]:
    """The table in input order, `WINDOW` rows at a time: sorting all of it at once would hold all of it."""
    names = [name for name in table.column_names if name not in (ORDER, BAD)]
    for start in range(0, len(orders), WINDOW):
        first, last = orders[start].as_py(), orders[min(start + WINDOW, len(orders)) - 1].as_py()
        inside = table.where((col(ORDER) >= first) & (col(ORDER) <= last))
        yield inside.sort(ORDER).select(*names).to_arrow()


def _stage_rules(settings: Settings) -> dict[str, Any]:
    """The parameters of the stages that compare, as `summary.json` names them."""
    rules: dict[str, Any] = {}
    for name, limit in settings.minimum.items():
        rules[f"below_{name}"] = {"measures": {f"score_{name}": {"min": limit}}}
        if not settings.keep_unjudged:
            rules[f"unjudged_{name}"] = {}
    if settings.keep_top:
        rules.setdefault(f"below_{settings.keep_top[1]}", {})["keep_top"] = settings.keep_top[0]
    if settings.against:
        rules["contaminated"] = {"against": list(settings.against), "text": settings.text}
    if settings.exact:
        rules["exact_duplicate"] = {"text": settings.text, "prefer": settings.prefer}
    if settings.near is not None:
        names = ("near", "recall", "numbers", "boilerplate", "text", "prefer")
        rules["near_duplicate"] = {name: getattr(settings, name) for name in names}
    rules["collapsed"] = {"collapse": settings.collapse, "characters": 200}
    return rules


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, Linux kilobytes
