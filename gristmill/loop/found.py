"""A cluster of failures: what a miner found, before and after people edited it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gristmill.loop.scan import Ints


@dataclass(frozen=True)
class Cluster:
    """Items that fail together more often than the rest does."""

    id: str
    """`slice-` or `text-` and 8 hex digits of what defines it."""
    kind: str
    """`slice` (predicates hold) or `text` (items are alike)."""
    name: str
    definition: str
    """The predicates, or how the text was found."""
    members: Ints
    """Places of its items, ascending; an item is in one cluster at most."""
    ratio: float
    p_value: float
    """How likely chance finds as much anywhere."""
    space: str | None = None
    """The text that it was found in."""
    stability: float | None = None
    """The mean over bootstrap samples of the Jaccard overlap with the most similar cluster found there; 0 to 1."""
    words: tuple[str, ...] = ()
    model_name: str | None = None
    set_by_hand: Mapping[str, Any] = field(default_factory=dict)
    edited: tuple[str, ...] = ()
