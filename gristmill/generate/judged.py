"""What is asked of a transformed row before it counts: is it harder (or easier), is its answer still right?

A judge gives `asks`, the calls it needs for a result, and `settle`, which marks results by what came back. A result
that fails is dropped with the evidence (`drop_rule` `not_harder`, `not_easier`, `unverified`); one that could not be
judged is dropped as `unjudged_NAME`, never taken for right or wrong.

Which of two questions is harder is asked in both orders and believed if the replies agree, because models prefer one
place (Zheng et al. 2023, arXiv:2306.05685). A question that is to have the same answer as its original is put to the
model, and the answer is scored against the reference (Yu et al. 2023, MetaMath, arXiv:2309.12284, section 3).

Not covered: pass rates (roll both questions out and compare, or give a score that knows them).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from gristmill.filter.marks import evidence
from gristmill.generate.direct import marked_answer
from gristmill.generate.op_file import Op
from gristmill.generate.ops import OPS
from gristmill.generate.sample import Candidate, Row, sent
from gristmill.models.protocol import Completion, Model, Request
from gristmill.score.score import Item, Score, Verdict
from gristmill.wording import prompt_text

ANSWERING = {"temperature": 0, "max_tokens": 4096}
"""How a question is answered to see whether its answer is that of the original."""

_CHOICE = re.compile(r"\b(first|second|same)\b", re.IGNORECASE)


class Result(NamedTuple):
    """A transformed row, which is marked in place, with its original and the text that the transform made."""

    original: Row
    row: Row
    text: str


class Judge(Protocol):
    """Judges results."""

    @property
    def columns(self) -> Sequence[str]:
        """The score, verdict and reason columns that it fills."""

    @property
    def calls(self) -> int:
        """How many calls it asks for a result."""

    def asks(self, result: Result) -> list[Candidate]:
        """The calls that a result needs."""

    def settle(self, batch: Sequence[tuple[Result, Sequence[Completion]]]) -> None:
        """Mark the results of a batch, each given with the answers to what was asked for it."""


def _columns(name: str) -> list[str]:
    return [f"score_{name}", f"verdict_{name}", f"why_{name}"]


class Compared:
    """Whether the difficulty moved, by asking a model."""

    columns, calls = _columns("difficulty"), 2

    def __init__(self, model: Model, direction: str):
        self.model, self.direction = model, direction
        self.op = Op.load(OPS / "difficulty.yaml")

    def asks(self, result: Result) -> list[Candidate]:
        """The question in both orders."""
        texts = [prompt_text(result.original), prompt_text(result.row)]
        candidates = []
        for first, second in (texts, texts[::-1]):
            messages = [sent(turn) for turn in self.op.messages({"prompt": first, "response": second})]
            candidates.append(Candidate(result.row, self.model, Request(messages, self.op.sampling), 0))
        return candidates

    def settle(self, batch: Sequence[tuple[Result, Sequence[Completion]]]) -> None:
        """Mark by whether both replies say that the result is the harder (or the easier) one."""
        for (_, row, _), answers in batch:
            errors = [answer.error for answer in answers if answer.error]
            said = [word for answer in answers if (word := _choice(answer))]
            if len(said) < len(answers):
                verdict = Verdict(None, "unjudged", errors[0] if errors else "a reply names neither")
            else:
                found = {_PLACES[name, place] for place, name in enumerate(said)}
                word = found.pop() if len(found) == 1 else "inconsistent"
                verdict = Verdict(None, word, f"asked in both orders: {said[0]}, {said[1]}")
            note(row, "difficulty", verdict)
            if verdict.verdict == "unjudged":
                drop(row, "unjudged_difficulty", by=self.model.name, why=verdict.why)
            elif verdict.verdict != self.direction:
                drop(row, f"not_{self.direction}", by=self.model.name, verdict=verdict.verdict, why=verdict.why)


_PLACES = {
    ("first", 0): "easier",
    ("second", 0): "harder",
    ("same", 0): "same",
    ("first", 1): "harder",
    ("second", 1): "easier",
    ("same", 1): "same",
}
"""What a reply says of the result, which stands second in the first order and first in the second."""


def _choice(completion: Completion) -> str | None:
    """The last word of a reply that is one of those allowed."""
    text = completion.choices[0].text if completion.choices else None
    *_, last = [None, *_CHOICE.findall(text or "")]
    return last.lower() if last else None


class Measured:
    """Whether the difficulty moved, by a score of the question: the response it is given is the question's text."""

    columns, calls = _columns("difficulty"), 0

    def __init__(self, score: Score, direction: str):
        self.score, self.direction = score, direction

    def asks(self, result: Result) -> list[Candidate]:  # noqa: ARG002  other checks ask a model about it
        """Nothing: a score needs no further call."""
        return []

    def settle(self, batch: Sequence[tuple[Result, Sequence[Completion]]]) -> None:
        """Mark by whether the score is higher (for `easier`, lower) than the original's."""
        rows = [each for result, _ in batch for each in (result.original, result.row)]
        verdicts = self.score([item_of(row, prompt_text(row), row.get("reference")) for row in rows])
        for place, (result, _) in enumerate(batch):
            before, after = verdicts[2 * place : 2 * place + 2]
            row = result.row
            if before.value is None or after.value is None:
                lacking = after if after.value is None else before
                note(row, "difficulty", Verdict(None, lacking.verdict, lacking.why))
                drop(row, "unjudged_difficulty", by=self.score.name, verdict=lacking.verdict, why=lacking.why)
                continue
            moved = after.value - before.value
            word = "harder" if moved > 0 else "easier" if moved < 0 else "same"
            note(row, "difficulty", Verdict(after.value, word, f"{self.score.name}: {before.value:g} before"))
            if word != self.direction:
                drop(row, f"not_{self.direction}", after.value, before.value, measure=self.score.name, verdict=word)


