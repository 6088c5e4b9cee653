"""Mine: from evaluations to a ranked list of what goes wrong.

Slices (`slices.py`) and clusters of text (`clusters.py`) are candidates side by side; the scan (`scan.py`) takes the
one whose items fail most beyond the rest, then the next among what is left, until chance reaches as much. What fails
outside all of them is the unclustered bin. The same items, parameters and seed give the same clusters.

The rates of a cluster are those of the items that chose it, so they are somewhat high; the held-out half of a cluster,
evaluated anew, says how much. Not covered: failures without a single success to compare with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from gristmill.errors import UsageError
from gristmill.loop.clusters import Node, Space, candidates, nearest, refined, text_space, tree_of, vector_space
from gristmill.loop.failures import Failures, phrase_names, texts_of
from gristmill.loop.found import Cluster
from gristmill.loop.names import class_words
from gristmill.loop.scan import Bar, Floats, Ints, Scan, Sets, bar_of
from gristmill.loop.slices import slices

Row = dict[str, Any]

MOST = 100
"""Clusters that are looked for."""

FEWEST = 20
"""Items below which nothing can be told."""

SIMPLICITY = {"word": 10, "tree": 12, "k-means": 11}
"""Ranks of candidates from text; a slice has the number of its predicates, less one."""


@dataclass(frozen=True)
class Mining:
    """How to mine. `texts` are the names of texts to cluster (None: `prompt` and the phrases among the facts, see
    `evals.phrase_names`); `embeddings` the fact that holds vectors to cluster instead. `level` is the probability that
    anything is reported where there is nothing, `draws` the shuffles it is read from, `resamples` the bootstrap samples
    behind the stability."""

    texts: Sequence[str] | None = None
    embeddings: str | None = None
    fields: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    depth: int = 2
    least: int | None = None
    level: float = 0.02
    draws: int = 199
    resamples: int = 20
    seed: int = 0


class Looked(NamedTuple):
    """The candidates, and what each number of the scan's stands for."""

    scan: Scan
    said: list[tuple[str, str, Space | None]]
    """Of each set and then of each centre: kind, what defines it, its space."""
    spaces: list[Space]
    trees: dict[str, list[Node]]


class Mined(NamedTuple):
    """What was found, in the order of its weight of evidence."""

    clusters: list[Cluster]
    unclustered: Ints
    """Places of the items that fail and are in no cluster."""
    looked: Looked
    bar: Bar


def mine(evals: Failures, mining: Mining = Mining()) -> Mined:
    """The clusters of failures, and what is left.

    Raises UsageError for too few items, and where all of them fail.
    """
    count, failed = len(evals.items), evals.failed
    if count < FEWEST:
        raise UsageError(f"mine: {count} judged items; at least {FEWEST} are needed to tell a cluster from chance")
    if 0 < failed.min() == failed.max():
        raise UsageError("mine: all items fail alike; a cluster is what fails more than the rest: add items that pass")
    with threadpool_limits(1):  # many small fits: threads cost ten times what they bring, and reorder sums
        return mine_looked(look(evals, mining), evals, mining)


def mine_looked(looked: Looked, evals: Failures, mining: Mining) -> Mined:
    """`mine`, with the candidates at hand: they do not depend on the outcomes."""
    failed = evals.failed
    bar = bar_of(looked.scan.chance(failed, draws=mining.draws, seed=mining.seed))
    limit = bar.limit(mining.level)
    found = _found(looked, failed, np.ones(len(failed)), limit)
    stability = _stability(looked, failed, [members for _, members, _ in found], limit, mining)
    clusters = [
        Cluster(
            *_identity(looked, place, members), members, ratio, bar.p_value(ratio), _space_name(looked, place), same
        )
        for (place, members, ratio), same in zip(found, stability, strict=True)
    ]
    return Mined(named(clusters, looked.spaces), unclustered(clusters, failed), looked, bar)


def unclustered(clusters: Sequence[Cluster], failed: Floats) -> Ints:
    """The places of the items that fail and are in none of the clusters."""
    outside = failed > 0
    for each in clusters:
        outside[each.members] = False
    return np.flatnonzero(outside)


