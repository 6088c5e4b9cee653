"""The account of a generation: calls, failures, tokens and cost, in all and by model and temperature."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import orjson
import pyarrow as pa

from gristmill.generate.sample import Candidate, missing
from gristmill.models.budget import Prices
from gristmill.models.protocol import Completion

Rung = tuple[str, float | None]
"""Model and temperature."""


class Tally:
    """Counts candidates in their order. `prices` are by the name of the model; what has none has no cost."""

    def __init__(self, prices: Mapping[str, Prices]):
        self.prices = prices
        self.calls = self.hits = 0
        self.failed: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.last_error = ""
        self.tokens_in = self.tokens_out = 0
        self.cost = 0.0
        self.rungs: dict[Rung, Counter[str]] = defaultdict(Counter)

    @property
    def failures(self) -> int:
        """Calls without an answer, or with fewer choices than were asked for."""
        return self.failed.total()

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.tokens_in + self.tokens_out

    def add(self, candidate: Candidate, completion: Completion) -> float | None:
        """Count a call; returns what it cost, None where no price is known."""
        self.calls += 1
        self.hits += completion.hit
        rung = self.rungs[candidate.model.name, candidate.request.sampling.get("temperature")]
        rung["calls"] += 1
        if error := completion.error or missing(candidate.request, completion):
            self.failed[error.partition(":")[0]] += 1
            self.last_error = error[:200]
            rung["failed"] += 1
        if completion.error:
            return None
        self.tokens_in += completion.tokens_in or 0
        self.tokens_out += completion.tokens_out or 0
        rung["tokens_out"] += completion.tokens_out or 0
        rung["rows"] += len(completion.choices)
        self.finished.update(choice.finish_reason or "unknown" for choice in completion.choices)
        prices = self.prices.get(candidate.model.name)
        if prices is None:
            return None
        cost = prices.of(completion)
        self.cost += cost
        return cost

    def kept(self, judged: pa.Table) -> None:
        """Count, by rung, the rows that were taken and those of them that pass."""
        columns = [judged[name].to_pylist() for name in ("model", "sampling", "drop_rule")]
        for counts in self.rungs.values():
            counts["taken"] = counts["kept"] = 0
        for model, sampling, rule in zip(*columns, strict=True):
            counts = self.rungs[model, orjson.loads(sampling).get("temperature")]
            counts["taken"] += 1
            counts["kept"] += rule is None

    def note(self) -> str:
        """A few words on the calls."""
        words = f"{self.calls - self.hits:,} calls, {self.hits:,} answered by the ledger"
        return words + (f", {self.failures:,} failed" if self.failures else "")

    def summary(self) -> dict[str, Any]:
        """Everything, as JSON."""
        rungs: list[dict[str, Any]] = []
        for (model, temperature), counts in self.rungs.items():
            share = {"yield": round(counts["kept"] / counts["taken"], 4)} if counts["taken"] else {}
            rungs.append({"model": model, "temperature": temperature, **counts, **share})
        return {
            "calls": self.calls,
            "hits": self.hits,
            "failed": dict(self.failed.most_common()),
            "finish_reasons": dict(self.finished.most_common()),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost": round(self.cost, 6) if self.prices else None,
            "by": rungs,
        }