class Verified:
    """Whether the answer is still right: 1 by a score, against the reference, or where there is none against the
    original's answer (what is marked as such, if something is).

    `model` answers the question where the transform made a question alone; None where it made an answer.
    """

    def __init__(self, score: Score, model: Model | None):
        self.score, self.model = score, model
        self.columns, self.calls = _columns(score.name), int(model is not None)

    def asks(self, result: Result) -> list[Candidate]:
        """The new question."""
        if self.model is None:
            return []
        messages = [sent(turn) for turn in result.row["prompt"]]
        return [Candidate(result.row, self.model, Request(messages, ANSWERING), 0)]

    def settle(self, batch: Sequence[tuple[Result, Sequence[Completion]]]) -> None:
        """Mark by the score."""
        verdicts = self.score([self._item(result, answers) for result, answers in batch])
        for (result, answers), verdict in zip(batch, verdicts, strict=True):
            failed = next((answer.error for answer in answers if answer.error), None)
            if failed:
                verdict = Verdict(None, "failed", failed)
            note(result.row, self.score.name, verdict)
            facts: dict[str, Any] = {"score": self.score.name, "verdict": verdict.verdict, "why": verdict.why}
            if verdict.value is None:
                drop(result.row, f"unjudged_{self.score.name}", **facts)
            elif verdict.value < 1:
                drop(result.row, "unverified", verdict.value, 1.0, measure=f"score_{self.score.name}", **facts)

    def _item(self, result: Result, answers: Sequence[Completion]) -> Item:
        text: str | None = result.text
        if self.model is not None:
            text = answers[0].choices[0].text if answers[0].choices else None
        elif result.row["reasoning"] == text:  # what is right or wrong about reasoning is where it leads
            text = _final(text)
        reference = result.original.get("reference")
        return item_of(result.row, text, _final(result.original.get("response")) if reference is None else reference)


def _final(text: str | None) -> str | None:
    """The answer that a text marks, or all of it."""
    marked = marked_answer(text or "")
    return marked.answer if marked else text


def item_of(row: Mapping[str, Any], response: str | None, reference: str | None) -> Item:
    """A row as a score takes it, with another response and reference."""
    meta = orjson.loads(row.get("meta") or "{}")
    return Item(response, reference, row["prompt"], row.get("reasoning"), meta)


def note(row: Row, name: str, verdict: Verdict) -> None:
    """Write a verdict into its three columns."""
    row.update(zip(_columns(name), verdict, strict=True))


def drop(row: Row, rule: str, value: float | None = None, limit: float | None = None, **facts: Any) -> None:
    """Mark a row as dropped, unless it is."""
    if row.get("drop_rule") is None:
        row.update(drop_rule=rule, drop_value=value, drop_limit=limit, drop_evidence=evidence(**facts))
