"""The batch API of a provider as a way to fill the calls ledger: half the price, within a day.

`Batches.fill` takes jobs as `completions` does. A pass over them, through everything that wraps the models (structured
answers included), finds what the ledger does not have; that is written down and sent in batches; what batches answered
goes into the ledger as if it had been asked for one by one; then there is another pass, until nothing is left to send.
The same jobs, put to the same models afterwards, are all answered: from the ledger, or with the error that their batch
had for them.

Requests of a batch that expired, failed or was cancelled go into the next one; so does, twice, one that met
an error of the server. A pass ends where the budget does: what the open requests may take is set aside before they are
sent.

Not covered: requests that other processes send in the meantime; cancelling batches.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from gristmill import progress
from gristmill.errors import BadInput, CallFailed, Refused, UsageError
from gristmill.models.batch_api import ENDED, BatchApi
from gristmill.models.batch_budget import SetAside
from gristmill.models.batch_harvest import harvest
from gristmill.models.batch_ledger import BatchLedger, Left, Part, Record, line_of
from gristmill.models.budget import Budget, Prices
from gristmill.models.calls import Calls
from gristmill.models.drive import Job, completions, wait
from gristmill.models.endpoint import Endpoint
from gristmill.models.protocol import Completion, Model, Request
from gristmill.models.request import Keys, body, cap, keys
from gristmill.progress import Say, Stages

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""What one batch may hold (https://platform.openai.com/docs/guides/batch)."""

BARREN = 3
"""Batches in a row that end without a single answer, before no more are sent."""

POLL, POLL_MOST = 0.2, 60.0
"""Seconds between looks at the batches: at first, growing by half each time, and at most."""

UNREADY = 20
"""Looks at a batch that has ended with answers but names no file of them, before they count as lost."""

FULL_MOST = 600.0
"""Seconds, at most, that pass before a batch is made again for which the provider's queue had no room."""

PENDING = "pending"


class Batched:
    """What batches of an endpoint answered: the model below the ledger that they fill."""

    def __init__(self, batches: "Batches", endpoint: Endpoint, prices: Prices):
        self.batches, self.endpoint, self.prices = batches, endpoint, prices
        self.name, self.identity = endpoint.name, endpoint.identity
        self.number = batches.calls.model(self.identity, self.name)
        self.api = BatchApi(endpoint)

    async def complete(self, request: Request) -> Completion:
        """Never an answer: the ledger has it or nobody. Raises CallFailed with what the batch said, or Refused for what
        was not sent."""
        return self.batches.missing(self, request)

    async def close(self) -> None:
        """Close the endpoint, and let failures that were told be asked for again."""
        self.batches.told()
        await self.endpoint.close()


class _Wanted(NamedTuple):
    model: Batched
    request: Request
    known: Keys
    left: Left | None


@dataclass
class _Account:
    """What was done since the beginning, for people and the summary."""

    batches: int = 0
    """Those that ended."""
    requests: int = 0
    answered: int = 0
    failed: int = 0
    again: int = 0
    """Requests that were put into another batch, each time counted."""


