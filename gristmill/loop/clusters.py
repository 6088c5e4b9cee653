"""Clusters from text: TF-IDF, a truncated SVD, seeded k-means at several k, and a tree with Clopper–Pearson nodes.

The candidates are single words and pairs, clusters at every k, the nodes of the tree, and the neighbourhoods of all
centres; which of them fail more than the rest is the scan's question (`scan.py`). The tree follows EvalTree (Zeng et
al. 2025, arXiv:2503.08893): recursive k-means, at most 10 children, and of each node the exact interval (Clopper and
Pearson 1934) of its failure rate; its nodes are named by their words instead of by a model. No UMAP or HDBSCAN: their
clusters change from run to run and leave most items out.

A cluster is refined once by relevance feedback (Rocchio 1971): items are ranked by likeness to the words of its failed
members, and cut where the scan's ratio is largest.

Not covered: languages written without spaces (give embeddings).
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from gristmill.loop.scan import Floats, Ints, ratio

KS = (8, 16, 32, 64, 128)
"""Numbers of clusters, as long as there are a few items for each."""

DIMENSIONS = 100
CHILDREN = 10
"""The most children of a node of the tree."""

TOKEN = r"(?u)\\?[^\W\d_]{2,}"
"""A word of two letters or more, with the backslash of a TeX command."""

NEIGHBOURS = 0.25
"""The share of all items that a neighbourhood may hold."""


class Space(NamedTuple):
    """Items by one of their texts, or by embeddings."""

    name: str
    words: Any
    """TF-IDF, items × words (sparse, unit rows); None for embeddings."""
    vocabulary: Sequence[str]
    points: Floats
    """Items × dimensions, unit rows."""


class Candidate(NamedTuple):
    """A set of items that a space suggests."""

    kind: str
    """`word`, `k-means` or `tree`."""
    name: str
    members: Ints


class Node(NamedTuple):
    """A node of the tree."""

    number: int
    parent: int | None
    members: Ints


def text_space(name: str, texts: Sequence[str], seed: int) -> Space | None:
    """The space of a text; None where it has too few words to tell items apart."""
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=3, max_df=0.5, sublinear_tf=True, stop_words="english", token_pattern=TOKEN
    )
    try:
        words = vectorizer.fit_transform(texts)
    except ValueError:  # no word is in three texts, and in at most half of them
        return None
    dimensions = min(DIMENSIONS, *(size - 1 for size in words.shape))
    if dimensions < 2:
        return None
    points = TruncatedSVD(dimensions, random_state=seed).fit_transform(words)
    return Space(name, words, list(vectorizer.get_feature_names_out()), normalize(points))


def vector_space(name: str, vectors: Floats) -> Space:
    """The space of embeddings."""
    return Space(name, None, (), normalize(vectors))


def candidates(space: Space, tree: Sequence[Node], *, least: int, seed: int) -> tuple[list[Candidate], Floats]:
    """The sets that a space suggests, and the centres of its clusters (unit rows)."""
    count = len(space.points)
    found = []
    if space.words is not None:
        columns = (space.words > 0).tocsc()
        sizes = np.diff(columns.indptr)
        for word in np.flatnonzero((sizes >= least) & (sizes <= count - least)).tolist():
            members = columns.indices[columns.indptr[word] : columns.indptr[word + 1]]
            found.append(Candidate("word", space.vocabulary[word], np.sort(members).astype(np.int64)))
    centres = []
    for k in (k for k in KS if k * least <= count):
        labels, middles = _k_means(space.points, k, seed)
        centres.append(middles)
        found += [Candidate("k-means", f"{k}.{label}", np.flatnonzero(labels == label)) for label in range(k)]
    found += [Candidate("tree", str(node.number), node.members) for node in tree if node.parent is not None]
    kept = [each for each in found if least <= len(each.members) <= count - least]
    return kept, np.vstack([*centres, np.empty((0, space.points.shape[1]))])


def nearest(space: Space, centres: Floats, least: int) -> Ints:
    """Of each centre the places of the items next to it, nearest first."""
    width = max(int(NEIGHBOURS * len(space.points)), min(least, len(space.points)))
    order = np.argsort(-(centres @ space.points.T), axis=1, kind="stable")
    return order[:, :width].astype(np.int64)


def tree_of(space: Space, *, least: int, seed: int) -> list[Node]:
    """The tree of all items, parents before children; nodes of fewer than 2 × `least` items are not divided."""
    nodes = [Node(0, None, np.arange(len(space.points)))]
    for node in nodes:  # grows while it is walked
        if len(node.members) < 2 * least:
            continue
        k = min(CHILDREN, len(node.members) // least)
        labels, _ = _k_means(space.points[node.members], k, seed)
        parts = [node.members[labels == label] for label in range(k)]
        parts = [part for part in parts if least <= len(part) < len(node.members)]
        nodes += [Node(len(nodes) + place, node.number, part) for place, part in enumerate(parts)]
    return nodes


def _k_means(points: Floats, k: int, seed: int) -> tuple[Ints, Floats]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters: some stay empty
        fitted = KMeans(k, n_init=1, random_state=seed, max_iter=50).fit(points)
    return fitted.labels_.astype(np.int64), normalize(fitted.cluster_centers_)


def exact_interval(failed: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Clopper–Pearson interval of a failure rate; shares of failures are rounded to whole items."""
    found = binomtest(min(round(failed), n), n).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def refined(
    space: Space, members: Ints, failed: Floats, weights: Floats, *, least: int, floor: float = 0.0
) -> tuple[Ints, float]:
    """The items most like the failed members, cut where the ratio is largest, and that ratio (two rounds). `weights`,
    `least` and `floor` are as in `scan.Scan`."""
    points = space.words if space.words is not None else space.points
    mean = np.asarray(points.mean(axis=0)).ravel()
    most = max(int(NEIGHBOURS * len(failed)), least)
    live = weights > 0
    current, value = members, 0.0
    for _ in range(2):
        share = np.where(failed[current] > 0, 1.0, 0.3)
        centre = np.asarray(points[current].T @ share).ravel() / share.sum() - mean
        likeness = np.asarray(points @ (np.maximum(centre, 0) if space.words is not None else centre)).ravel()
        order = np.argsort(-likeness, kind="stable")
        order = order[live[order]][:most]
        n = np.cumsum(weights[order])
        lost = failed * weights
        inside = np.cumsum(lost[order])
        found = ratio(inside, n, lost.sum(), weights.sum())
        found[(n < least) | (inside <= floor * n)] = 0
        end = int(found.argmax())
        current, value = np.sort(order[: end + 1]), float(found[end])
    return current, value
