"""What a score is: a function from rows to a number or None, each with a word and evidence.

A verifier, a reward, a judge, a heuristic and a user's own function are all a `Score`: called with items it gives one
`Verdict` for each, in their order. A value of None means *could not judge*, and the word says why; it never becomes 0.
A score has a name, a version and parameters, which with the item's content make the key under which a verdict is
remembered (`cache.py`).

Not covered: which scores there are (`named.py`), columns of tables (`pipeline.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import orjson

from gristmill.records import prefixed

TRANSIENT = frozenset({"timeout", "crash", "error"})
"""Verdicts that say something about the moment, not about the item: never remembered."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is scored: a response, and what it answers. `prompt` is a list of {role, content}."""

    response: str | None
    reference: str | None = None
    prompt: Sequence[Mapping[str, Any]] = ()
    reasoning: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    other: str | None = None
    """The response that `response` is compared with, for a pairwise score: a preference's `rejected`."""

    @property
    def question(self) -> str:
        """The last message of the user; empty where there is none."""
        return next((turn["content"] or "" for turn in reversed(self.prompt) if turn["role"] == "user"), "")


class Verdict(NamedTuple):
    """What a score says of an item."""

    value: float | None
    verdict: str
    """One word: `correct`, `wrong`, `timeout`, …"""
    why: str = ""
    """The evidence: what was found, compared and expected."""


Judge = Callable[[Sequence[Item]], Sequence[Verdict]]


class Report(Protocol):
    """What there is to tell of many verdicts together."""

    def add(self, items: Sequence[Item], verdicts: Sequence[Verdict]) -> None:
        """Count a batch."""

    def summary(self) -> dict[str, Any]:
        """Everything so far, as JSON."""


@dataclass(frozen=True)
class Score:
    """A named judge of items. It can be pickled if `judge` can: a function of a module, or a `partial` of one.

    `version` changes when the same item may be judged otherwise, `parameters` are what the caller set, and `reads`
    names the fields of `meta` that are looked at, None for all (prompt, response, reasoning and reference always may
    be). A `pairwise` score compares an item's response with its `other`. `report` makes an empty report. `gold` judges
    the references alone: 1 for one that the score can use.
    """

    name: str
    version: str
    judge: Judge
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reads: Sequence[str] | None = ()
    pairwise: bool = False
    report: Callable[[], Report] | None = None
    gold: Judge | None = None

    def __call__(self, items: Sequence[Item]) -> list[Verdict]:
        """A verdict for each item; one without a response is `no_response`. Raises ValueError for a judge that gives
        another number of verdicts than it was given items."""
        there = [item for item in items if item.response is not None]
        verdicts = iter(self.judge(there)) if there else iter(())
        try:
            result = [NO_RESPONSE if item.response is None else _checked(next(verdicts)) for item in items]
        except StopIteration:
            raise ValueError(
                f"score {self.name} gave fewer verdicts than the {len(there)} items it was given"
            ) from None
        if next(verdicts, None) is not None:
            raise ValueError(f"score {self.name} gave more verdicts than the {len(there)} items it was given")
        return result

    @property
    def fingerprint(self) -> str:
        """What it is: 32 hex digits of its name, version and parameters."""
        return blake2b(self._of_itself, digest_size=16).hexdigest()

    @cached_property
    def _of_itself(self) -> bytes:
        return prefixed([self.name, self.version, orjson.dumps(self.parameters, option=_SORTED).decode()])

    def key(self, item: Item) -> bytes:
        """What a verdict on this item is remembered by, 16 bytes."""
        fields: list[str | None] = [item.response, item.reference, item.reasoning, item.other]
        for turn in item.prompt:
            fields += (turn["role"], turn["content"], turn.get("extra"))
        read = item.meta if self.reads is None else {name: item.meta.get(name) for name in self.reads}
        fields.append(orjson.dumps(read, option=_SORTED).decode() if read else None)
        return blake2b(self._of_itself + prefixed(fields), digest_size=16).digest()


NO_RESPONSE = Verdict(None, "no_response", "there is no response to judge")

_SORTED = orjson.OPT_SORT_KEYS


def _checked(verdict: Verdict) -> Verdict:
    """The verdict, if its value is a finite number; else one that says it is none."""
    if verdict.value is None or math.isfinite(verdict.value):
        return verdict
    return Verdict(None, "error", f"the score is {verdict.value}, which is no finite number")


def each(judge: Callable[[Item], Verdict], items: Sequence[Item]) -> list[Verdict]:
    """The verdict of a function of one item on each; `partial(each, fn)` makes a judge of it."""
    return [judge(item) for item in items]


def itself(judge: Judge, items: Sequence[Item]) -> Sequence[Verdict]:
    """The verdict of a judge on each reference given as the response: a `gold` for verifiers that it fits."""
    return judge([replace(item, response=item.reference or "") for item in items])
