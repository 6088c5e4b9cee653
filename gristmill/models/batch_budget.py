"""What requests may take is set aside before they are sent in a batch, for a batch is paid for as a whole.

Not covered: prompts with more tokens than a third of their bytes.
"""

from collections.abc import Mapping
from math import ceil
from typing import Protocol

import orjson

from gristmill.errors import Refused, UsageError
from gristmill.models.batch_ledger import BatchLedger
from gristmill.models.budget import Budget, Prices
from gristmill.models.protocol import Completion, Request
from gristmill.models.request import cap

KNOWN_ANSWERS = 100
"""Answers of a model after which their mean length is what a budget reckons with, instead of the limit."""
BYTES_A_TOKEN = 3
"""Of a request: fewer than English takes (four), so that few prompts have more tokens than was set aside."""


class Payee(Protocol):
    """Whoever is paid: a model by its number in the ledger."""

    name: str
    number: int
    prices: Prices


class SetAside:
    """What the jobs of a pass have taken, on top of `spent`, and what those under way may take, in their order."""

    def __init__(self, budget: Budget, ledger: BatchLedger, spent: Mapping[str, float]):
        self.budget, self.ledger = budget, ledger
        self.spent = dict(spent)
        self._means: dict[int, float | None] = {}

    def add(self, prices: Prices, completion: Completion) -> None:
        """Count an answer."""
        self.spent["cost"] += prices.of(completion)
        self.spent["tokens"] += (completion.tokens_in or 0) + (completion.tokens_out or 0)

    def set_aside(self, request: Request, model: Payee) -> Refused | None:
        """Count what a request may take of a model; why it is not to be sent, where that is more than is left."""
        if not self.budget.is_limited:
            return None
        into = -(-len(orjson.dumps(request.messages)) // BYTES_A_TOKEN)
        out = self._longest(model, request)
        more = {"cost": model.prices.money(into, out), "tokens": into + out}
        for name, limit in self.budget.limits.items():
            if limit is not None and self.spent[name] + more[name] > limit:
                flag = {"cost": "--max-cost", "tokens": "--max-tokens-total"}[name]
                return Refused(
                    f"budget spent: the next request may go beyond {limit:g} ({flag}; {self.spent[name]:g} are spent); "
                    "what was answered is kept: raise the limit and run the same again"
                )
        for name, amount in more.items():
            self.spent[name] += amount
        return None

    def _longest(self, model: Payee, request: Request) -> int:
        """Tokens that are set aside for an answer: the mean of those known, within the limit of the request."""
        if model.number not in self._means:
            self._means[model.number] = self.ledger.mean_answer(model.number, KNOWN_ANSWERS)
        mean, most = self._means[model.number], cap(request)
        if mean is None and most is None:
            raise UsageError(
                f"--batch with a budget: nothing tells how long answers of {model.name} are; give --max-tokens"
            )
        choices = request.sampling.get("n") or 1
        known = [amount for amount in (mean, None if most is None else most * choices) if amount is not None]
        return ceil(min(known))
