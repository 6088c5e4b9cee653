"""When a shift is a bias, which rule made it, and the sentence that says so.

A filter is biased on an axis if the shift is more than chance (Holm over all tests of all axes, familywise 1 %) and
more than small: Cliff's delta of kept against all rows at least 0.147, which Romano et al. (2006, annual meeting of the
Florida Association of Institutional Research) set beside Cohen's d of 0.2; or a Jensen–Shannon distance of at least
0.1, which for small shifts is a Cohen's w of 0.24 and a population stability index of 0.055. What a rule was asked to
do is no bias: rows that `below_quality` drops do not count on the axis `score_quality` (`asked_for`).

Not covered: shifts that no axis shows, and joint ones (long answers of one source only).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gristmill.filter.axes import Axis
from gristmill.filter.shift import Counts, Dominance, Floats, dominance, js_distance, p_values

FAMILYWISE = 0.01
LEAST_EFFECT = 0.147
LEAST_DISTANCE = 0.1
FEWEST = 10
"""Kept rows, and dropped rows, below which an axis is not judged."""

_ASKED = {"length": ("empty",), "repetition": ("repetitive",), "language": ("wrong_language",)}
_MORE_LESS = {
    "length": ("long {texts}", "short {texts}"),
    "prompt length": ("rows with long prompts", "rows with short prompts"),
    "code share": ("{texts} with more code", "{texts} with less code"),
    "word length": ("{texts} with longer words", "{texts} with shorter words"),
    "sentence length": ("{texts} with longer sentences", "{texts} with shorter sentences"),
    "function words": ("{texts} with more function words", "{texts} with fewer function words"),
    "variety": ("{texts} with more varied words", "{texts} with less varied words"),
    "repetition": ("{texts} that repeat themselves more", "{texts} that repeat themselves less"),
}
_UNITS = {"length": " words", "prompt length": " words", "word length": " characters", "sentence length": " words"}


def asked_for(axis: str) -> tuple[str, ...]:
    """The rules whose drops are meant to move an axis."""
    if axis.startswith("score_"):
        score = axis.removeprefix("score_")
        return f"below_{score}", f"unjudged_{score}"
    return _ASKED.get(axis, ())


@dataclass(frozen=True)
class Comparison:
    """An axis under a filter. `rules` holds for each row of the axis the number of its drop rule, 0 for kept."""

    axis: Axis
    rules: NDArray[np.int64]

    @cached_property
    def by_rule(self) -> Counts:
        """Rows by rule and bin; row 0 is the kept."""
        bins = len(self.axis.edges or self.axis.labels)
        most = int(self.rules.max(initial=0)) + 1
        counts: Counts = np.bincount(self.rules * bins + self.axis.bins, minlength=most * bins).reshape((most, bins))
        return counts

    @property
    def kept(self) -> Counts:
        counts: Counts = self.by_rule[0]
        return counts

    @property
    def dropped(self) -> Counts:
        counts: Counts = self.by_rule[1:].sum(0)
        return counts

    @cached_property
    def distance(self) -> tuple[float, float, float]:
        """Jensen–Shannon distance and its interval; 0 where nothing was dropped."""
        return js_distance(self.kept, self.dropped) if self.dropped.any() else (0.0, 0.0, 0.0)

    @cached_property
    def dominance(self) -> Dominance | None:
        """Cliff's delta of a numeric axis; None with fewer than two rows on a side."""
        kept = self.rules == 0
        if not self.axis.numeric or min(kept.sum(), (~kept).sum()) < 2:
            return None
        return dominance(self.axis.values[kept], self.axis.values[~kept])

    @cached_property
    def tests(self) -> list[float]:
        """P-values of location (numeric axes only) and shape; none where the rows are too few to judge."""
        if min(self.kept.sum(), self.dropped.sum()) < FEWEST:
            return []
        return list(p_values(self.kept, self.dropped))[0 if self.axis.numeric else 1 :]

    def found(self, adjusted: list[float]) -> str | None:
        """`location` or `shape` if the axis is biased by its adjusted p-values, else None."""
        significant = [p < FAMILYWISE for p in adjusted]
        if self.dominance and significant and significant[0] and abs(self.dominance.effect) >= LEAST_EFFECT:
            return "location"
        return "shape" if significant and significant[-1] and self.distance[0] >= LEAST_DISTANCE else None

    def rule_shares(self, found: str) -> Floats:
        """The part of the shift that the drops of each rule make, summing to 1; kept rows (rule 0) make none."""
        if found == "location" and self.dominance:
            parts = np.bincount(self.rules[self.rules > 0], self.dominance.parts, minlength=len(self.by_rule))
        else:
            after, before = (counts / counts.sum() for counts in (self.kept, self.kept + self.dropped))
            weights = np.divide(after - before, before, out=np.zeros(len(before)), where=before > 0)
            parts = (self.by_rule.sum(1, keepdims=True) * after - self.by_rule) @ weights
            parts[0] = 0
        shares: Floats = parts / parts.sum()
        return shares


def message(comparison: Comparison, found: str, rules: list[str], *, of: str, texts: str) -> str:
    """What the filter did to the axis, how much, and the rule that did most of it.

    `of` ends the counts of rows, `texts` is what the measured texts are: answers or prompts.
    """
    axis = comparison.axis
    distance = "Jensen–Shannon distance {:.2f} [{:.2f}, {:.2f}]".format(*comparison.distance)
    what = _moved(comparison, texts) if found == "location" else f"{_exchanged(comparison)} ({distance})"
    shares = comparison.rule_shares(found)
    chief = int(np.argmax(shares))
    part = "all" if shares[chief] >= 0.995 else f"{shares[chief]:.0%}"
    rows, dropped = comparison.by_rule[chief].sum(), comparison.dropped.sum()
    rows = f"all {rows:,} dropped rows{of}" if rows == dropped else f"{rows:,} of the {dropped:,} dropped rows{of}"
    return f"{axis.name}: {what}; {part} of it by {rules[chief]} ({rows})"


def _moved(comparison: Comparison, texts: str) -> str:
    axis, name = comparison.axis, comparison.axis.name
    assert comparison.dominance
    effect, low, high, _ = comparison.dominance
    more, less = _MORE_LESS.get(name, (f"rows of high {name}", f"rows of low {name}"))
    kept = axis.values[comparison.rules == 0]
    of, before, after = "median", float(np.median(axis.values)), float(np.median(kept))
    if before == after:
        of, before, after = "mean", float(axis.values.mean()), float(kept.mean())
    move = f"the {of} goes from {number(before)} to {number(after)}{_UNITS.get(name, '')}"
    which = (more if effect > 0 else less).replace("{texts}", texts)
    return f"{which} survive: {move} (effect size {effect:.2f} [{low:.2f}, {high:.2f}])"


def _exchanged(comparison: Comparison) -> str:
    after, before = (counts / counts.sum() for counts in (comparison.kept, comparison.kept + comparison.dropped))
    change = after - before
    axis, unit = comparison.axis, _UNITS.get(comparison.axis.name, "")
    ranges = [number(a) if a == b else f"{number(a)} to {number(b)}" for a, b in axis.edges]
    labels = axis.labels or [f"{given}{unit}" for given in ranges]
    said = [
        f"{labels[n]} {verb} from {before[n]:.1%} to {after[n]:.1%} of the rows"
        for n, verb in ((int(np.argmin(change)), "falls"), (int(np.argmax(change)), "rises"))
    ]
    return ", ".join(said)


def number(value: float) -> str:
    """A number to three figures, without an exponent: 1,234 or 0.0123."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
