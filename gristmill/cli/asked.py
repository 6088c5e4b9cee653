"""What the verbs that ask models share: models with ledger and budget, accounts of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gristmill.cli.values import share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gristmill.generate.accept import Step
    from gristmill.generate.asking import Asking
    from gristmill.generate.estimate import Answerer
    from gristmill.models.budget import Budget, Prices
    from gristmill.models.calls import Calls
    from gristmill.models.protocol import Model


class Models:
    """The models that a command asks, closed when it ends. `prices` are by the name of the model; `batches`, with
    `batch`, those that answer them."""

    def __init__(
        self,
        calls: Calls,
        budget: Budget,
        *,
        concurrency: int | None = None,
        timeout: float | None = None,
        file: Path | None = None,
        batch: bool = False,
    ):
        from gristmill.models.batch import Batches

        self.batches = Batches(calls, budget=budget) if batch else None
        self.calls, self.budget, self.file = calls, budget, file
        self.concurrency, self.timeout = concurrency, timeout
        self.prices: dict[str, Prices] = {}
        self._opened: list[Model] = []

    def open(self, spec: str) -> Model:
        """A MODEL, ready to be asked."""
        from gristmill.models.named import entries, prices_of, ready

        model = ready(
            spec,
            calls=self.calls,
            budget=self.budget,
            concurrency=self.concurrency,
            timeout=self.timeout,
            models=self.file,
            batches=self.batches,
        )
        self._opened.append(model)
        if (prices := prices_of(spec, entries(self.file), batch=bool(self.batches))) is not None:
            self.prices[model.name] = prices
        return model

    def asking(self, max_failures: str, accept: int | None = None, steps: Sequence[Step] = ()) -> Asking:
        """The account of a job's calls, which the flags bound, with prices of models opened later."""
        from gristmill.generate.asking import Asking, Goal

        goal = Goal(accept, steps, share("--max-failures", max_failures, zero=True))
        return Asking(goal, self.budget, self.prices)

    def answerers(self, specs: Sequence[str]) -> list[Answerer]:
        """What is known of models before they are asked."""
        from gristmill.generate.estimate import Answerer
        from gristmill.models.named import base_model, entries, prices_of

        known = entries(self.file)
        found = []
        for spec in specs:
            model, _ = base_model(spec, known)
            mean = self.calls.tokens_a_call(self.calls.model(model.identity, model.name))
            found.append(Answerer(model.name, prices_of(spec, known, batch=bool(self.batches)), mean))
        return found

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *error: object) -> None:
        from gristmill.models.drive import wait

        for model in self._opened:
            wait(model.close())


def expected(told: dict[str, Any]) -> str:
    """An estimate for a terminal."""
    lines = [
        told["source"],
        f"{told['prompts']:,} prompts, {told['calls']:,} calls{' in batches' if told.get('batch') else ''}",
    ]
    for model in told["models"]:
        most = "at most " if model["at_most"] else ""
        out = "unknown (no answer of it yet, no --max-tokens)" if model["tokens_out"] is None else ""
        out = out or f"{most}{model['tokens_out']:,}"
        cost = "no price known" if model["cost"] is None else f"{most}{model['cost']:,.4f}"
        lines.append(f"  {model['model']}: tokens in about {model['tokens_in']:,}, out {out}; cost {cost}")
    return "\n".join(lines)


def account(summary: dict[str, Any], kept: int | None) -> list[str]:
    """What the calls of a summary took, as lines for a terminal; `kept` are the rows that passed."""
    words = f"{summary['calls'] - summary['hits']:,} calls sent, {summary['hits']:,} answered by the ledger"
    if (batches := summary.get("batches")) and batches["requests"]:
        words = f"{batches['requests']:,} requests in batches ({batches['batches']:,}): "
        words += f"{batches['answered']:,} answered, {batches['failed']:,} failed, {batches['again']:,} sent again"
    lines = [f"{words}; tokens {summary['tokens_in']:,} in, {summary['tokens_out']:,} out"]
    if summary["cost"] is not None:
        each = f", {summary['cost'] / kept:.6f} a kept row" if kept else ""
        lines.append(f"cost {summary['cost']:.4f}{each}")
    lines += [f"  {count:>9,}  failed: {kind}" for kind, count in summary["failed"].items()]
    return lines