def look(evals: Failures, mining: Mining) -> Looked:
    """All that may be found, whatever the outcomes are."""
    items = evals.items
    least = mining.least or min(10, max(5, len(items) // 100))
    sets: list[Ints] = []
    said: list[tuple[str, str, Space | None]] = []
    simplicity: list[int] = []
    for each in slices(items, least=least, depth=mining.depth, fields=mining.fields, ignore=mining.ignore):
        sets.append(each.members)
        said.append(("slice", " and ".join(each.predicates), None))
        simplicity.append(len(each.predicates) - 1)
    near: list[Ints] = []
    centres: list[tuple[str, str, Space | None]] = []
    trees = {}
    spaces = _spaces(items, mining)
    for space in spaces:
        trees[space.name] = tree_of(space, least=least, seed=mining.seed)
        suggested, middles = candidates(space, trees[space.name], least=least, seed=mining.seed)
        for candidate in suggested:
            sets.append(candidate.members)
            said.append(("text", f"{candidate.kind} {candidate.name}", space))
            simplicity.append(SIMPLICITY[candidate.kind])
        near.append(nearest(space, middles, least))
        centres += [("text", f"neighbourhood {number}", space) for number in range(len(middles))]
    joined = np.vstack(near) if near else np.empty((0, 0), np.int64)
    scan = Scan(Sets(sets, joined, np.array(simplicity, np.int64)), len(items), least)
    return Looked(scan, said + centres, spaces, trees)


def _spaces(items: Sequence[Row], mining: Mining) -> list[Space]:
    found = []
    if mining.embeddings:
        vectors = [item["facts"].get(mining.embeddings) for item in items]
        sizes = {len(vector) if isinstance(vector, list) else 0 for vector in vectors}
        if len(sizes) != 1 or sizes == {0}:
            raise UsageError(f"--embeddings {mining.embeddings}: every item needs a list of as many numbers")
        found.append(vector_space(mining.embeddings, np.array(vectors, float)))
    names = mining.texts
    if names is None:
        names = ["prompt", *(name for name in phrase_names(items) if name not in mining.ignore)]
    for name in names:
        texts = texts_of(items, name)
        if not any(texts) and mining.texts is None:  # a log may hold no prompt
            continue
        if not any(texts):
            raise UsageError(
                f"--text {name}: no item has one; allowed are prompt, response, reference, tags and fields"
            )
        if space := text_space(name, texts, mining.seed):
            found.append(space)
    return found


def _found(looked: Looked, failed: Floats, weights: Floats, limit: float) -> list[tuple[int, Ints, float]]:
    """The sets that reach the limit, each without the items of those before it, as number, items and ratio.

    They fail more often than the items of the input do: what is left when the worst is taken out always has parts that
    are worse than others, and these are no weakness.
    """
    found: list[tuple[int, Ints, float]] = []
    left = weights.copy()
    floor = float(failed @ weights / weights.sum())
    while len(found) < MOST:
        hit = looked.scan.best(failed, left, floor)
        if hit.ratio < limit or left[failed > 0].sum() == 0:
            break
        members, value = hit.members[left[hit.members] > 0], hit.ratio
        space = looked.said[hit.place][2]
        if space is not None:
            closer, more = refined(space, members, failed, left, least=looked.scan.least, floor=floor)
            if more > value:
                members = closer
        found.append((hit.place, members, value))
        left[members] = 0
    return _told_once(looked, found)


ALIKE = 0.35
"""The cosine between the centres of two clusters of text, the centre of all items taken off, from which on they are one
fault. Pieces of one planted fault were at 0.3 to 0.5 (they share words), different ones mostly below 0.15."""


def _told_once(looked: Looked, found: Sequence[tuple[int, Ints, float]]) -> list[tuple[int, Ints, float]]:
    """The clusters, those of one text that are alike joined under the number of the first."""
    joined: list[tuple[int, Ints, float]] = []
    for place, members, value in found:
        space = looked.said[place][2]
        likeness = [
            _likeness(space, members, other) if space is not None and looked.said[number][2] is space else -1.0
            for number, other, _ in joined
        ]
        best = int(np.argmax(likeness)) if likeness else 0
        if likeness and likeness[best] >= ALIKE:
            number, other, first = joined[best]
            joined[best] = number, np.union1d(other, members), first
        else:
            joined.append((place, members, value))
    return joined


def _likeness(space: Space, one: Ints, other: Ints) -> float:
    middle = space.points.mean(axis=0)
    a, b = (space.points[members].mean(axis=0) - middle for members in (one, other))
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def _stability(
    looked: Looked, failed: Floats, found: Sequence[Ints], limit: float, mining: Mining
) -> list[float | None]:
    """Of each set the mean overlap (Jaccard) with the most similar one found in a bootstrap sample of the items."""
    if not mining.resamples or not found:
        return [None] * len(found)
    rng = np.random.default_rng(mining.seed)
    overlaps = np.zeros((mining.resamples, len(found)))
    for draw in range(mining.resamples):
        weights = np.bincount(rng.integers(len(failed), size=len(failed)), minlength=len(failed)).astype(float)
        again = [members for _, members, _ in _found(looked, failed, weights, limit)]
        for place, members in enumerate(found):
            there = members[weights[members] > 0]
            overlaps[draw, place] = max((jaccard(there, other) for other in again), default=0.0)
    return [float(value) for value in overlaps.mean(axis=0)]


def jaccard(one: Ints, other: Ints) -> float:
    """The overlap of two sets of places: what they share over what either has."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    either = len(one) + len(other) - both
    return both / either if either else 0.0


def _identity(looked: Looked, place: int, members: Ints) -> tuple[str, str, str, str]:
    """Id, kind, name and definition. A slice goes by its predicates; text by the items, until it has words."""
    kind, definition, space = looked.said[place]
    told = f"{space.name}: {definition}" if space else definition
    return _id(kind, told if kind == "slice" else members.tobytes().hex()), kind, told, told


def _id(kind: str, text: str) -> str:
    return f"{kind}-{blake2b(text.encode(), digest_size=4).hexdigest()}"


def _space_name(looked: Looked, place: int) -> str | None:
    space = looked.said[place][2]
    return space.name if space else None


def named(clusters: Sequence[Cluster], spaces: Sequence[Space]) -> list[Cluster]:
    """The clusters with their characteristic words, which name those of text and are their identity."""
    worded = [space for space in spaces if space.words is not None]
    if not worded or not clusters:
        return list(clusters)
    groups = [each.members for each in clusters]
    words = {space.name: class_words(space.words, space.vocabulary, groups) for space in worded}
    found = []
    taken: set[str] = set()
    for place, each in enumerate(clusters):
        told = tuple(words[each.space if each.space in words else worded[0].name][place])
        if each.kind == "text" and told:
            id = _id("text", f"{each.space}: {' '.join(told)}")
            each = replace(each, name=", ".join(told[:3]), id=each.id if id in taken else id)
        taken.add(each.id)
        found.append(replace(each, words=told))
    return found


def half_of(lineage: str, seed: int = 0) -> str:
    """`train` or `held_out`: the half of its cluster that an item belongs to, by a hash of what it was made from."""
    return ("train", "held_out")[blake2b(f"{seed}:half:{lineage}".encode(), digest_size=8).digest()[0] & 1]
