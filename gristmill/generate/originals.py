"""The rows that are to be transformed: read once into the run, so that `gristmill why` finds what a result was made of.

A row that lacks what the transform needs is set aside with its place and the reason, before anything is asked. A row
without an answer because its call failed (`error`) is passed over, and counted.

Not covered: preferences.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gristmill.errors import UsageError
from gristmill.files import BAD, check_bad
from gristmill.filter import stages
from gristmill.filter.work import windows, work_of
from gristmill.formats import expand
from gristmill.generate.op_file import Op
from gristmill.run import Run

Row = dict[str, Any]


class Originals:
    """The usable rows of `paths` for a transform, in input order: iterate, any number of times.

    Raises BadInput for a path that names no file, where more than the share `max_bad` of the rows is unusable, and
    where no row is left; UsageError for preferences.
    """

    def __init__(
        self,
        paths: Sequence[str],
        op: Op,
        *,
        run: Run,
        columns: Mapping[str, str] | None = None,
        limit: int | None = None,
        max_bad: float = 0.01,
    ):
        self.op = op
        files = expand(paths)
        table = run.step(stages.read, files, columns=dict(columns or {}), scores=[], limit=limit, rules=[])
        self._work = work_of(table, run.files(table))
        if self._work.kind == "preference":
            raise UsageError(f"{files[0]}: preferences; transform takes prompts and answers")
        self.columns: list[str] = table.column_names
        self.bad = self._work.bad
        self.unanswered = self.count = 0
        for row in self._rows():
            if problem := problem_of(op, row):
                self.unanswered += bool(row.get("error"))
                if not row.get("error"):
                    self.bad.append({name: row[name] for name in ("source_file", "source_row")} | {BAD: problem})
            else:
                self.count += 1
        check_bad(len(self.bad), self.count + len(self.bad), max_bad, first=self.bad[0] if self.bad else None)
        if not self.count:
            raise UsageError(f"{files[0]}: every row has an error and no answer; generate again")

    def __iter__(self) -> Iterator[Row]:
        return (row for row in self._rows() if problem_of(self.op, row) is None)

    def _rows(self) -> Iterator[Row]:
        for start, window in windows(self._work):
            copies = self._work.keys.copy[start : start + len(window)].tolist()
            for row, copy in zip(window.to_pylist(), copies, strict=True):
                yield {**row, "copy": copy}


def values_of(op: Op, row: Row) -> dict[str, str]:
    """What the names of a skeleton stand for in a row; empty where it has nothing."""
    turns = row["prompt"]
    asked = next((place for place in range(len(turns) - 1, -1, -1) if turns[place]["role"] == "user"), len(turns))
    said = [turn for turn in turns[:asked] if turn["role"] not in ("system", "developer")]
    values = {
        "prompt": turns[asked]["content"] or "" if asked < len(turns) else "",
        "context": "\n\n".join(f"[{turn['role']}] {turn['content'] or ''}" for turn in said),
        "system": "\n\n".join(turn["content"] or "" for turn in turns if turn["role"] in ("system", "developer")),
        "response": row.get("response") or "",
        "reasoning": row.get("reasoning") or "",
        "reference": row.get("reference") or "",
    }
    if op.alone == "response" and not values["response"] and len(turns) == 1 and not row.get("error"):
        values |= {"prompt": "", "response": values["prompt"]}
    return values


def problem_of(op: Op, row: Row) -> str | None:
    """Why a row cannot be transformed; None if it can."""
    values = values_of(op, row)
    for name in op.needs:
        if not values[name].strip():
            what = "message of the user" if name == "prompt" else name
            return f"no {what}, which {op.name} needs"
    if "prompt" in op.makes and values["context"] and "context" not in op.names:
        return f"several turns; {op.name} takes rows with one message of the user"
    if "prompt" in op.makes and row["prompt"] and row["prompt"][-1]["role"] != "user":
        return (
            f"the prompt ends with the role {row['prompt'][-1]['role']}; {op.name} takes those that end with the user"
        )
    return None