class Batches:
    """The batches of one run, for the models that `model` gave. `budget` limits what they may take."""

    def __init__(self, calls: Calls, *, budget: Budget | None = None):
        self.calls, self.budget = calls, budget or Budget()
        self.say: Say = _unsaid
        self.ledger = BatchLedger(calls)
        self.account = _Account()
        self.most_requests = MOST_REQUESTS
        self._models: dict[int, Batched] = {}
        self._wanted: dict[str, _Wanted] = {}
        self._filling = False
        self._short: Refused | None = None
        self._told: list[bytes] = []
        self._fresh: set[int] = set()  # batches of this process of which the provider cannot know yet
        self._barren = self._full = 0
        self._counted = False
        self._taken = {"cost": 0.0, "tokens": 0.0}  # of the budget, before the jobs at hand

    def model(self, endpoint: Model, prices: Prices) -> Batched:
        """The model that answers what batches of an endpoint did. Raises UsageError for what is no endpoint."""
        if not isinstance(endpoint, Endpoint):
            raise UsageError(f"--batch: {endpoint.name} is no endpoint with a batch API; name a URL or an alias")
        found = Batched(self, endpoint, prices)
        return self._models.setdefault(found.number, found)

    def missing(self, model: Batched, request: Request) -> Completion:
        """On the loop: note a request that the ledger does not answer. Raises what `Batched.complete` does."""
        known = keys(request, model.identity)
        left = self.ledger.left(known.cut)
        if left and left.final:
            kind, _, message = (left.error or "").partition(": ")
            if not self._filling:
                self._told.append(known.cut)
            raise CallFailed(kind, message)
        if not self._filling:
            raise self._short or Refused(f"model {model.name}: no batch was asked this; run the same again")
        self._wanted[known.cut.hex()] = _Wanted(model, request, known, left)
        raise CallFailed(PENDING, known.cut.hex())

    def told(self) -> None:
        """Let the failures that rows have told be asked for again by the next command."""
        told, self._told = self._told, []
        if told:
            self.ledger.forget(told)

    def fill(
        self, jobs: Callable[[], Iterable[Job]], say: Say | None = None, *, cost: float = 0.0, tokens: int = 0
    ) -> None:
        """Return when the ledger has what the jobs ask for, as far as batches and budget give it. `jobs` is called
        once for every pass, and gives the same jobs each time; `say` is told what is sent and what comes back. `cost`
        and `tokens` are what other jobs took of the budget.

        Raises UsageError, Refused (start again: what was sent is not sent twice) and OutOfSpace; an interrupt leaves
        the batches under way where they are.
        """
        self.say = say or _unsaid
        stages = Stages(say)
        waiting: list[Record] = []
        before, self._counted = self.account.batches, False
        self._taken = {"cost": cost, "tokens": float(tokens)}
        with self.ledger.held():
            try:
                while waiting := self._pass(jobs()):
                    stages.begin("batch")
                    progress.phase("answered", sum(record.requests for record in waiting))
                    wait(self._carried(waiting))
                self.ledger.settle()
            except KeyboardInterrupt:
                if waiting := self.ledger.open(record.number for record in waiting):
                    ids = ", ".join(record.batch or "not yet sent" for record in waiting[:3])
                    more = ", …" if len(waiting) > 3 else ""
                    self.say(
                        f"batches go on at the provider ({ids}{more}); the same command again waits "
                        "for them and takes their answers"
                    )
                raise
            finally:
                progress.end()
        if self.account.batches > before:
            stages.end(f"{self.account.requests:>11,} requests", self.note())

    def summary(self) -> dict[str, int]:
        """What batches of this process were taken in, as JSON."""
        return asdict(self.account)

    def note(self) -> str:
        """A few words on the batches of this process."""
        account = self.account
        words = f"{account.batches:,} {'batch' if account.batches == 1 else 'batches'}, {account.answered:,} answered"
        words += f", {account.failed:,} failed" if account.failed else ""
        return words + (f", {account.again:,} sent again" if account.again else "")

    # A pass

    def _pass(self, jobs: Iterable[Job]) -> list[Record]:
        """Write down batches of what has no answer and is in no batch yet; returns the open ones that matter here."""
        self._filling, self._short = True, None
        parts: dict[int, Part] = {}
        open_: set[int] = set()
        seen: set[bytes] = set()
        spent = SetAside(self.budget, self.ledger, self._taken)
        try:
            with closing(_told_apart(jobs)) as looked_up:
                for model, completion in looked_up:
                    wanted = self._wanted.pop((completion.error or "").removeprefix(f"{PENDING}: "), None)
                    if wanted is None:
                        spent.add(self._prices(model), completion)
                        self._count_hit(model, completion)
                        continue
                    if wanted.known.cut in seen:
                        continue
                    self._short = spent.set_aside(wanted.request, wanted.model)
                    if self._short:
                        break
                    seen.add(wanted.known.cut)
                    if wanted.left and wanted.left.batch is not None:
                        open_.add(wanted.left.batch)
                    else:
                        open_ |= self._put(parts, wanted)
            self._counted = True
            return self.ledger.open(open_ | {self._closed(parts, number) for number in list(parts)})
        finally:
            self._filling = False
            self._wanted.clear()
            for part in parts.values():
                part.discard()

    def _put(self, parts: dict[int, Part], wanted: _Wanted) -> set[int]:
        """Append a request to the part of its model; gives the number of the batch that this filled."""
        model, filled = wanted.model, set()
        line = line_of(wanted.known.cut.hex(), body(wanted.request, model.endpoint.model))
        part = parts.get(model.number)
        if part and not part.takes(line):
            filled.add(self._closed(parts, model.number))
        if model.number not in parts:
            parts[model.number] = Part(self.ledger.directory, self.most_requests, MOST_BYTES)
        parts[model.number].add(wanted.known, cap(wanted.request), line)
        return filled

    def _closed(self, parts: dict[int, Part], model: int) -> int:
        record = self.ledger.add(parts.pop(model), model)
        self._fresh.add(record.number)
        return record.number

    def _prices(self, model: Model) -> Prices:
        return next((each.prices for each in self._models.values() if each.identity == model.identity), Prices())

    def _count_hit(self, model: Model, completion: Completion) -> None:
        """Count what the ledger answered before the first batch; later passes find what batches brought."""
        if completion.hit and not self._counted:
            self.calls.count(self.calls.model(model.identity, model.name)).hits += 1

    # Batches under way

    async def _carried(self, waiting: list[Record]) -> None:
        """Send the batches and take their answers, until all have ended or one left something to be sent again."""
        done = {record.number: 0 for record in waiting}
        unready: Counter[int] = Counter()
        pause = POLL
        while waiting:
            for place, record in enumerate(waiting):
                if record.batch is None:
                    try:
                        waiting[place] = await self._sent(record)
                    except FileNotFoundError:  # somebody deleted the file: what was in it is asked for anew
                        self.ledger.ended(record, "lost", (), {})
                        return
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, POLL_MOST)
            for record in list(waiting):
                state = await self._models[record.model].api.state(record.batch or "")
                counts = state.get("request_counts") or {}
                ended = state.get("status") in ENDED
                if ended and counts.get("completed") and not state.get("output_file_id"):
                    unready[record.number] += 1  # the file may take a while to show
                    ended = unready[record.number] > UNREADY
                count = record.requests if ended else (counts.get("completed") or 0) + (counts.get("failed") or 0)
                progress.advance(max(0, count - done[record.number]))
                done[record.number] = max(count, done[record.number])
                if ended:
                    waiting.remove(record)
                    pause = POLL
                    if await self._harvested(record, state, bool(waiting)):
                        return

    async def _sent(self, record: Record) -> Record:
        """The batch as the provider has it: uploaded and made, or found there."""
        api, look = self._models[record.model].api, record.number not in self._fresh
        self._fresh.discard(record.number)
        file = self.ledger.file(record.token)
        if record.file is None:
            record = record._replace(file=await api.upload(file, look=look))
            self.ledger.uploaded(record.number, record.file or "")
        record = record._replace(batch=await api.make(record.file or "", record.token, look=look))
        self.ledger.made(record, record.batch or "")
        self.say(f"{'batch':<14}{record.requests:>11,} requests sent as {record.batch}")
        return record

    async def _harvested(self, record: Record, state: dict[str, Any], others: bool) -> bool:
        """Take what a batch that has ended gives; whether there is a reason for another pass at once."""
        model = self._models[record.model]
        found = await harvest(model.api, self.ledger, self.calls, record, state)
        final, again = found.final, len(found.failed) - found.final
        self.calls.count(record.model).failed += final
        account = self.account
        account.batches, account.requests = account.batches + 1, account.requests + record.requests
        account.answered, account.failed = account.answered + len(found.answered), account.failed + final
        account.again += again
        words = f"{len(found.answered):,} answered" + (f", {final:,} failed" if final else "")
        words += f", {again:,} to be sent again" if again else ""
        said = f" ({found.said})" if found.said else ""
        self.say(f"{'batch':<14}{record.requests:>11,} requests {state['status']}: {words}{said}")
        if found.queue_full:
            self._full += 1
            if not others:
                self.most_requests = max(1, min(self.most_requests, record.requests // 2))
                await asyncio.sleep(min(POLL * 2**self._full, FULL_MOST))
            return not others
        was_full, self._full = self._full, 0
        self._barren = 0 if found.answered or final else self._barren + 1
        if self._barren >= BARREN:
            why = found.said or f"the last {state['status']}"
            raise Refused(
                f"model {model.name}: {BARREN} batches in a row ended without an answer ({why}); start again later"
            )
        return bool(again or was_full) or self.budget.is_limited


def _unsaid(_: str) -> None:
    """Say nothing."""


def _told_apart(jobs: Iterable[Job]) -> Generator[tuple[Model, Completion], None, None]:
    """What becomes of each job, with its model."""
    ahead: deque[Model] = deque()

    def noted() -> Iterator[Job]:
        with suppress(Refused, BadInput):  # the prompts end early: who asks for the rows meets that again, after them
            for model, request in jobs:
                ahead.append(model)
                yield model, request

    with closing(completions(noted())) as answers:
        for completion in answers:
            yield ahead.popleft(), completion
