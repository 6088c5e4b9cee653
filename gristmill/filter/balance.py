"""What a filter did to the distribution: sources and answer lengths before and after.

Not covered: tests of whether a shift is more than chance, and axes other than source and length.
"""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gristmill.records import Kind

QUANTILES = (0.1, 0.5, 0.9)


class Balance:
    """Counts sources and answer lengths in characters (`chosen` of a preference), window by window."""

    def __init__(self, kind: Kind):
        self.column = {"prompt": None, "preference": "chosen", "sample": "response", "label": "response"}[kind]
        self.sources: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self.lengths: tuple[list[Any], list[Any]] = ([], [])

    def add(self, rows: pa.Table, kept: pa.Table) -> None:
        """Count a window: all its rows, and the kept among them."""
        for side, table in enumerate((rows, kept)):
            counts = pc.value_counts(table["source_file"]).to_pylist()
            self.sources[side].update({entry["values"] or "": entry["counts"] for entry in counts})
            if self.column:
                self.lengths[side].append(pc.fill_null(pc.utf8_length(table[self.column]), 0).to_numpy())

    def summary(self) -> dict[str, Any]:
        """`{"source": {file: {before, after}}, "answer_characters": {before, after: [p10, p50, p90]}}`, shares 0..1."""
        before, after = self.sources
        rows, kept = max(before.total(), 1), max(after.total(), 1)
        sources = {name: {"before": n / rows, "after": after[name] / kept} for name, n in sorted(before.items())}
        ends = []
        for lengths in self.lengths:
            joined = np.concatenate(lengths) if lengths else np.empty(0)
            ends.append([float(q) for q in np.quantile(joined, QUANTILES)] if len(joined) else [])
        return {"source": sources, "answer_characters": dict(zip(("before", "after"), ends, strict=True))}
