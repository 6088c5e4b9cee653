"""Score tables: every row of any readable input gets `score_*`, `verdict_*` and `why_*` columns, and a file is written.

One process reads the input in its order and hands it to the scores in batches; scores that work in parallel (verifiers
in workers, judges behind endpoints) do so within a batch. What was reached is in the score cache before the file is
written, so that a run that was killed is started again as it was.

Not covered: rows whose score is too low (`gristmill filter --min`), what a score is (`score.py`).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from gristmill import __version__, progress
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import Refused, UsageError
from gristmill.files import BAD, ORDER, batches, check_bad
from gristmill.models.budget import Budget
from gristmill.parquet import Writer, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.records import Kind
from gristmill.run import Run, peak_rss_mb
from gristmill.score.cache import Scores, cached
from gristmill.score.gold import check_golds
from gristmill.score.score import Item, Score, Verdict

READ = ("response", "reference", "prompt", "reasoning", "meta")
"""The columns that an item is made of."""

BAD_SHOWN = 20
"""Bad rows that the summary names."""


def items_of(rows: pa.RecordBatch | pa.Table) -> list[Item]:
    """The rows of a table as items; columns that are not there are empty. A preference is its chosen response, with
    the rejected one as `other`."""
    empty = [None] * rows.num_rows
    columns = [rows[name].to_pylist() if name in rows.schema.names else empty for name in READ]
    if "chosen" in rows.schema.names:
        columns[0] = rows["chosen"].to_pylist()
    others = rows["rejected"].to_pylist() if "rejected" in rows.schema.names else empty
    return [
        Item(response, reference, prompt or (), reasoning, orjson.loads(meta) if meta else {}, other)
        for response, reference, prompt, reasoning, meta, other in zip(*columns, others, strict=True)
    ]


def score_files(
    paths: str | Sequence[str],
    scores: Sequence[Score],
    out: Path,
    *,
    run: Run,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    max_failures: float = 0.1,
    strict_gold: bool = False,
    budget: Budget | None = None,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Judge every row of `paths` by each of the `scores`, write them to `out`, and tell what was reached.

    The answer of question/answer rows is their reference. Rows that an earlier filter dropped are left out. Returns the
    summary. Raises BadInput for too many bad rows, UsageError for rows without a response, Refused, with the file
    written, where more than the share `max_failures` of a judge's calls failed, and with the rows so far in it, a batch
    at a time, where judges have spent their `budget` or an endpoint is gone. With `strict_gold` the references are
    judged first: Refused, with nothing written, if a score cannot use one.
    """
    check_replaceable(out, "score", force=force)
    names = [score.name for score in scores]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"score {twice} is asked for twice; name one of them otherwise: --with {twice},name=OTHER")
    started = time.monotonic()
    stages, cache = Stages(say), Scores(run.path, budget)
    ready = [cached(score, cache) for score in scores]
    if strict_gold:
        read_first = batches(paths, columns=columns, answer="reference", limit=limit)[2]
        check_golds(scores, (_placed(BadRows().set_aside(batch)) for batch in read_first))
    kind, schema, read = batches(paths, columns=columns, answer="reference", limit=limit)
    _check_kind(kind, scores)
    tallies = [Tally(score) for score in scores]
    bad, written = BadRows(), _schema(schema, names)
    rows, stop = 0, None
    with space_wanted("the output", out), beside(out) as partial:
        stages.begin("score")
        with Writer(partial / out.name, written) as writer:
            try:
                for table in _scored(map(bad.set_aside, read), ready, tallies):
                    writer.write(table.select(written.names))
                    rows += len(table)
                    progress.advance(len(table))
            except Refused as refusal:
                if not rows:
                    raise
                stop = Refused(f"{refusal}; {rows:,} rows are in {out}")
        check_bad(bad.count, rows + bad.count, max_bad, first=bad.first[0] if bad.first else None)
        stages.end(f"{rows:>11,} rows")
        summary: dict[str, Any] = {
            "gristmill": __version__,
            "rows": rows,
            "rows_bad": bad.count,
            "bad_rows": bad.first,
            "scores": {tally.score.name: _calibrated(tally.summary(cache), tally.score, run) for tally in tallies},
            "seconds": round(time.monotonic() - started, 2),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        inputs = [paths] if isinstance(paths, str) else list(paths)
        params = {"inputs": inputs, "scores": {score.name: score.fingerprint for score in scores}}
        run.output(out, "score", params=params, counts={"rows": rows}, beside=partial / out.name)
    if stop:
        raise stop
    if failed := next((tally for tally in tallies if tally.failed > max_failures * rows), None):
        raise Refused(
            f"score {failed.score.name}: {failed.failed:,} of {rows:,} rows have no verdict for an error, more than "
            f"--max-failures {max_failures:.0%}; first: {failed.first_error}; the rows are in {out}"
        )
    return summary


def _scored(read: Iterable[pa.RecordBatch], scores: Sequence[Score], tallies: Sequence["Tally"]) -> Iterator[pa.Table]:
    """The batches with the columns of each score."""
    copies: Counter[str] = Counter()
    for batch in read:
        table = with_copies(pa.Table.from_batches([batch]), copies)
        items = items_of(batch)
        for score, tally in zip(scores, tallies, strict=True):
            table = _with_verdicts(table, score.name, tally.add(score, items))
        yield table


def _calibrated(summary: dict[str, Any], score: Score, run: Run) -> dict[str, Any]:
    """A judge's summary, with what the run knows of its agreement with people."""
    if "report" in summary:
        known = [each for each in run.outputs() if each.name == "calibrate"]
        for each in reversed(known):
            if each.params.get("fingerprint") == score.fingerprint:
                told = ", ".join(
                    f"{name} {value:.3g}" for name, value in each.counts.items() if isinstance(value, float)
                )
                summary["report"]["calibrated"] = f"calibrated against people: {told} ({each.path})"
                break
    return summary


class Tally:
    """What a score has said so far."""

    def __init__(self, score: Score):
        self.score = score
        self.report = score.report() if score.report else None
        self.verdicts: Counter[str] = Counter()
        self.total, self.judged = 0.0, 0
        self.seconds = 0.0
        self.first_error = ""

    def add(self, judge: Score, items: Sequence[Item]) -> list[Verdict]:
        """The verdicts of `judge` (the score, or the score with a cache), counted."""
        began = time.monotonic()
        verdicts = judge(items)
        self.seconds += time.monotonic() - began
        if self.report:
            self.report.add(items, verdicts)
        for verdict in verdicts:
            self.verdicts[verdict.verdict] += 1
            if verdict.value is not None:
                self.total += verdict.value
                self.judged += 1
            elif verdict.verdict == "error":
                self.first_error = self.first_error or verdict.why
        return verdicts

    @property
    def failed(self) -> int:
        """Items whose verdict is `error`; a timeout is a verdict."""
        return self.verdicts["error"]

    def summary(self, cache: Scores) -> dict[str, Any]:
        """What there is to tell of it; `mean` is over the judged."""
        return {
            "version": self.score.version,
            "parameters": dict(self.score.parameters),
            "judged": self.judged,
            "mean": self.total / self.judged if self.judged else None,
            "verdicts": dict(self.verdicts.most_common()),
            "cache_hits": cache.hits[self.score.name],
            "seconds": round(self.seconds, 2),
            **({"report": self.report.summary()} if self.report else {}),
        }


class BadRows:
    """The rows that cannot be used: how many, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[dict[str, Any]] = []

    def set_aside(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a scanned batch that can be used."""
        bad = batch.filter(batch[BAD].is_valid())
        self.count += bad.num_rows
        if bad.num_rows and len(self.first) < BAD_SHOWN:
            self.first += bad.select(["source_file", "source_row", BAD]).to_pylist()[: BAD_SHOWN - len(self.first)]
        return batch.filter(batch[BAD].is_null())


def _placed(rows: pa.RecordBatch) -> tuple[list[str], list[Item]]:
    """Where each row is, and the rows as items."""
    places = zip(rows["source_file"].to_pylist(), rows["source_row"].to_pylist(), strict=True)
    return [f"{file}:{row}" for file, row in places], items_of(rows)


def _check_kind(kind: Kind, scores: Sequence[Score]) -> None:
    """Raise UsageError for a score that these rows give nothing to judge."""
    if kind == "prompt":
        raise UsageError("score: these are prompt rows, and a score judges responses; name them with --map response=…")
    for score in scores:
        if score.pairwise != (kind == "preference"):
            wanted = "preference rows (chosen, rejected)" if score.pairwise else "rows with one response"
            raise UsageError(f"score {score.name}: these are {kind} rows, and it judges {wanted}")


def _schema(scanned: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """The columns of the output: those of the input, and three a score."""
    added = [
        field
        for name in names
        for field in (
            pa.field(f"score_{name}", pa.float64()),
            pa.field(f"verdict_{name}", pa.large_string()),
            pa.field(f"why_{name}", pa.large_string()),
        )
    ]
    replaced = {field.name for field in added} | {ORDER, BAD}
    fields = [field for field in scanned if field.name not in replaced]
    return marked(pa.schema([fields[0], pa.field("copy", pa.int64()), *fields[1:], *added]))


def with_copies(table: pa.Table, copies: Counter[str]) -> pa.Table:
    """The table with the column `copy`; `copies` counts the ids over the tables so far."""
    numbers = []
    for id in table["id"].to_pylist():
        numbers.append(copies[id])
        copies[id] += 1
    return table.append_column("copy", pa.array(numbers, pa.int64()))


def _with_verdicts(table: pa.Table, name: str, verdicts: Sequence[Verdict]) -> pa.Table:
    columns = list(zip(*verdicts, strict=True)) or [(), (), ()]
    for prefix, kind, values in zip(
        ("score", "verdict", "why"), (pa.float64(), pa.large_string(), pa.large_string()), columns, strict=True
    ):
        column = f"{prefix}_{name}"
        if column in table.schema.names:
            table = table.drop_columns([column])
        table = table.append_column(column, pa.array(values, kind))
    return table
