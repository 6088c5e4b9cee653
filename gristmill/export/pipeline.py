"""Export: a table to the file that one trainer reads, each row checked before it is written.

A row that the format cannot hold is set aside with its source and the reason; the others are written. Rows that a
filter dropped are left out. Once written, the file is registered with the run, so that it may be replaced.

Not covered: pushing to a hub.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from gristmill import __version__, progress
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import BadInput, BadRow, UsageError
from gristmill.export.card import Facts, card
from gristmill.export.formats import FORMATS, GRADER, Format, Reasoning
from gristmill.files import BAD, ORDER, batches, check_bad
from gristmill.progress import Stages
from gristmill.run import Run
from gristmill.shapes import Answer

SHOWN = 20
"""Rows set aside that the summary names."""


def export_files(
    paths: str | Sequence[str],
    to: str,
    out: Path,
    *,
    run: Run,
    reasoning: Reasoning = "think",
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    with_card: bool = False,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write the rows of `paths` to `out` as the format `to` has them, and tell what was written.

    `reasoning` puts what the model thought before its answer into `<think>` tags, into the field `reasoning_content`,
    or leaves it out. Raises UsageError for a format, kind of rows or file name that does not fit, BadInput for more
    rows that cannot be written than `max_bad` allows.
    """
    made = _format(to, reasoning)
    _check(out, made, to, run, force)
    started, stages = time.monotonic(), Stages(say)
    with space_wanted("the output", out), beside(out) as partial:
        stages.begin("export")
        written = write_rows(
            paths, to, partial / out.name, reasoning=reasoning, columns=columns, limit=limit, max_bad=max_bad
        )
        rows, bad = written.facts.rows, written.bad
        if rows < made.least:
            raise UsageError(f"export: {rows} rows, and {to} takes {made.least} at least; mill more")
        stages.end(f"{rows:>11,} rows")
        summary = {
            "gristmill": __version__,
            "to": to,
            "rows": rows,
            "rows_bad": bad,
            "reasons": dict(written.reasons.most_common()),
            "bad_rows": written.first,
            "seconds": round(time.monotonic() - started, 2),
        }
        inputs = [paths] if isinstance(paths, str) else list(paths)
        params = {"inputs": inputs, "to": to, "reasoning": reasoning}
        run.output(out, "export", params=params, counts={"rows": rows}, beside=partial / out.name)
    if with_card:
        beside_it = out.with_suffix(".card.md")
        beside_it.write_text(card(out, to, written.facts, inputs, run), encoding="utf-8")
        summary["card"] = str(beside_it)
    if to == "openai-rft":
        out.with_suffix(".grader.json").write_bytes(orjson.dumps(GRADER, option=orjson.OPT_INDENT_2))
    return summary


class _HasTools(Exception):
    """A row has tools, so every row must have the key."""


class Written:
    """What a pass wrote: `facts` of the rows, how many were set aside (`bad`), by reason, and the first of them."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.bad = 0
        self.reasons: Counter[str] = Counter()
        self.first: list[dict[str, Any]] = []

    def set_aside(self, row: Mapping[str, Any], reason: str) -> None:
        """Note a row that is not written."""
        self.bad += 1
        self.reasons[reason.partition(";")[0]] += 1
        if len(self.first) < SHOWN:
            self.first.append({"source_file": row["source_file"], "source_row": row["source_row"], BAD: reason})


def write_rows(
    paths: str | Sequence[str],
    to: str,
    file: Path,
    *,
    reasoning: Reasoning = "think",
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
) -> Written:
    """Write the rows of `paths` to `file` as the format `to` has them; `export_files` without its account of it.

    Raises UsageError for a kind of rows that the format does not take, BadInput for more rows that cannot be written
    than `max_bad` allows.
    """
    try:
        written = _written(paths, to, file, reasoning, columns, limit, tools=False)
    except _HasTools:
        written = _written(paths, to, file, reasoning, columns, limit, tools=True)
    rows, bad = written.facts.rows, written.bad
    check_bad(bad, rows + bad, max_bad, first=written.first[0] if written.first else None)
    return written


def _written(
    paths: str | Sequence[str],
    to: str,
    file: Path,
    reasoning: Reasoning,
    columns: Mapping[str, str] | None,
    limit: int | None,
    *,
    tools: bool,
) -> Written:
    made, written = FORMATS[to], Written()
    answers: Answer = "response" if "sample" in made.kinds and "prompt" not in made.kinds else "reference"
    kind, _, read = batches(paths, columns=columns, answer=answers, limit=limit)
    if kind not in made.kinds:
        fit = " or ".join(made.kinds)
        raise UsageError(f"{to}: these are {kind} rows; it takes {fit} rows (gristmill pick --for makes them)")

    def rows() -> Iterator[dict[str, Any]]:
        for batch in read:
            for row in batch.drop_columns([ORDER]).to_pylist():
                if row["tools"] and not tools and to.startswith("trl-"):
                    raise _HasTools
                try:
                    if row[BAD]:
                        raise BadRow(row[BAD])
                    found = made.make(row, reasoning, tools)
                except BadRow as error:
                    written.set_aside(row, str(error))
                    continue
                written.facts.add(row)
                yield found
            progress.advance(batch.num_rows)

    if file.suffix == ".parquet":
        _write_parquet(rows(), file)
    else:
        with file.open("wb") as sink:
            for row in rows():
                sink.write(orjson.dumps(row) + b"\n")
    return written


def _write_parquet(rows: Iterator[dict[str, Any]], file: Path) -> None:
    """All rows at once: the types of nested columns are only known when every row is."""
    try:
        table = pa.Table.from_pylist(list(rows))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadInput(f"{file.name}: rows of different types ({str(error).splitlines()[0]}); write .jsonl") from error
    pq.write_table(table, file, compression="zstd")


def _format(to: str, reasoning: str) -> Format:
    if to not in FORMATS:
        raise UsageError(f"--to {to}: allowed are {', '.join(FORMATS)}")
    if reasoning not in get_args(Reasoning):
        raise UsageError(f"--reasoning {reasoning}: allowed are {', '.join(get_args(Reasoning))}")
    return FORMATS[to]


def _check(out: Path, made: Format, to: str, run: Run, force: bool) -> None:
    """Raise UsageError if `out` may not be written."""
    if out.suffix not in made.suffixes or "://" in str(out):
        raise UsageError(f"-o {out}: {to} is a local {' or '.join(made.suffixes)} file; name one")
    if out.is_dir():
        raise UsageError(f"-o {out} is a directory; name a file")
    ours = any(each.path == str(out.resolve()) for each in run.outputs())
    if out.exists() and not force and not ours:
        raise UsageError(f"-o {out}: a file that this run did not write; name another, or add --force")
