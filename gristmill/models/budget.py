"""What calls cost, and a limit to it that holds.

A price is money per million tokens of prompt and of answer; which money is the user's affair. A budget counts every
answer that is used, also one the ledger gave, so that a job that was stopped and is started again with the same limit
stops at the same place, and goes on when the limit is raised. Before a call is sent, it must fit beside what the calls
in the air will cost if they are like those of their kind before them: a judge's are not like those it judges. Of a kind
that comes after others, one call goes first.

Not covered: what the first calls of a job cost, which are sent before any was answered; prices of cached prompts and
images; taxes; calls that fail after the server began to answer.
"""

import asyncio
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

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


@dataclass
class _Kind:
    """The calls of one kind: how many are in the air, and what those that were answered took."""

    air: int = 0
    calls: int = 0
    spent: dict[str, float] = field(default_factory=lambda: {"cost": 0.0, "tokens": 0.0})


class Budget:
    """At most `cost` money and `tokens` tokens (prompt and answer), None for no limit."""

    def __init__(self, cost: float | None = None, tokens: int | None = None):
        self.limits = {"cost": cost, "tokens": tokens}
        self.spent = {"cost": 0.0, "tokens": 0.0}
        self.calls = self.tokens_in = self.tokens_out = 0
        self._kinds: defaultdict[Hashable, _Kind] = defaultdict(_Kind)
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in self.limits.values())

    def charge(self, cost: float, completion: Completion, kind: Hashable = None) -> None:
        """Count an answer to a call of a kind."""
        self.calls += 1
        self.spent["cost"] += cost
        self.tokens_in += completion.tokens_in or 0
        self.tokens_out += completion.tokens_out or 0
        self.spent["tokens"] = self.tokens_in + self.tokens_out
        mine = self._kinds[kind]
        mine.calls += 1
        mine.spent["cost"] += cost
        mine.spent["tokens"] += (completion.tokens_in or 0) + (completion.tokens_out or 0)

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

    async def admit(self, kind: Hashable = None) -> None:
        """Return when a call of a kind may be sent; raises Refused when none may. To be followed by `landed`."""
        while any(each.air for each in self._kinds.values()) and self._tight(self._kinds[kind]):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        if refusal := self.refusal():
            raise refusal
        self._kinds[kind].air += 1

    def landed(self, kind: Hashable = None) -> None:
        """A call that was admitted has ended; its answer, if there is one, is charged already."""
        self._kinds[kind].air -= 1
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def _tight(self, kind: _Kind) -> bool:
        """Whether the calls in the air may spend the rest, or what one of this kind takes is still to be seen."""
        if self.is_limited and self.calls and kind.air and not kind.calls:
            return True
        for name, limit in self.limits.items():
            more = sum(each.spent[name] * each.air / max(each.calls, 1) for each in self._kinds.values())
            if limit is not None and self.spent[name] + more >= limit:
                return True
        return False


class Budgeted:
    """`inner`, whose calls are sent while `budget` allows it. Goes inside the limits: only a call whose turn it is may
    count as one in the air. Calls of one `kind` are taken to be alike."""

    def __init__(self, inner: Model, budget: Budget, kind: Hashable = None):
        self.inner, self.budget, self.kind = inner, budget, kind
        self.name, self.identity = inner.name, inner.identity

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises Refused when the budget is spent, and what `inner` raises."""
        await self.budget.admit(self.kind)
        try:
            return await self.inner.complete(request)
        finally:
            self.budget.landed(self.kind)

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()


class Charged:
    """`inner`, each of whose answers is charged to `budget` as one of a `kind`. Goes outside the ledger where its
    answers count too."""

    def __init__(self, inner: Model, budget: Budget, prices: Prices, kind: Hashable = None):
        self.inner, self.budget, self.prices, self.kind = inner, budget, prices, kind
        self.name, self.identity = inner.name, inner.identity

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises what `inner` raises."""
        completion = await self.inner.complete(request)
        self.budget.charge(self.prices.of(completion), completion, self.kind)
        return completion

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()
