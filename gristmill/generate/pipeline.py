"""Generate: from a template or a table of prompts to a Parquet file of candidates, and the account of what they took.

The file is written beside its place and renamed; answers are in the calls ledger long before. So a run that was killed
is started again as it was, and what was answered costs nothing. When a budget, failures or a dead endpoint stop the
calls, the rows so far are written, and the error says so.

Not covered: filters beyond `accept` (`gristmill filter`), what a template is (`templates.py`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gristmill import __version__, progress
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import BadInput, Refused, UsageError
from gristmill.generate.accept import Step, accept
from gristmill.generate.sample import Candidate, Copies, Plan, Row, answered, candidates, rows_of
from gristmill.generate.tally import Tally
from gristmill.models.batch import Batches
from gristmill.models.budget import Budget, Prices
from gristmill.models.protocol import Completion, Model
from gristmill.parquet import RowWriter, check_replaceable, marked
from gristmill.progress import Say, Stages
from gristmill.records import CARRIED, SCHEMAS
from gristmill.run import Run, peak_rss_mb

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


def generate_rows(
    prompts: Iterable[Row],
    models: Sequence[Model],
    out: str | Path,
    plan: Plan,
    *,
    run: Run,
    goal: Goal = Goal(),
    budget: Budget | None = None,
    prices: Mapping[str, Prices] | None = None,
    batches: Batches | None = None,
    source: str = "",
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Ask `models` for what `plan` says of each of the `prompts`, write the rows to `out`, and tell what they took.

    With `batches`, which the models are made with, they are asked in batches; `prompts` are then gone through several
    times, and an iterator will not do.

    Returns the summary. Raises Refused, with the rows so far in `out`, when a budget is spent, too many calls fail or
    an endpoint is gone; UsageError, with nothing written, for what makes every call fail, and for no prompt at all.
    """
    out = Path(out)
    check_replaceable(out, "generate", force=force)
    started = time.monotonic()
    if batches and iter(prompts) is prompts:
        raise UsageError("batches go through the prompts several times; give a list, or a PromptSource, no iterator")
    remaining = iter(prompts)
    first = next(remaining, None)
    if first is None:
        raise UsageError(f"{source or 'prompts'}: no prompt in it; give at least one")
    schema = _schema(first)
    asking = Asking(Tally(prices or {}), goal, budget, say)
    todo = candidates(chain([first], remaining), models, plan)
    if batches and goal.accept is None:
        asking.fill(batches, lambda: candidates(prompts, models, plan))
    with space_wanted("the output", out), beside(out) as partial:
        file = partial / out.name
        stages = Stages(say)
        stages.begin("generate")
        if goal.accept is None:
            with RowWriter(file, schema) as writer:
                for row in asking.rows(todo):
                    writer.write(row)
            rows, kept = writer.rows, None
        else:
            judged, kept = accept(lambda n: asking.round(islice(todo, n), batches), goal.accept, goal.steps, schema)
            asking.tally.kept(judged)
            pq.write_table(judged.replace_schema_metadata(schema.metadata), file, compression="zstd")
            rows = len(judged)
        stages.end(f"{rows:>11,} rows", asking.tally.note())
        stop = asking.ended(rows, kept, out)
        summary: dict[str, Any] = {
            "gristmill": __version__,
            "source": source,
            "rows": rows,
            "rows_kept": kept,
            "stopped": str(stop) if stop else None,
            **asking.tally.summary(),
            "batches": batches.summary() if batches else None,
            "seconds": round(time.monotonic() - started, 2),
            "peak_rss_mb": round(peak_rss_mb(), 1),
        }
        if rows:
            params = {"inputs": [source], "plan": plan_told(plan), "models": [model.name for model in models]}
            counts = {name: summary[name] for name in ("rows", "rows_kept", "calls", "failed", "cost")}
            run.output(out, "generate", params=params, counts=counts, beside=file)
    if stop:
        raise stop
    return summary


class Made(NamedTuple):
    """Rows, and the calls they took, in order."""

    calls: Sequence[tuple[Candidate, Completion]]
    rows: Callable[[float | None], Iterable[Row]]
    """The rows, given what the calls cost; None where no price is known."""


def _made(asked: tuple[Candidate, Completion]) -> Made:
    return Made([asked], lambda cost: rows_of(*asked, cost))


class Asking:
    """Calls under way: what was counted, and why they ended early."""

    def __init__(self, tally: Tally, goal: Goal, budget: Budget | None, say: Say | None = None):
        self.tally, self.goal, self.budget, self.say = tally, goal, budget, say
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

    def round(self, asked: Iterable[Candidate], batches: Batches | None) -> Iterator[Row]:
        """The rows of some candidates, which are put into batches first, if there are any."""
        if not batches or self.stop:
            return self.rows(asked)
        some: list[Candidate] = []
        try:
            some.extend(asked)
        except (Refused, BadInput) as stop:  # a table or template that ends in an error; `some` are those before it
            self.stop = stop
        self.fill(batches, lambda: some)
        progress.begin("generate")
        return self.rows(some)

    def fill(self, batches: Batches, asked: Callable[[], Iterable[Candidate]]) -> None:
        """Let batches answer candidates; what stops them also stops the rows, after those there are answers for."""
        try:
            batches.fill(
                lambda: ((candidate.model, candidate.request) for candidate in asked()),
                self.say,
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


def _schema(prompt: Row) -> pa.Schema:
    """The columns of the rows that prompts like this one make."""
    carried = [
        pa.field(name, next(kind for prefix, kind in CARRIED.items() if name.startswith(prefix)))
        for name in prompt
        if name.startswith(tuple(CARRIED))
    ]
    return marked(pa.schema([*SCHEMAS["sample"], *carried]))


def plan_told(plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "n": plan.n,
        "temperatures": list(plan.temperatures),
        "sampling": dict(plan.sampling),
        "seed": plan.seed,
        "together": plan.together,
    }
