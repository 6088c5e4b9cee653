"""What calls cost, and a limit to it that holds.

A price is money per million tokens of prompt and of answer; which money is the user's affair. A budget counts every
answer that is used, also one the ledger gave, so that a job that was stopped and is started again with the same limit
stops at the same place, and goes on when the limit is raised. Before a call is sent, it must fit beside what the calls
in the air will cost if they are like those before them.

Not covered: prices of cached prompts and images; taxes; calls that fail after the server began to answer.
"""

import asyncio
from dataclasses import dataclass

from gristmill.errors import Refused
from gristmill.models.protocol import Completion, Model, Request

MILLION = 1_000_000


@dataclass(frozen=True)
class Prices:
    """Money per million tokens."""

    input: float = 0.0
    output: float = 0.0

    def of(self, completion: Completion) -> float:
        """What an answer costs; what the server does not tell counts as nothing."""
        return self.money(completion.tokens_in or 0, completion.tokens_out or 0)

    def money(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.input + tokens_out * self.output) / MILLION


class Budget:
    """At most `cost` money and `tokens` tokens (prompt and answer), None for no limit."""

    def __init__(self, cost: float | None = None, tokens: int | None = None):
        self.limits = {"cost": cost, "tokens": tokens}
        self.spent = {"cost": 0.0, "tokens": 0.0}
        self.calls = self.tokens_in = self.tokens_out = 0
        self._air = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in self.limits.values())

    def charge(self, cost: float, completion: Completion) -> None:
        """Count an answer."""
        self.calls += 1
        self.spent["cost"] += cost
        self.tokens_in += completion.tokens_in or 0
        self.tokens_out += completion.tokens_out or 0
        self.spent["tokens"] = self.tokens_in + self.tokens_out

    def refusal(self) -> Refused | None:
        """Why nothing more may be spent; None while something may."""
        return self.refusal_at(**self.spent)

    def refusal_at(self, cost: float, tokens: float) -> Refused | None:
        """Why nothing more may be spent when so much is."""
        spent = {"cost": cost, "tokens": tokens}
        for name, limit in self.limits.items():
            if limit is not None and spent[name] >= limit:
                flag = {"cost": "--max-cost", "tokens": "--max-tokens-total"}[name]
                return Refused(
                    f"budget spent: {spent[name]:g} of {limit:g} ({flag}); what was answered is kept: "
                    "raise the limit and run the same again"
                )
        return None

    async def admit(self) -> None:
        """Return when a call may be sent; raises Refused when none may. To be followed by `landed`."""
        while self._air and self._tight():
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        if refusal := self.refusal():
            raise refusal
        self._air += 1

    def landed(self) -> None:
        """A call that was admitted has ended; its answer, if there is one, is charged already."""
        self._air -= 1
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def _tight(self) -> bool:
        """Whether the calls in the air may spend the rest."""
        share = self._air / max(self.calls, 1)
        return any(limit is not None and self.spent[name] * (1 + share) >= limit for name, limit in self.limits.items())


class Budgeted:
    """`inner`, whose calls are sent while `budget` allows it. Goes inside the limits: only a call whose turn it is may
    count as one in the air."""

    def __init__(self, inner: Model, budget: Budget):
        self.inner, self.budget = inner, budget
        self.name, self.identity = inner.name, inner.identity

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises Refused when the budget is spent, and what `inner` raises."""
        await self.budget.admit()
        try:
            return await self.inner.complete(request)
        finally:
            self.budget.landed()

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()


class Charged:
    """`inner`, each of whose answers is charged to `budget`. Goes outside the ledger where its answers count too."""

    def __init__(self, inner: Model, budget: Budget, prices: Prices):
        self.inner, self.budget, self.prices = inner, budget, prices
        self.name, self.identity = inner.name, inner.identity

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises what `inner` raises."""
        completion = await self.inner.complete(request)
        self.budget.charge(self.prices.of(completion), completion)
        return completion

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()
