"""How much of each model, template and temperature of generated rows a filter keeps, and what it drops of the rest.

Counted in the pass that writes the rows. The temperature is the one in `sampling`, the template the one that
`gristmill generate` wrote into `meta`; both are found by a pattern, because `meta` can be long and parsing it dear.
What all rows have in common is left out.

Not covered: crossings, such as the yield of one model at one temperature.
"""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MOST = 100
"""Values beyond which a column does not say how rows were made."""

_TEMPERATURE = r'"temperature":\s*(?P<found>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)'
_TEMPLATE = r'"template":\s*"(?P<found>[\w.-]+)",\s*"template_hash"'

Value = str | float | None


class Yields:
    """Counts windows of marked rows."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[tuple[Value, str | None]]] = {}

    def add(self, window: pa.Table) -> None:
        """Count the rows, kept and dropped (`drop_rule`), of a window."""
        rules = window["drop_rule"].cast(pa.large_string())
        for by, values in _made_by(window).items():
            counts = self._counts.setdefault(by, Counter())
            if len({value for value, _ in counts}) > MOST:
                continue
            found = (
                pa.table({"value": values, "rule": rules}).group_by(["value", "rule"]).aggregate([([], "count_all")])
            )
            for row in found.to_pylist():
                counts[row["value"], row["rule"]] += row["count_all"]

    def summary(self) -> list[dict[str, Any]]:
        """`yields` of `summary.json`: {by, value, rows, kept, yield, dropped {rule: rows}}, the values in their order;
        value None are the rows that do not say."""
        found = []
        for by, counts in self._counts.items():
            values = sorted({value for value, _ in counts}, key=lambda value: (value is None, value))
            for value in values if 1 < len(values) <= MOST else ():
                rules = Counter({rule: count for (of, rule), count in counts.items() if of == value})
                rows, kept = rules.total(), rules.pop(None, 0)
                entry: dict[str, Any] = {"by": by, "value": value, "rows": rows, "kept": kept, "yield": kept / rows}
                found.append(entry | {"dropped": dict(sorted(rules.items(), key=lambda each: (-each[1], each[0])))})
        return found


def _made_by(window: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns by which rows are counted."""
    found = {}
    if "sampling" in window.column_names:
        found["temperature"] = _within(window["sampling"], _TEMPERATURE).cast(pa.float64())
    if "model" in window.column_names:
        found["model"] = window["model"].cast(pa.large_string())
    if "meta" in window.column_names:
        found["template"] = _within(window["meta"], _TEMPLATE)
    return found


def _within(texts: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.struct_field(pc.extract_regex(texts.cast(pa.large_string()), pattern), "found")
