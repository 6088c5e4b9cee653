"""Transform: rows made from rows. Restyled, rephrased, harder, easier, with reasoning or without, translated.

A transform is a template (`op_file.py`); its calls are candidates like any others (`sample.py`), so ledger, budget,
seeds and failures are those of `generate`. A result knows its original by `parents` and keeps its source, tags and
slots; `meta` holds the transform's name and hash. What was measured on the original says nothing of the result and
stays behind. A result that could not be made has an `error` and is dropped as `failed`; one that is its original again
is dropped as `unchanged`; what a judge (`judged.py`) rejects is dropped with its evidence. Nothing is deleted.

Not covered: answers to the questions that `harder` and `easier` make (`gristmill generate OUT.parquet`).
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from gristmill.errors import GristmillError, UsageError
from gristmill.generate.asking import Made
from gristmill.generate.direct import direct_answer, marked_answer
from gristmill.generate.judged import Judge, Result, drop
from gristmill.generate.op_file import SET, Op
from gristmill.generate.originals import values_of
from gristmill.generate.sample import Candidate, Plan, Row, candidates, rows_of
from gristmill.models.drive import answer, finished
from gristmill.models.limits import GOES_ON
from gristmill.models.protocol import Completion, Model
from gristmill.shapes import message

Call = tuple[Candidate, Completion]

BATCH = 64
"""Originals whose results are judged together."""

_SOURCE = ("id", "copy", "source_file", "source_row", "tags", "tools")


@dataclass(frozen=True)
class Transform:
    """What is done to each row.

    Of several `styles` each row gets one, drawn by (seed, id, copy). `only` are the keys of the rows to transform
    (None: all); the others come out as they are. With `keep_original`, so does every original, before its results.
    Raises UsageError for what the template needs and does not get, and for what it does not take.
    """

    op: Op
    styles: Sequence[str] = ()
    language: str | None = None
    seed: int = 0
    judge: Judge | None = None
    keep_original: bool = False
    only: frozenset[tuple[str, int]] | None = None

    def __post_init__(self) -> None:
        given = {"style": list(self.styles), "language": [] if self.language is None else [self.language]}
        for name, flag in SET.items():
            if name in self.op.names and not given[name]:
                raise UsageError(f"{flag}: {self.op.name} needs one; write {flag} '{_EXAMPLE[name]}'")
            if name not in self.op.names and given[name]:
                raise UsageError(f"{flag} {given[name][0]}: {self.op.name} takes none; leave it out")
            if any(not value.strip() for value in given[name]):
                raise UsageError(f"{flag}: it is empty; write {flag} '{_EXAMPLE[name]}'")

    def prompts(self, rows: Iterable[Row]) -> Iterator[Row]:
        """What is asked about rows, as PROMPT rows; of those for which nothing needs to be asked, nothing."""
        for row in rows:
            if self._direct(row) is None and self.chosen(row):
                yield self.prompt(row)

    def prompt(self, row: Row) -> Row:
        """What is asked about a row, as a PROMPT row with the row's key."""
        return {
            "id": row["id"],
            "copy": row["copy"],
            "prompt": self.op.messages(values_of(self.op, row) | self._set(row)),
        }

    def chosen(self, row: Row) -> bool:
        """Whether a row is to be transformed."""
        return self.only is None or (row["id"], row["copy"]) in self.only

    def results(self, row: Row, calls: Sequence[Call]) -> list[Result]:
        """What the answers make of a row, numbered by sample."""
        base = self._base(row)
        if (direct := self._direct(row)) is not None:
            return [self._result(row, base, {"response": direct})]
        if not calls:
            error = "unmarked: the response marks no answer; name a model (-m) that takes it out"
            return [self._result(row, base, error)]
        found: list[Result] = []
        for candidate, completion in calls:
            samples = rows_of(candidate._replace(prompt=base), completion)
            found += [self._result(row, sample, self._made(sample)) for sample in samples]
        return found

    def _made(self, sample: Row) -> dict[str, str] | str:
        """What a sample makes, by column, or why it makes nothing."""
        if sample["error"]:
            return str(sample["error"])
        if sample["finish_reason"] == "length":
            return "cut: the reply was cut by the limit on its length; raise --max-tokens"
        return self.op.made(sample["response"])

    def _direct(self, row: Row) -> str | None:
        """The marked answer of a row, where that is all that is wanted."""
        if not self.op.marked:
            return None
        marked = marked_answer(row.get("response") or "")
        return direct_answer(row) or (marked.answer if marked else None)

    def _set(self, row: Row) -> dict[str, str]:
        """The style and the language of a row's result."""
        found = {} if self.language is None else {"language": self.language}
        if self.styles:
            drawn = blake2b(f"{self.seed}:{row['id']}:{row['copy']}:style".encode(), digest_size=8).digest()
            found["style"] = self.styles[int.from_bytes(drawn) % len(self.styles)]
        return found

    def _base(self, row: Row) -> Row:
        """The columns that every result of a row has."""
        meta = {name: value for name, value in orjson.loads(row.get("meta") or "{}").items() if name != "cost"}
        return {
            **{name: row.get(name) for name in _SOURCE},
            **{name: value for name, value in row.items() if name.startswith("slot_")},
            **{f"slot_{name}": value for name, value in self._set(row).items()},
            "parents": [row["id"]],
            "prompt": row["prompt"],
            "meta": orjson.dumps(meta | self.op.lineage).decode(),
        }

    def _result(self, original: Row, sample: Row, made: dict[str, str] | str) -> Result:
        """The row that a sample makes of its original."""
        values = values_of(self.op, original)
        kept = {name: original.get(name) for name in self.op.keeps}
        if "response" in kept:
            kept["response"] = values["response"] or None
        row = {name: value for name, value in sample.items() if name not in ("id", "copy")}
        row |= {"response": None, "reasoning": None, "reference": None} | kept
        if isinstance(made, str):
            row |= {"error": made, "response": None, "reasoning": None}
            drop(row, "failed", error=made)
            return Result(original, row, "")
        if "prompt" in made:
            turns = original["prompt"][:-1] if original["prompt"] else []
            row["prompt"] = [*turns, message("user", made["prompt"])]
        row |= {name: text for name, text in made.items() if name != "prompt"}
        if not self.op.marked and all(_folded(values[name]) == _folded(text) for name, text in made.items()):
            drop(row, "unchanged", of=original["id"])
        return Result(original, row, made.get("response") or made.get("reasoning") or "")


