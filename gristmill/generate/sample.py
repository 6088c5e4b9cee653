"""Candidates: what is asked for each prompt, and the rows its answers make.

Every prompt is put to every model at every rung of the temperature ladder, `n` times each. A candidate's seed derives
from (seed, id, copy, number), so that what is asked of one prompt does not depend on the others, and more prompts,
rungs, models or samples leave the calls that were made as they are.

Not covered: which of the rows are worth keeping (`accept.py`, `filter/`).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

import orjson

from gristmill.errors import UsageError
from gristmill.generate.prompt_table import HELD_BY
from gristmill.models.drive import Job, completions
from gristmill.models.protocol import Choice, Completion, Model, Request
from gristmill.records import row_id

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is asked for each prompt.

    `n` samples at each of the `temperatures` (none: the server's own). `sampling` are the other fields of a request by
    OpenAI's names. With `together`, the n samples are one request for n choices, which not every server takes. `seed`
    decides the seeds that are sent; None sends none.
    """

    n: int = 1
    temperatures: Sequence[float] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = 0
    together: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n}: allowed are whole numbers from 1")
        for temperature in self.temperatures:
            if not 0 <= temperature <= 2:
                raise UsageError(f"temperature {temperature:g}: allowed are 0 to 2")
        if "n" in self.sampling:
            raise UsageError("sampling n: say -n (in Python, Plan.n)")

    @property
    def rungs(self) -> Sequence[float | None]:
        """The temperatures, or the server's own."""
        return self.temperatures or (None,)


class First:
    """The first `count` rows (None: all) of something that can be gone through several times, each time."""

    def __init__(self, rows: Iterable[Row], count: int | None):
        self.rows, self.count = rows, count

    def __iter__(self) -> Iterator[Row]:
        return islice(iter(self.rows), self.count)


class Candidate(NamedTuple):
    """One request for a prompt, whose answer makes one row (with `together`, n)."""

    prompt: Row
    model: Model
    request: Request
    first: int
    """The number of its first sample in the group of the prompt."""


def candidates(prompts: Iterable[Row], models: Sequence[Model], plan: Plan) -> Iterator[Candidate]:
    """The candidates of prompts (PROMPT rows), in the order in which they count: by prompt, sample, rung, model."""
    rounds = 1 if plan.together else plan.n
    for prompt in prompts:
        messages = [sent(message) for message in prompt["prompt"]]
        tools = orjson.loads(prompt["tools"]) if prompt.get("tools") else None
        first = 0
        for number in range(rounds):
            seed = _seed(plan, prompt, number)
            for rung in plan.rungs:
                sampling = dict(plan.sampling)
                if rung is not None:
                    sampling["temperature"] = rung
                if seed is not None:
                    sampling["seed"] = seed
                if plan.together and plan.n > 1:
                    sampling["n"] = plan.n
                for model in models:
                    yield Candidate(prompt, model, Request(messages, sampling, tools, number), first)
                    first += plan.n if plan.together else 1


def samples(prompts: Iterable[Row], models: Sequence[Model], plan: Plan) -> Iterator[Row]:
    """SAMPLE rows in the order of the candidates; a call that failed has an `error`.

    Raises, after the rows that came before, what ended the calls: UsageError, Refused, OutOfSpace.
    """
    copies = Copies()
    for candidate, completion in answered(candidates(prompts, models, plan)):
        yield from map(copies.numbered, rows_of(candidate, completion))


def answered(asked: Iterable[Candidate]) -> Iterator[tuple[Candidate, Completion]]:
    """The candidates with what became of each, in their order."""
    ahead: deque[Candidate] = deque()

    def jobs() -> Iterator[Job]:
        for candidate in asked:
            ahead.append(candidate)
            yield candidate.model, candidate.request

    for completion in completions(jobs()):
        yield ahead.popleft(), completion


def rows_of(candidate: Candidate, completion: Completion, cost: float | None = None) -> Iterator[Row]:
    """The rows of an answer, without `id` and `copy`: one for each choice that was asked for. Where there is none, its
    `error` says why.

    What all choices took together (tokens, cost) stands on the first, so that sums are right.
    """
    prompt, request = candidate.prompt, candidate.request
    row = {name: value for name, value in prompt.items() if name not in ("id", "copy", "meta", HELD_BY)}
    row |= {
        "parents": [prompt["id"], *filter(None, [prompt.get(HELD_BY)])],
        "model": candidate.model.name,
        "sampling": orjson.dumps(request.sampling).decode(),
        "tokens_in": completion.tokens_in,
        "tokens_out": completion.tokens_out,
        "error": completion.error,
    }
    got = completion.choices
    for place in range(max(len(got), _wanted(request))):
        choice = got[place] if place < len(got) else Choice(None)
        if place:
            row, cost = {**row, "tokens_in": None, "tokens_out": None}, None
        if place >= len(got):
            row["error"] = completion.error or missing(request, completion)
        yield {
            **row,
            "response": choice.text,
            "reasoning": choice.reasoning,
            "sample": candidate.first + place,
            "finish_reason": choice.finish_reason,
            "meta": _meta(prompt, choice, cost),
        }


def _wanted(request: Request) -> int:
    """How many choices a request asks for."""
    return int(request.sampling.get("n") or 1)


def missing(request: Request, completion: Completion) -> str | None:
    """The error of the choices that an answer lacks; None where it has all."""
    got, wanted = len(completion.choices), _wanted(request)
    if got >= wanted:
        return None
    return f"missing: {got} of {wanted} choices came; the server does not take `n`: leave out --together"


class Copies:
    """Gives rows their `id` and `copy` in the order they come; remembers 16 bytes a row."""

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def numbered(self, row: Row) -> Row:
        """The row with its key first; one that has an `id` keeps it."""
        id = row.get("id") or row_id("sample", row)
        digest = bytes.fromhex(id[3:])
        copy = self._seen.get(digest, 0)
        self._seen[digest] = copy + 1
        return {**row, "id": id, "copy": copy}


def sent(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as it is sent: what it carries in `extra` (tool calls, names) goes beside its role and content."""
    extra = orjson.loads(message["extra"]) if message.get("extra") else {}
    return {"role": message["role"], "content": message["content"], **extra}


def _seed(plan: Plan, prompt: Row, number: int) -> int | None:
    if plan.seed is None:
        return None
    text = f"{plan.seed}:{prompt['id']}:{prompt.get('copy') or 0}:{number}"
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest()) >> 1


def _meta(prompt: Row, choice: Choice, cost: float | None) -> str | None:
    """The prompt's, with what has no column: cost, calls of tools, log-probabilities."""
    more = {"cost": cost, "tool_calls": choice.tool_calls, "logprobs": choice.logprobs}
    more = {name: value for name, value in more.items() if value}
    if not more:
        found: str | None = prompt.get("meta")
        return found
    return orjson.dumps({**orjson.loads(prompt.get("meta") or "{}"), **more}).decode()
