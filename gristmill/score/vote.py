"""Votes: of several responses to one prompt, the answer that most of them give (self-consistency).

Wang et al. 2022, https://arxiv.org/abs/2203.11171. Answers count together if they are equal by a verifier, with one as
response and the other as reference: `answer` (text), `math`, `choice`, or a function of the user's own. A verifier need
not be transitive, so every response is compared with the first of each answer, in the order of (`id`, `copy`), which is
the same for any order of the input. A response that the verifier cannot read even as its own reference has no vote.

Not covered: votes weighted by a score, and answers that are long texts (equal by meaning: a judge).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

from gristmill.score.score import Item, Score

Same = Callable[[Sequence[Item]], list[bool | None]]
"""For each item whether its response and its reference are the same answer; None where that cannot be told."""


def same_by(verifier: Score) -> Same:
    """The equality that a verifier tells: 1 is the same, another number is not, no number cannot be told."""

    def same(items: Sequence[Item]) -> list[bool | None]:
        return [None if verdict.value is None else verdict.value == 1 for verdict in verifier(items)]

    return same


class Vote(NamedTuple):
    """What became of one response."""

    verdict: str
    """`majority`, `outvoted`, `tie` (several answers are the most frequent), `below_share`, `no_answer`, or
    `no_response`."""
    share: float | None
    """The responses of the group with this answer over all its responses; None without an answer."""
    votes: int
    samples: int
    """Responses of the group; rows without one are not counted."""
    first: int | None
    """The number of the first response with this answer, in the order of the keys; None without an answer."""
    winner: int | None
    """The number of the first response with the answer of the group; None where it has none."""


def votes(
    items: Sequence[Item],
    groups: Sequence[Hashable],
    keys: Sequence[tuple[str, int]],
    same: Same,
    *,
    min_share: float = 0.0,
) -> list[Vote]:
    """The vote of each response among those of its group.

    The most frequent answer of a group is its answer, unless another is as frequent or its share is below `min_share`
    (0 to 1; 0 asks for no share, more than half makes it an absolute majority). `keys` are (`id`, `copy`).
    """
    there = [row for row, item in enumerate(items) if item.response is not None]
    readable = dict(zip(there, same([_pair(items, row, row) for row in there]), strict=True))
    waiting: dict[Hashable, list[int]] = {}
    for row in sorted((row for row in there if readable[row] is not None), key=lambda row: keys[row]):
        waiting.setdefault(groups[row], []).append(row)
    answers = _answers(items, waiting, same)
    counts: dict[Hashable, int] = {}
    for row in there:
        counts[groups[row]] = counts.get(groups[row], 0) + 1
    found = [
        Vote("no_answer" if row in readable else "no_response", None, 0, counts.get(groups[row], 0), None, None)
        for row in range(len(items))
    ]
    for group, clusters in answers.items():
        for row, vote in _decided(clusters, counts[group], min_share):
            found[row] = vote
    return found


def _answers(items: Sequence[Item], waiting: dict[Hashable, list[int]], same: Same) -> dict[Hashable, list[list[int]]]:
    """The rows of each group by answer. In each round every group settles one answer, so that comparisons are made
    many at a time."""
    answers: dict[Hashable, list[list[int]]] = {group: [] for group in waiting}
    while waiting:
        pairs = [(group, row, rows[0]) for group, rows in waiting.items() for row in rows[1:]]
        equal = same([_pair(items, row, first) for _, row, first in pairs])
        left: dict[Hashable, list[int]] = {}
        for group, rows in waiting.items():
            answers[group].append(rows[:1])
        for (group, row, _), is_same in zip(pairs, equal, strict=True):
            if is_same:
                answers[group][-1].append(row)
            else:
                left.setdefault(group, []).append(row)
        waiting = left
    return answers


def _decided(clusters: list[list[int]], samples: int, min_share: float) -> list[tuple[int, Vote]]:
    most = max(map(len, clusters))
    leading = [rows for rows in clusters if len(rows) == most]
    failed = "tie" if len(leading) > 1 else "below_share" if most / samples < min_share else ""
    winner = None if failed else leading[0][0]
    return [
        (
            row,
            Vote(
                failed or ("majority" if rows[0] == winner else "outvoted"),
                len(rows) / samples,
                len(rows),
                samples,
                rows[0],
                winner,
            ),
        )
        for rows in clusters
        for row in rows
    ]


def _pair(items: Sequence[Item], row: int, first: int) -> Item:
    return replace(items[row], reference=items[first].response)
