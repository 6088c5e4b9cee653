"""A model as a judge: each item is put to every model of the panel, some times each, pairs in both orders.

Rubric: the median of a model's samples, then the median over the panel. Pairwise: the majority of a model's samples in
each order; a win counts only if it survives the change of order; then the majority of the panel, a tie where there is
none. Answers are in the calls ledger, so that judging again costs nothing.

Not covered: how far the judge agrees with people (`gristmill calibrate`); until that is known its report says
*uncalibrated*.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from gristmill.calibrate.bias import JUDGED, survivor
from gristmill.errors import UsageError
from gristmill.models.budget import Budget
from gristmill.models.calls import Calls
from gristmill.models.drive import Job, completions, wait
from gristmill.models.named import base_model, entries, ready
from gristmill.models.protocol import Completion, Model, Request
from gristmill.score.cache import Scores
from gristmill.score.judge_file import JudgeFile, read_judge
from gristmill.score.judge_prompt import (
    VERSION,
    Reading,
    pairwise_messages,
    read_pairwise,
    read_rubric,
    rubric_messages,
)
from gristmill.score.judge_report import PairwiseReport, RubricReport
from gristmill.score.score import Item, Judge, Score, Verdict

SAID = 2_000
"""Characters of the judge's explanation that are kept as evidence."""


@dataclass(frozen=True)
class ModelJudge:
    """A judge of items; with a pairwise file it compares `response` with `other`. `axis` is the axis it gives, `run`
    the directory whose calls ledger remembers the answers (None: nothing is remembered), `budget` what may be spent on
    answers that it does not know. Raises what models raise: UsageError for a wrong key, Refused for a dead endpoint or
    a budget that is spent."""

    file: JudgeFile
    axis: str | None
    run: Path | None = None
    budget: Budget | None = None

    def within(self, scores: Scores) -> Judge:
        """The same judge, remembering answers in that run."""
        return replace(self, run=scores.directory, budget=scores.budget)

    def __call__(self, items: Sequence[Item]) -> list[Verdict]:
        """A verdict for each item."""
        calls = Calls(self.run) if self.run else None
        models = [ready(spec, calls=calls, budget=self.budget, charge_known=False) for spec in self.file.models]
        try:
            answers = completions(self._jobs(items, models))
            per_item = len(models) * self._per_model
            return [self._verdict(item, each) for item, each in zip(items, _sized(answers, per_item), strict=True)]
        finally:
            for model in models:
                wait(model.close())

    @property
    def _orders(self) -> tuple[bool, ...]:
        return (False, True) if self.file.kind == "pairwise" and self.file.orders == "both" else (False,)

    @property
    def _per_model(self) -> int:
        return len(self._orders) * self.file.samples

    def _jobs(self, items: Sequence[Item], models: Sequence[Model]) -> Iterator[Job]:
        """What is asked, in the order: item, model, order, sample."""
        for item in items:
            for model in models:
                for swapped in self._orders:
                    if self.file.kind == "pairwise":
                        messages = pairwise_messages(self.file, item, swapped=swapped)
                    else:
                        messages = rubric_messages(self.file, item)
                    for sample in range(self.file.samples):
                        yield model, Request(messages, self.file.sampling, sample=sample)

    def _verdict(self, item: Item, answers: Sequence[Completion]) -> Verdict:
        if self.file.reference and item.reference is None:
            return Verdict(None, "no_reference")
        by_model = list(_sized(answers, self._per_model))
        return self._compared(by_model) if self.file.kind == "pairwise" else self._scored(by_model)

    def _scored(self, by_model: Sequence[Sequence[Completion]]) -> Verdict:
        assert self.axis is not None
        read = [[_read(answer, partial(read_rubric, self.file)) for answer in answers] for answers in by_model]
        values = [[each.axes[self.axis] for each in each_model if each.word == "scored"] for each_model in read]
        told = {"samples": values, "said": _said(read, "scored")}
        judged = [median(each) for each in values if each]
        if not judged:
            return _none(read, told)
        return Verdict(float(median(judged)), "scored", orjson.dumps(told).decode())

    def _compared(self, by_model: Sequence[Sequence[Completion]]) -> Verdict:
        per_order = [list(_sized(answers, self.file.samples)) for answers in by_model]
        read = [
            [
                [_read(answer, partial(read_pairwise, self.file, swapped=swapped)) for answer in answers]
                for swapped, answers in zip(self._orders, orders, strict=True)
            ]
            for orders in per_order
        ]
        by_order = [[_majority([each.word for each in samples]) for samples in orders] for orders in read]
        words = [survivor(*orders) if len(orders) == 2 else orders[0] for orders in by_order]
        flat = [[each for samples in orders for each in samples] for orders in read]
        verdict = _majority(words)
        told = {"by_order": by_order, "samples": [[[e.word for e in s] for s in o] for o in read]}
        told["said"] = _said(flat, verdict)
        if verdict not in JUDGED:
            return _none(flat, told)
        value = {"A": 1.0, "B": 0.0, "tie": 0.5}.get(verdict)
        return Verdict(value, verdict, orjson.dumps(told).decode())


