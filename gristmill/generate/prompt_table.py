"""A table of prompts as PROMPT rows: any file and shape the reader knows, row by row, in constant memory.

The answer of a question/answer record is its `reference`; a response it may have is left out. A row that cannot be used
is passed over as long as there are few of them (`files.check_bad`); iterating after `count` is sure not to fail for it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from gristmill.errors import BadRow
from gristmill.files import BAD, PEEKED, check_bad
from gristmill.formats import Bad, expand, raw_records
from gristmill.progress import step
from gristmill.records import CARRIED, SCHEMAS, row_id
from gristmill.shapes import kind_of_record, row_of

Row = dict[str, Any]

HELD_BY = "_held_by"
"""Where a prompt was read from a row of ours that has another id (a question that was transformed), that id."""

MAX_BAD = 0.01
"""Share of rows that may be unusable."""


class TableCount(NamedTuple):
    """What is in a table of prompts."""

    rows: int
    """Rows that can be used."""
    distinct: int
    """The different prompts among them."""
    bad: int
    """Rows that cannot be used and are passed over."""
    first_bad: str
    """File, row and reason of the first of them."""


@dataclass
class _Read:
    """What was read so far."""

    rows: int = 0
    bad: int = 0
    first: dict[str, Any] | None = None

    def check(self) -> None:
        """Raise BadInput if too much of it is bad."""
        check_bad(self.bad, self.rows, MAX_BAD, first=self.first, flag="a share of ")

    def told(self) -> str:
        """The first bad row."""
        return f"{self.first['source_file']}:{self.first['source_row']}: {self.first[BAD]}" if self.first else ""


class PromptTable:
    """The prompts of the files that `path` names; raises BadInput for a path that names none."""

    def __init__(self, path: str):
        self.files = expand([path])
        self.bad, self.first_bad = 0, ""  # of the newest iteration, as in `TableCount`
        names: set[Any] = set()
        with step("opening", len(self.files), unit="files") as advance:
            for file in self.files:
                names.update(name for _, record, _ in islice(raw_records(file), PEEKED) for name in record)
                advance(1)
        self._carried = frozenset(name for name in names if isinstance(name, str) and name.startswith(tuple(CARRIED)))

    def count(self, limit: int | None = None) -> TableCount:
        """What is in it, or in its beginning up to the `limit`-th prompt; reads that. Raises BadInput if too many rows
        are bad."""
        read = _Read()
        seen: Counter[bytes] = Counter()
        with step("reading", limit) as advance:
            for row in islice(self._rows(read), limit):
                seen[bytes.fromhex(row["id"][3:])] += 1
                advance(1)
        read.check()
        return TableCount(seen.total(), len(seen), read.bad, read.told())

    def __iter__(self) -> Iterator[Row]:
        read = _Read()
        yield from self._rows(read)
        read.check()
        self.bad, self.first_bad = read.bad, read.told()

    def _rows(self, read: _Read) -> Iterator[Row]:
        """The rows that can be used; the others are counted."""
        copies: Counter[bytes] = Counter()
        for file in self.files:
            for number, record, _ in raw_records(file):
                try:
                    row = self._row(record)
                except BadRow as error:
                    read.rows += 1
                    read.bad += 1
                    read.first = read.first or {"source_file": file, "source_row": number, BAD: str(error)}
                    continue
                if row is None:
                    continue
                read.rows += 1
                id = row_id("prompt", row)
                key = bytes.fromhex(id[3:])
                place = {"source_file": file, "source_row": number}
                yield {**row, "id": id, "copy": copies[key], **place, **_held_by(record, id)}
                copies[key] += 1

    def _row(self, record: Any) -> Row | None:
        """A record's prompt; None for a row that an earlier filter dropped. Raises BadRow."""
        if isinstance(record, Bad):
            raise BadRow(record.reason)
        if record.get("drop_rule") is not None:
            return None
        row = row_of(record, kind_of_record(record), answer="reference", extra=self._carried)
        if not any(turn["content"] or turn["extra"] for turn in row["prompt"]):
            raise BadRow("the prompt is empty; allowed: text")
        wanted = [*SCHEMAS["prompt"].names, *sorted(self._carried)]
        return {name: row.get(name) for name in wanted}


def _held_by(record: Any, id: str) -> Row:
    found = record.get("id")
    return {HELD_BY: found} if isinstance(found, str) and found.startswith("g1:") and found != id else {}
