"""Suites put to trained models, greedily and in this process: what a trial is measured by.

A trial asks hundreds of items of a model that is not kept, so answers go by no ledger; the trial is remembered whole.
Answers are greedy whatever a suite's sampling says, of its `max_tokens` at most, and one an item: chance in the answers
would only hide what the arms differ by. The first score of a suite, from `least` on, says what is right.

Not covered: models behind an endpoint (`gristmill eval` and `gristmill gate` compare those), several samples an item,
tools, batches that a GPU has no memory for.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gristmill.errors import UsageError
from gristmill.loop.evals import slices_of
from gristmill.loop.suite import REGISTERED, Suite, items_of, read_suite, register
from gristmill.models.answer import split_thinking
from gristmill.records import row_id
from gristmill.run import Run
from gristmill.score.score import Item

if TYPE_CHECKING:
    from gristmill.models.weights import Weights

Row = Mapping[str, Any]

MOST = 64
"""Tokens of an answer where a suite names no `max_tokens`."""


class Asked(NamedTuple):
    """A suite, its items, and the run's own file of them, which is named by their content."""

    suite: Suite
    items: Sequence[Row]
    file: Path
    most: int = MOST
    """Tokens of an answer."""

    @property
    def known(self) -> dict[str, Any]:
        """What decides the results of a model: the items, and how answers are written and judged."""
        score = self.suite.built()[0]
        of_items = {"name": self.suite.name, "items": self.file.stem}
        return {**of_items, "score": score.fingerprint, "least": self.suite.least, "most": self.most}


def asked(run: Run, paths: Sequence[str | Path] = ()) -> list[Asked]:
    """The suites of these files, registered in the run; without any, those that are registered there already.

    Raises UsageError for no suite at all, two of one name, and what `read_suite` and `items_of` raise.
    """
    suites = [read_suite(path) for path in paths] or _registered(run)
    names = [suite.name for suite in suites]
    if not names:
        raise UsageError(
            f"no suite: name one with --suite SUITE.yaml (gristmill init suite), or evaluate one in the run {run.path}"
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"suite {twice}: named twice; rename one of them")
    found = []
    for suite in suites:
        items = items_of(suite)
        if suite.built()[0].pairwise:
            raise UsageError(f"suite {suite.name}: {suite.scores[0]} compares two answers; name a score of one answer")
        most = suite.sampling.get("max_tokens", MOST)
        if not isinstance(most, int) or most < 1:
            raise UsageError(f"suite {suite.name}: max_tokens {most!r}; allowed are whole numbers from 1")
        found.append(Asked(suite, items, register(run, suite, items), most))
    return found


def _registered(run: Run) -> list[Suite]:
    """The newest version of every suite that was evaluated in a run; the run stores its items without slices."""
    newest = {each.params["suite"]: each for each in run.outputs() if each.name == REGISTERED}
    return [
        Suite(name=name, items=each.path, scores=each.params["scores"], samples=1)
        for name, each in sorted(newest.items())
    ]


def graded(weights: "Weights", suites: Sequence[Asked]) -> dict[str, list[float | None]]:
    """Of each suite, for every item: 1 for a right answer, 0 for a wrong one, None for one that could not be judged.

    Raises UsageError for a prompt that the model has no room for.
    """
    found: dict[str, list[float | None]] = {}
    for each in suites:
        answers = _greedy(weights, each)
        items = [
            Item(answer, row["reference"], row["prompt"], thought, orjson.loads(row["meta"]) if row.get("meta") else {})
            for (thought, answer), row in zip(map(split_thinking, answers), each.items, strict=True)
        ]
        verdicts = each.suite.built()[0](items)
        found[each.suite.name] = [
            None if verdict.value is None else float(verdict.value >= each.suite.least) for verdict in verdicts
        ]
    return found


def _greedy(weights: "Weights", each: Asked) -> list[str]:
    """The model's answers to the items of a suite, in their order."""
    from gristmill.models.decoding import Row as Written
    from gristmill.models.decoding import decode
    from gristmill.models.local import BATCH_ROWS, SMALL_VOCABULARY
    from gristmill.models.weights import is_small, one_thread

    turns = [[{"role": t["role"], "content": t["content"]} for t in row["prompt"]] for row in each.items]
    prompts = weights.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    room = weights.context or max(map(len, prompts)) + each.most
    if longest := next((prompt for prompt in prompts if len(prompt) >= room), None):
        raise UsageError(f"suite {each.suite.name}: a prompt of {len(longest)} tokens; the model has room for {room}")
    rows = [
        Written(
            prompt=prompt,
            most=min(each.most, room - len(prompt)),
            seed=0,
            temperature=0.0,
            top_p=1.0,
            top_k=0,
            stop=(),
            ended=lambda _: None,
            wanted=lambda: True,
        )
        for prompt in prompts
    ]
    by_length = sorted(rows, key=lambda row: len(row.prompt))
    together = BATCH_ROWS * (4 if len(weights.tokenizer) <= SMALL_VOCABULARY else 1)
    with one_thread() if is_small(weights.model) else nullcontext():
        for begin in range(0, len(rows), together):
            decode(weights, by_length[begin : begin + together])
    return [row.text for row in rows]


def slices(suites: Sequence[Asked]) -> dict[str, list[int]]:
    """The slices that suites name, as `NAME=VALUE`: places of their items, all suites one after the other.

    With several suites a slice begins with the name of its own.
    """
    found: dict[str, list[int]] = {}
    for place, (suite, item) in enumerate(_all(suites)):
        for name in slices_of(item, suite.slices):
            found.setdefault(f"{suite.name}: {name}" if len(suites) > 1 else name, []).append(place)
    return dict(sorted(found.items()))


def views(results: Mapping[str, Sequence[float | None]], suites: Sequence[Asked]) -> dict[str, Sequence[float | None]]:
    """The results by capability and by slice."""
    every = [value for values in results.values() for value in values]
    return {**results, **{name: [every[place] for place in places] for name, places in slices(suites).items()}}


def _all(suites: Sequence[Asked]) -> Iterator[tuple[Suite, Row]]:
    for each in suites:
        for item in each.items:
            yield each.suite, item


def held(rows: Sequence[Row], suites: Sequence[Asked]) -> int:
    """How many rows have the very prompt of an item: what is trained on should not be what is asked."""
    prompts = {item["id"] for each in suites for item in each.items}
    return sum(row_id("prompt", {"prompt": row["prompt"], "tools": row.get("tools")}) in prompts for row in rows)
