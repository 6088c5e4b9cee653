"""Names of clusters: their characteristic words, and, where one is asked, a model's phrase.

Words are weighed by class TF-IDF (Grootendorst 2022, BERTopic, arXiv:2203.05794): the words of a cluster are one text,
and a word counts by its share of that text times log(1 + A/f), with f its count over all texts and A their mean length.

Not covered: whether a model's phrase holds for the members; look at the examples.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gristmill.generate.skeleton import Skeleton
from gristmill.loop.scan import Floats, Ints
from gristmill.models.drive import completions
from gristmill.models.protocol import Model, Request
from gristmill.wording import prompt_text

Row = dict[str, Any]

WORDS = 5
"""Words that are told of a cluster."""

ASK = Path(__file__).parent / "asks" / "name.yaml"


def class_words(words: Any, vocabulary: Sequence[str], groups: Sequence[Ints]) -> list[list[str]]:
    """The characteristic words of each group of items, the most characteristic first. Items outside are one text too.

    `words` is items × words (sparse); a word counts once an item.
    """
    present = (words > 0).astype(float)
    outside = np.ones(present.shape[0])
    for members in groups:
        outside[members] = 0
    counts = [np.asarray(present[members].sum(axis=0)).ravel() for members in groups]
    counts.append(np.asarray(present.T @ outside).ravel())
    table = np.array(counts)
    frequency = table.sum(axis=0)
    weight = np.log1p(table.sum() / len(table) / np.maximum(frequency, 1))
    return [_first(row / max(row.sum(), 1) * weight, frequency, vocabulary) for row in table[:-1]]


def _first(weights: Floats, frequency: Floats, vocabulary: Sequence[str]) -> list[str]:
    """The words of largest weight; one that is part of a pair already told, or tells it again, is passed over."""
    told: list[str] = []
    for place in np.lexsort((np.arange(len(weights)), -weights)):
        if weights[place] <= 0 or len(told) == WORDS:
            break
        word = vocabulary[int(place)]
        if frequency[place] > 1 and not any(set(word.split()) & set(other.split()) for other in told):
            told.append(word)
    return told


def ask_names(clusters: Sequence[tuple[Sequence[Row], Sequence[Row]]], model: Model) -> list[str | None]:
    """A phrase for each cluster, given as the items that fail and similar ones that pass; None where a call failed."""
    ask = yaml.safe_load(ASK.read_text(encoding="utf-8"))
    skeleton = Skeleton(ask["prompt"], str(ASK))
    jobs = []
    for failing, passing in clusters:
        values = {"failing": _shown(failing), "passing": _shown(passing)}
        jobs.append((model, Request([{"role": "user", "content": skeleton.render(values)}], ask["sampling"])))
    found: list[str | None] = []
    for answer in completions(jobs):
        text = answer.choices[0].text if answer.choices else None
        found.append(" ".join(text.split()).strip(" .\"'")[:120] or None if text else None)
    return found


def _shown(items: Sequence[Row]) -> list[dict[str, str]]:
    return [
        {
            "prompt": prompt_text(item)[:2000],
            "response": (item["response"] or "")[:1000],
            "reference": (item["reference"] or "")[:500],
        }
        for item in items
    ]