def _sized(answers: Iterable[Completion], size: int) -> Iterator[tuple[Completion, ...]]:
    """The answers in groups of `size`."""
    source = iter(answers)
    while group := tuple(islice(source, size)):
        yield group


def _read(answer: Completion, read: Any) -> Reading:
    if answer.error or not answer.choices:
        return Reading("error", {}, answer.error or "no choices")
    found: Reading = read(answer.choices[0])
    return found


def _majority(words: Sequence[str]) -> str:
    """The word that more than half of the usable ones say, else `tie`; the commonest failure where none is usable."""
    usable = [word for word in words if word in JUDGED]
    if not usable:
        return Counter(words).most_common(1)[0][0]
    word, count = Counter(usable).most_common(1)[0]
    return word if count * 2 > len(usable) else "tie"


def _none(read: Sequence[Sequence[Reading]], told: dict[str, Any]) -> Verdict:
    """The verdict where no answer has one: the commonest reason, an error only if all are."""
    words = Counter(each.word for answers in read for each in answers)
    word = next((each for each, _ in words.most_common() if each != "error"), "error")
    return Verdict(None, word, _said(read, word) if word == "error" else orjson.dumps(told).decode())


def _said(read: Sequence[Sequence[Reading]], word: str) -> str:
    """The first explanation of the verdict."""
    said = (each.said for answers in read for each in answers if each.word == word)
    return next(said, next((each.said for answers in read for each in answers), ""))[:SAID]


def judges(argument: str, *, axis: str | None = None, model: str | None = None) -> list[Score]:
    """The scores of a judge file: one for each axis of a rubric (or for the one named), or one comparison.

    `model` takes the place of the file's. Raises UsageError for a file, an axis or a model that does not fit.
    """
    file = read_judge(argument)
    if model is not None:
        file = file.model_copy(update={"model": [model]})
    if axis is not None and axis not in file.axes:
        allowed = ", ".join(file.axes) or "none: it is pairwise"
        raise UsageError(f"{argument}: no axis {axis!r}; allowed: {allowed}")
    known = entries()
    identities = [base_model(spec, known)[0].identity for spec in file.models]
    told = file.model_dump(mode="json", exclude={"name"}) | {"model": identities}
    if file.kind == "pairwise":
        name = file.name or Path(argument).stem
        return [Score(name, VERSION, ModelJudge(file, None), told, pairwise=True, report=partial(PairwiseReport, file))]
    return [
        Score(name, VERSION, ModelJudge(file, name), {**told, "axis": name}, report=partial(RubricReport, file, name))
        for name in ([axis] if axis else file.axes)
    ]
