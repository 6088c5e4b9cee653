"""The calls of one job, counted as their rows are taken, and why they end early: a budget, failures, a dead endpoint.

What stops the calls is not raised where it happens: the rows so far are the caller's to write, and `ended` says what to
tell people.

Not covered: what the rows are for (`pipeline.py`, `transform_pipeline.py`, `rollout/`, `loop/`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gristmill import progress
from gristmill.errors import BadInput, Refused, UsageError
from gristmill.generate.accept import Step
from gristmill.generate.sample import Candidate, Copies, Row, answered, rows_of
from gristmill.generate.tally import Tally
from gristmill.models.batch import Batches
from gristmill.models.budget import Budget, Prices
from gristmill.models.protocol import Completion
from gristmill.progress import Say

FEW = 50
"""Calls below which a share of failures says little: it is judged at the end, or when there are more."""


@dataclass(frozen=True)
class Goal:
    """When to stop: at `accept` rows that pass `steps` (None: at the last candidate), or when more than the share
    `max_failures` of the calls failed."""

    accept: int | None = None
    steps: Sequence[Step] = ()
    max_failures: float = 0.1

    def __post_init__(self) -> None:
        if self.accept is not None and self.accept < 1:
            raise UsageError(f"accept {self.accept}: allowed are whole numbers from 1")
        if self.steps and self.accept is None:
            raise UsageError("--where without --accept N: say how many rows are wanted, or filter the output")


class Made(NamedTuple):
    """Rows, and the calls they took, in order."""

    calls: Sequence[tuple[Candidate, Completion]]
    rows: Callable[[float | None], Iterable[Row]]
    """The rows, given what the calls cost; None where no price is known."""


def _made(asked: tuple[Candidate, Completion]) -> Made:
    return Made([asked], lambda cost: rows_of(*asked, cost))


class Asking:
    """Calls of one job: when they stop, by `goal` and `budget`, and what was counted, at `prices` by the name of the
    model (what has none has no cost). Not to be used for another job."""

    def __init__(self, goal: Goal = Goal(), budget: Budget | None = None, prices: Mapping[str, Prices] | None = None):
        self.goal, self.budget, self.tally = goal, budget, Tally({} if prices is None else prices)
        self.copies = Copies()
        self.stop: Refused | BadInput | None = None

    def rows(self, asked: Iterable[Candidate]) -> Iterator[Row]:
        """The rows of candidates, counted; ends early when something stops the calls."""
        return self.counted(map(_made, answered(asked)))

    def counted(self, made: Iterable[Made]) -> Iterator[Row]:
        """The rows, numbered, their calls counted; ends early when something stops the calls."""
        try:
            for calls, rows in made:
                costs = [cost for call in calls if (cost := self.tally.add(*call)) is not None]
                yield from map(self.copies.numbered, rows(sum(costs) if costs else None))
                progress.advance(1)
                if refusal := self._refusal():  # not raised: its traceback would keep the calls in the air
                    self.stop = refusal
                    return
        except (Refused, BadInput) as stop:  # a budget, an endpoint; a table or template that ends in an error
            self.stop = self.stop or stop

    def judged(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, judged as they are taken; they end early when a judge may spend no more, or is gone.

        Raises what stops the judge of the first rows, for then there are none to keep.
        """
        some = False
        try:
            for row in rows:
                yield row
                some = True
        except Refused as stop:
            if not some:
                raise
            self.stop = self.stop or stop

    def round(self, asked: Iterable[Candidate], batches: Batches | None, say: Say | None = None) -> Iterator[Row]:
        """The rows of some candidates, which are put into batches first, if there are any."""
        if not batches or self.stop:
            return self.rows(asked)
        some: list[Candidate] = []
        try:
            some.extend(asked)
        except (Refused, BadInput) as stop:  # a table or template that ends in an error; `some` are those before it
            self.stop = stop
        self.fill(batches, lambda: some, say)
        progress.begin("generate")
        return self.rows(some)

    def fill(self, batches: Batches, asked: Callable[[], Iterable[Candidate]], say: Say | None = None) -> None:
        """Let batches answer candidates; what stops them also stops the rows, after those there are answers for."""
        try:
            batches.fill(
                lambda: ((candidate.model, candidate.request) for candidate in asked()),
                say,
                cost=self.tally.cost,
                tokens=self.tally.tokens,
            )
        except Refused as refusal:
            self.stop = self.stop or refusal

    def _refusal(self) -> Refused | None:
        """Why no further row may be taken, judged by the candidates so far in their order."""
        tally = self.tally
        if tally.calls >= FEW and tally.failures > self.goal.max_failures * tally.calls:
            return self._too_many()
        return self.budget.refusal_at(tally.cost, tally.tokens) if self.budget else None

    def ended(self, rows: int, kept: int | None, out: Path) -> Refused | BadInput | None:
        """Why the answer is no, for people; None where it is yes."""
        tally, wanted = self.tally, self.goal.accept
        stop = self.stop
        if wanted is not None and kept == wanted:
            return None
        if not stop and tally.failures > self.goal.max_failures * tally.calls:
            stop = self._too_many()
        if stop:
            return Refused(f"{stop}; {rows:,} rows are in {out}") if rows else stop
        if wanted is not None:
            return Refused(
                f"--accept {wanted}: {kept:,} of {rows:,} candidates pass, and there are no more; they are in {out}: "
                "raise -n or the template's samples"
            )
        return None

    def _too_many(self) -> Refused:
        tally = self.tally
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in tally.failed.most_common(3))
        return Refused(
            f"{tally.failures:,} of {tally.calls:,} calls failed ({kinds}; last: {tally.last_error}), more than "
            f"--max-failures {self.goal.max_failures:.0%}"
        )
