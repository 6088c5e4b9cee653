"""A table of prompts as PROMPT rows: any file and shape the reader knows, row by row, in constant memory.

The answer of a question/answer record is its `reference`; a response it may have is left out. A row that cannot be used
is passed over as long as there are few of them (`files.check_bad`); iterating after `count` is sure not to fail for it.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from gristmill.errors import BadRow
from gristmill.files import BAD, PEEKED, check_bad
from gristmill.formats import Bad, expand, raw_records
from gristmill.records import CARRIED, SCHEMAS, row_id
from gristmill.shapes import kind_of_record, row_of

Row = dict[str, Any]

MAX_BAD = 0.01
"""Share of rows that may be unusable."""


class PromptTable:
    """The prompts of the files that `path` names; raises BadInput for a path that names none."""

    def __init__(self, path: str):
        self.files = expand([path])
        names = {name for file in self.files for _, record, _ in islice(raw_records(file), PEEKED) for name in record}
        self._carried = frozenset(name for name in names if isinstance(name, str) and name.startswith(tuple(CARRIED)))

    def count(self) -> tuple[int, int]:
        """Its usable rows, and the different prompts among them; reads it all. Raises BadInput if too many are bad."""
        seen: Counter[bytes] = Counter(bytes.fromhex(row["id"][3:]) for row in self)
        return seen.total(), len(seen)

    def __iter__(self) -> Iterator[Row]:
        copies: Counter[bytes] = Counter()
        rows = bad = 0
        first = None
        for file in self.files:
            for number, record, _ in raw_records(file):
                rows += 1
                try:
                    row = self._row(record)
                except BadRow as error:
                    bad += 1
                    first = first or {"source_file": file, "source_row": number, BAD: str(error)}
                    continue
                if row is None:
                    rows -= 1
                    continue
                id = row_id("prompt", row)
                key = bytes.fromhex(id[3:])
                yield {**row, "id": id, "copy": copies[key], "source_file": file, "source_row": number}
                copies[key] += 1
        check_bad(bad, rows, MAX_BAD, first=first)

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
