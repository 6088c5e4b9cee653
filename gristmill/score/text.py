"""Scores that look at the text alone: equal to the reference."""

from functools import partial

from gristmill.score.score import Item, Score, Verdict, each


def exact() -> Score:
    """Whether the response is the reference, but for white space around it."""
    return Score("exact", "1", partial(each, _exact))


def _exact(item: Item) -> Verdict:
    if item.reference is None:
        return Verdict(None, "no_reference")
    same = (item.response or "").strip() == item.reference.strip()
    return Verdict(float(same), "correct" if same else "wrong")