_EXAMPLE = {"style": "like a patient teacher", "language": "German"}


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


class _Worked(NamedTuple):
    """An original with its results, and all its calls; `judging` are those of them that judge each result."""

    row: Row
    results: list[Result]
    calls: list[Call]
    judging: list[list[Completion]]


def transformed(rows: Iterable[Row], transform: Transform, models: Sequence[Model], plan: Plan) -> Iterator[Made]:
    """The results of rows with their calls, original by original, in order.

    Raises, after what came before, what ended the calls: UsageError, Refused, OutOfSpace.
    """
    works = (partial(_worked, row, transform, models, plan) for row in rows)
    for batch in _batches(finished(works)):
        if transform.judge:
            pairs = (pair for each in batch for pair in zip(each.results, each.judging, strict=True))
            transform.judge.settle([pair for pair in pairs if pair[0].row.get("drop_rule") is None])
        for each in batch:
            yield Made(each.calls, _rows(each.row, each.results, transform))


async def _worked(row: Row, transform: Transform, models: Sequence[Model], plan: Plan) -> _Worked:
    """All that is asked about a row: the transform, then what its results are judged by."""
    if not transform.chosen(row):
        return _Worked(row, [], [], [])
    calls = await _answered(list(candidates(transform.prompts([row]), models, plan)))
    results = transform.results(row, calls)
    judge, judging = transform.judge, []
    GOES_ON.set(True)
    for result in results:
        asked = judge.asks(result) if judge and result.row.get("drop_rule") is None else []
        more = await _answered(asked)
        judging.append([completion for _, completion in more])
        calls += more
    return _Worked(row, results, calls, judging)


async def _answered(asked: Sequence[Candidate]) -> list[Call]:
    """Candidates with their answers; all are in the air at once, and none is left there by an error."""
    tasks = [asyncio.ensure_future(answer(candidate.model, candidate.request)) for candidate in asked]
    try:
        return list(zip(asked, await asyncio.gather(*tasks), strict=True))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _rows(row: Row, results: Sequence[Result], transform: Transform) -> Any:
    """The rows of an original, given what its calls cost."""

    def rows(cost: float | None) -> Iterator[Row]:
        if transform.keep_original or not transform.chosen(row):
            yield row
        for result in results:
            if cost:
                meta = orjson.loads(result.row["meta"]) | {"cost": cost}
                result.row["meta"], cost = orjson.dumps(meta).decode(), None
            yield result.row

    return rows


def _batches(stream: Iterable[Any]) -> Iterator[list[Any]]:
    """`BATCH` things at a time; an error that ends the stream is raised after the things before it."""
    batch: list[Any] = []
    try:
        for each in stream:
            batch.append(each)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except GristmillError:
        yield batch
        raise
    yield batch
