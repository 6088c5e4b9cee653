"""The values of a slot: a checked list, steps of a range, columns of a table.

A table is read whole into memory, the columns that are asked for. An empty cell (null) is the empty text. A row that
cannot be read is an error, not passed over: nothing has been paid yet, and the file can be mended.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any

from gristmill.errors import BadInput, UsageError
from gristmill.formats import Bad, expand, raw_records


def checked(values: Any, where: str, *, repeated: bool = False) -> list[Any]:
    """A list of values that can stand in a slot, each once unless `repeated`; raises UsageError otherwise."""
    if not isinstance(values, list):
        raise UsageError(f"{where}: {str(values)[:60]!r}: allowed is a list of values; a mapping needs given")
    if not values:
        raise UsageError(f"{where}: the list is empty; give at least one value")
    for number, value in enumerate(values):
        if value is None:
            raise UsageError(
                f"{where}[{number}]: null; allowed: text, numbers, true, false, lists, mappings ('' is empty)"
            )
    if not repeated and len(rows := distinct(values)) < len(values):
        twice = next(number for number in range(len(values)) if number >= len(rows) or rows[number] != number)
        raise UsageError(
            f"{where}[{twice}]: {str(values[twice])[:60]!r} is there already; to have it more often, use weights"
        )
    return values


def distinct(values: Sequence[Any]) -> Sequence[int]:
    """The places of the first of each different value (1, 1.0 and true are different)."""
    if isinstance(values, range | Steps):
        return range(len(values))
    seen: dict[Any, int] = {}
    for place, value in enumerate(values):
        seen.setdefault(value if isinstance(value, str) else (type(value), repr(value)), place)
    return list(seen.values())


class Steps(Sequence[Any]):
    """first, first + step, …, as floats without the error of adding."""

    def __init__(self, first: Fraction, step: Fraction, size: int):
        self.first, self.step, self.size = first, step, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: Any) -> Any:
        return float(self.first + place * self.step)


def steps_of(bounds: Sequence[float], step: float | None, where: str) -> Sequence[Any]:
    """The values of a range, both ends in it, without holding them: whole numbers, or decimals exact to their digits.

    Raises UsageError, naming `where`, for bounds that do not rise and a step that is missing or not above 0.
    """
    numbers = [*(bounds), 1 if step is None else step]
    if len(numbers) != 3 or not all(isfinite(number) for number in numbers):
        raise UsageError(f"{where}: range: {list(bounds)}: allowed are two numbers, [lowest, highest]")
    whole = all(isinstance(number, int) for number in numbers)
    if not whole and step is None:
        raise UsageError(f"{where}: range: {list(bounds)}: numbers that are not whole need a step")
    low, high, by = (Fraction(Decimal(str(number))) for number in numbers)
    if low > high or by <= 0:
        raise UsageError(
            f"{where}: range: {list(bounds)} step {numbers[2]}: the lowest comes first, the step is above 0"
        )
    size = int((high - low) / by) + 1
    if size >= 1 << 63:
        raise UsageError(f"{where}: range: {list(bounds)}: has {size:,} values; allowed are fewer than 2^63")
    return range(int(low), int(high) + 1, int(by)) if whole else Steps(low, by, size)


def read_columns(path: str, columns: Mapping[str | None, str]) -> dict[str | None, list[Any]]:
    """The columns of a table, each with the slot that wants it; the column None is the whole row."""
    found: dict[str | None, list[Any]] = {column: [] for column in columns}
    where = next(iter(columns.values()))
    try:
        files = expand([path])
    except BadInput as error:
        raise BadInput(f"{where}: from: {error}") from error
    for file in files:
        for number, record, _ in raw_records(file):
            if isinstance(record, Bad):
                raise BadInput(f"{where}: {file}:{number}: {record.reason}; mend or remove the row")
            for column, asker in columns.items():
                found[column].append(_cell(record, column, f"{asker}: {file}:{number}"))
    if not found[next(iter(columns))]:
        raise BadInput(f"{where}: from: {path}: has no row; give at least one")
    return found


def _cell(record: Mapping[str, Any], column: str | None, where: str) -> Any:
    if column is None:
        row = {name: "" if value is None else value for name, value in record.items()}
        return next(iter(row.values())) if len(row) == 1 else row
    if column not in record:
        raise BadInput(f"{where}: column: no {column!r}; columns are {', '.join(record)}")
    value = record[column]
    if isinstance(value, str) and "\0" in value:
        raise BadInput(f"{where}: column {column}: a NUL character at {value.index(chr(0))}; allowed: text without it")
    return "" if value is None else value
