"""The world of the embedded model: sums with exact truth, and slices that are known by construction.

A task is an operation on two numbers, in some wording, to be answered in some form. Its truth, its reasoning (column
by column, from the right) and its slices follow from the numbers, so that nothing has to be judged or annotated. The
parts `train` and `test` share no pair of numbers: a hash of the pair says where it belongs, in either order (a linear
rule on the operands would take whole pairs of digits out of training, which no training makes up for).

A base can be made to lack something: `Mix(lacking={"borrow": 0.98})` leaves out 98 % of the subtractions with a borrow,
a weakness that can then be mined.

Not covered: multiplication, division and negative results; tasks of conduct, which would be a module beside this one
with the same rows.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import orjson
import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.records import CARRIED, SCHEMAS, row_id

Operation = Literal["add", "subtract"]
Part = Literal["train", "test"]

HELD_OUT = 5
"""One pair of numbers in so many is for tests."""

TRIES = 400
"""Tasks drawn in vain, one after the other, before a world is said to hold no more."""

WORDINGS: dict[Operation, dict[str, dict[str, str]]] = {
    "add": {
        "bare": {
            "sign": "{a} + {b} = ?",
            "what": "What is {a} + {b}?",
            "plus": "Compute {a} plus {b}.",
        },
        "word": {
            "pens": "Ana has {a} pens and gets {b} more. How many pens does she have now?",
            "cups": "There are {a} red cups and {b} blue cups. How many cups are there?",
            "bus": "A bus with {a} people takes on {b} more. How many people are on it?",
            "read": "Tom read {a} pages on Monday and {b} on Tuesday. How many pages did he read?",
        },
    },
    "subtract": {
        "bare": {
            "sign": "{a} - {b} = ?",
            "what": "What is {a} - {b}?",
            "minus": "Compute {a} minus {b}.",
        },
        "word": {
            "pens": "Ana has {a} pens and gives {b} away. How many pens does she have now?",
            "cups": "There are {a} cups and {b} of them break. How many cups are left?",
            "bus": "Of {a} people on a bus {b} get off. How many people are on it?",
            "read": "A book has {a} pages and Tom has read {b}. How many pages are left?",
        },
    },
}
"""The texts of a task by operation, wording and template; `a` comes first in all of them."""

ASKS = {"open": "", "steps": " Show your steps.", "direct": " Only the answer."}
"""What a prompt says about reasoning; `open` leaves it to the model."""

FORMS = {"hash": "", "plain": " Write the number on the last line.", "json": " Answer in JSON."}
"""What a prompt says about the form of the answer; `#### n` where it says nothing."""


class Task(NamedTuple):
    """A sum, how it is put, and how it is to be answered."""

    operation: Operation
    left: int
    right: int
    """At most `left` in a subtraction."""
    wording: str
    """`bare` or `word`."""
    template: str
    ask: str = "open"
    form: str = "hash"

    @property
    def answer(self) -> int:
        """The truth."""
        return self.left + self.right if self.operation == "add" else self.left - self.right

    @property
    def prompt(self) -> str:
        """What the user says."""
        text = WORDINGS[self.operation][self.wording][self.template].format(a=self.left, b=self.right)
        return text + ASKS[self.ask] + FORMS[self.form]

    @property
    def columns(self) -> list[tuple[int, int, int]]:
        """The digits of both numbers from the right, with what was carried or borrowed before them (0 or 1)."""
        found, over = [], 0
        for place in range(len(str(max(self.left, self.right)))):
            a, b = self.left // 10**place % 10, self.right // 10**place % 10
            found.append((a, b, over))
            over = int(a + b + over > 9) if self.operation == "add" else int(a - over < b)
        return found

    @property
    def regroups(self) -> bool:
        """Whether a column carries or borrows."""
        a, b, over = self.columns[-1]
        last = self.operation == "add" and a + b + over > 9
        return last or any(column[2] for column in self.columns)

    @property
    def steps(self) -> str:
        """The reasoning: `7+8=15, 1+4+3=8`, and with a borrow `12-8=4, 5-1-3=1`."""
        columns = self.columns
        told = []
        for place, (a, b, over) in enumerate(columns):
            if self.operation == "add":
                told.append(f"{'1+' * over}{a}+{b}={a + b + over}")
            else:
                borrows = place + 1 < len(columns) and columns[place + 1][2]
                top = a + 10 * borrows
                told.append(f"{top}{'-1' * over}-{b}={top - over - b}")
        return ", ".join(told)

    def solution(self, *, reasoned: bool = True) -> str:
        """A right answer in the form that is asked for."""
        return self._put(self.steps if reasoned else "", self.answer)

    def _put(self, steps: str, answer: int) -> str:
        if self.form == "json":
            told = f'"steps": "{steps}", ' if steps else ""
            return f'{{{told}"answer": {answer}}}'
        mark = "#### " if self.form == "hash" else ""
        return f"{steps}\n{mark}{answer}" if steps else f"{mark}{answer}"

    @property
    def buggy(self) -> str:
        """The answer, in the form that is asked for, of who forgets what was carried and takes the smaller digit from
        the larger: wrong wherever a column takes from the one before. (Brown and Burton call such errors of pupils
        bugs: Diagnostic Models for Procedural Bugs in Basic Mathematical Skills, Cognitive Science 2, 1978.)"""
        told, number = [], 0
        for place, (a, b, _) in enumerate(self.columns):
            high, low = max(a, b), min(a, b)
            result = a + b if self.operation == "add" else high - low
            told.append(f"{a}+{b}={result}" if self.operation == "add" else f"{high}-{low}={result}")
            last = place + 1 == len(self.columns)
            number += 10**place * (result if last else result % 10)
        return self._put(", ".join(told), number)

    @property
    def slices(self) -> dict[str, str]:
        """What is known of it, by name."""
        yes = {True: "yes", False: "no"}
        return {
            "operation": self.operation,
            "carry": yes[self.operation == "add" and self.regroups],
            "borrow": yes[self.operation == "subtract" and self.regroups],
            "digits": str(len(self.columns)),
            "wording": self.wording,
            "template": self.template,
            "ask": self.ask,
            "form": self.form,
        }

    @property
    def tags(self) -> list[str]:
        """`tiny`, the operation, and `carry` or `borrow`."""
        regroups = {"add": "carry", "subtract": "borrow"}[self.operation]
        return ["tiny", self.operation, *([regroups] if self.regroups else [])]

    @property
    def part(self) -> Part:
        """Where its pair of numbers belongs."""
        low, high = sorted((self.left, self.right))
        hashed = blake2b(f"{low} {high}".encode(), digest_size=8).digest()
        return "test" if int.from_bytes(hashed, "big") % HELD_OUT == 0 else "train"


@dataclass(frozen=True)
class Mix:
    """Which tasks are drawn: relative weights by value, and what is left out.

    `digits` are those of both numbers, 1 to 9. `only` holds the values of slices that a task must have
    (`{"borrow": "yes"}`); `lacking` the share of tasks with a tag that is left out (`{"borrow": 0.98}`).
    """

    operations: Mapping[str, float] = field(default_factory=lambda: {"add": 1, "subtract": 1})
    wordings: Mapping[str, float] = field(default_factory=lambda: {"bare": 1, "word": 1})
    digits: Mapping[int, float] = field(default_factory=lambda: {1: 1, 2: 6})
    asks: Mapping[str, float] = field(default_factory=lambda: {"open": 1})
    forms: Mapping[str, float] = field(default_factory=lambda: {"hash": 8, "plain": 1, "json": 1})
    only: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            for value in getattr(self, name):
                if value not in allowed:
                    raise UsageError(f"tiny: {name} {value!r}: allowed are {', '.join(map(str, allowed))}")
        for tag, share in self.lacking.items():
            if not 0 <= share <= 1:
                raise UsageError(f"tiny: lacking {tag}={share}: allowed are shares from 0 to 1")


_ALLOWED: dict[str, list[Any]] = {
    "operations": ["add", "subtract"],
    "wordings": ["bare", "word"],
    "digits": list(range(1, 10)),
    "asks": list(ASKS),
    "forms": list(FORMS),
    "only": list(Task("add", 1, 1, "bare", "sign").slices),
    "lacking": ["add", "subtract", "carry", "borrow"],
}


def tasks(n: int, *, seed: int = 0, part: Part = "train", mix: Mix = Mix()) -> Iterator[Task]:
    """`n` different tasks, the same for the same seed, part and mix; more of them begin with the same.

    Raises UsageError where the world holds no more of them.
    """
    draws = random.Random(f"tiny {part} {seed}")
    seen: set[Task] = set()
    vain = 0
    while len(seen) < n:
        task = _drawn(draws, mix)
        left_out = any(draws.random() < share for tag, share in mix.lacking.items() if tag in task.tags)
        wanted = all(task.slices[name] == value for name, value in mix.only.items())
        if task.part == part and wanted and not left_out and task not in seen:
            seen.add(task)
            vain = 0
            yield task
        elif (vain := vain + 1) > TRIES * (len(mix.only) + 1):
            raise UsageError(f"tiny: {n:,} tasks, and the world holds about {len(seen):,} of that kind; ask for fewer")


def _drawn(draws: random.Random, mix: Mix) -> Task:
    operation: Any = _one(draws, mix.operations)
    digits = _one(draws, mix.digits)
    least = 10 ** (digits - 1) if digits > 1 else 0
    low, high = sorted(draws.randrange(least, 10**digits) for _ in "ab")
    left, right = (high, low) if operation == "subtract" or draws.random() < 0.5 else (low, high)
    wording = _one(draws, mix.wordings)
    template = draws.choice(list(WORDINGS[operation][wording]))
    return Task(operation, left, right, wording, template, _one(draws, mix.asks), _one(draws, mix.forms))


def _one(draws: random.Random, weights: Mapping[Any, float]) -> Any:
    return draws.choices(list(weights), list(weights.values()))[0] if len(weights) > 1 else next(iter(weights))


def row_of(task: Task, response: str | None = None) -> dict[str, Any]:
    """A task as a row: a prompt with its reference, or with a `response` a sample; slices are `slot_` columns."""
    prompt = [{"role": "user", "content": task.prompt, "extra": None}]
    row: dict[str, Any] = {"prompt": prompt, "tools": None}
    if response is not None:
        row |= {"response": response, "reasoning": None}
    return {
        "id": row_id("prompt" if response is None else "sample", row),
        "copy": 0,
        "parents": [] if response is None else [row_id("prompt", {"prompt": prompt, "tools": None})],
        "tags": task.tags,
        "reference": str(task.answer),
        "meta": orjson.dumps({"data_source": "tiny"}).decode(),
        **row,
        **{f"slot_{name}": value for name, value in task.slices.items()},
    }


def rows(
    n: int, *, seed: int = 0, part: Part = "train", mix: Mix = Mix(), reasoning: float | None = None, buggy: float = 0
) -> Iterator[dict[str, Any]]:
    """Rows of `n` tasks: prompts, or samples with right answers, of which the share `reasoning` shows its steps.

    Of the tasks that carry or borrow, the share `buggy` is answered by one who forgets to (`Task.buggy`): errors that
    have a system. A task that says `steps` or `direct` gets what it asks for. Raises what `tasks` raises.
    """
    draws, errors = random.Random(f"tiny reasoning {seed}"), random.Random(f"tiny buggy {seed}")
    for task in tasks(n, seed=seed, part=part, mix=mix):
        if reasoning is None:
            yield row_of(task)
            continue
        reasoned = draws.random() < reasoning
        if task.ask != "open":
            reasoned = task.ask == "steps"
        bugged = task.regroups and errors.random() < buggy
        yield row_of(task, task.buggy if bugged else task.solution(reasoned=reasoned))


def schema(answers: bool) -> pa.Schema:
    """The columns of the rows: prompts, or with `answers` samples."""
    slots = [pa.field(f"slot_{name}", CARRIED["slot_"]) for name in _ALLOWED["only"]]
    return pa.schema([*SCHEMAS["sample" if answers else "prompt"], *slots])
