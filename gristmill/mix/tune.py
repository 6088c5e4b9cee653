"""Shares moved by evaluations: toward what fell or lags, within the range and the floors, as far as the evidence goes.

1. Is there a reason? A kind has fallen if one of its metrics is below its previous value beyond noise (paired
   intervals where the items are the same), and lags if it is below its goal beyond noise: by two-sided 95 % intervals
   of all tests together (Bonferroni), so that pure noise moves nothing in 19 rounds of 20 and more.
2. How far? The responses to shares that all evaluations so far support (`response.py`) say which shares have the
   highest expected sum of scores. None counts above its goal; without a goal, above what it had if it fell, and above
   that less `margin` if it did not, so that it can give. A share goes beyond what was evaluated by a factor of two at
   most; the whole way where the move is a gain with probability 3/4, less in proportion down to none at 1/2.
3. What is given up? A kind expected to lose more than `margin` since the first mix is held, unless its loss is accepted
   by name.

With `explore`, half of the shares are doubled and half are halved, at random, the halves changing places every other
round: only mixes that differ tell how scores answer. Those rounds cost score; the last one should be without.

Not covered: a change of the size of the mix between evaluations.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from gristmill.errors import UsageError
from gristmill.mix.evals import Metric, change, error
from gristmill.mix.mix_file import GENERAL, Measured, MixFile, task_range
from gristmill.mix.response import STEP, Response, best, response

SURE = 0.95
FACTOR = 2.0
"""By what a share goes beyond those evaluated, at most."""
EXPLORED = 2.0
"""What a share is multiplied or divided by to explore."""
LIKELY = 0.75
"""How likely a gain must be for the whole step."""
SAME = 1e-4
SLIGHT = 5e-4
"""A loss that is not worth a line."""


class Reason(NamedTuple):
    """One test: what was compared with what, the interval of the difference, and whether it `fell`, `lags` or None."""

    metric: str
    kind: str
    against: str
    interval: tuple[float, float, float]
    verdict: str | None


class Loss(NamedTuple):
    """What a kind is expected to lose since the first mix: the estimate and its 90 % interval, as scores."""

    kind: str
    estimate: float
    interval: tuple[float, float]
    accepted: bool


class Tuned(NamedTuple):
    """The new shares by kind, why, and what they cost."""

    shares: dict[str, float]
    moved: bool
    reasons: list[Reason]
    losses: list[Loss]
    held: list[str]
    notes: list[str]
    measured: Measured
    expected: dict[str, float]
    """The change of each kind's score that the move is expected to bring."""


def tune(
    mix: MixFile,
    shares: Mapping[str, float],
    found: Sequence[Metric],
    *,
    accepted: Sequence[str] = (),
    margin: float = 0.02,
    explore: bool = False,
) -> Tuned:
    """New shares by kind after an evaluation of the mix whose shares by kind are `shares`.

    Raises UsageError where `accepted` names no kind, or a kind has shares but no metric.
    """
    if unknown := next((kind for kind in accepted if kind not in shares), None):
        raise UsageError(f"--accept-loss {unknown}: no kind of this mix; there are {', '.join(shares)}")
    now = measured(shares, found)
    kinds = [kind for kind in shares if kind in now.scores]
    notes = [f"{kind} has no metric: its share stays" for kind in shares if kind not in kinds]
    history = [*mix.history]
    if history and history[-1] == now:
        notes.append("these evaluations were seen before: they count once")
    else:
        history.append(now)
    if len(history) > 1 and _same(history[-2].shares, shares):
        notes.append(f"stale: the shares are those of the evaluation before, of {len(history)}")
    reasons = _reasons(mix, found, now)
    pulled = {each.kind for each in reasons if each.verdict}
    if not pulled & {kind for kind in kinds if mix.importance.get(kind, 1)} or len(kinds) < 2:
        return Tuned(dict(shares), False, reasons, [], [], notes, now, {})
    known = {kind: _response(history, kind) for kind in kinds}
    to_hold = {kind: _held_level(mix, found, now, kind) - (0 if kind in pulled else margin) for kind in kinds}
    levels = {kind: mix.goals.get(kind, to_hold[kind]) for kind in kinds}
    low, high = _bounds(mix, [each.shares for each in history], shares, kinds)
    for kind in {each.kind for each in reasons if each.verdict == "fell"} - set(accepted):
        low[kind] = min(max(low[kind], shares[kind]), high[kind])
    first = history[0].shares
    held: list[str] = []
    while True:
        wanted = _wanted(mix, shares, known, levels, low, high)
        wanted = _stepped(mix, shares, wanted, known, levels)
        if explore:
            tried = _explored(wanted, low, high, mix.seed, len(history) - 1)
            wanted = wanted if _same(tried, shares) else tried
        losses = _losses(known, first, wanted, accepted)
        over = [each.kind for each in losses if -each.estimate > margin and not each.accepted and each.kind not in held]
        over = [kind for kind in over if wanted[kind] < shares[kind] - SAME]
        if not over:
            break
        for kind in over:
            held.append(kind)
            low[kind] = min(_enough(known[kind], first.get(kind, shares[kind]), shares[kind], margin), high[kind])
    new = dict(shares) | wanted
    moved = not _same(new, shares)
    expected = {kind: known[kind].gain(shares[kind], new[kind])[0] for kind in kinds}
    return Tuned(new if moved else dict(shares), moved, reasons, losses, held, notes, now, expected)


def measured(shares: Mapping[str, float], found: Sequence[Metric]) -> Measured:
    """An evaluation by kind: the mean of a kind's metrics, and as many items as would have its error."""
    scores = {}
    for kind in shares:
        mine = [metric for metric in found if metric.kind == kind]
        if mine:
            score = sum(metric.score for metric in mine) / len(mine)
            variance = sum(error(metric.score, metric.n) ** 2 for metric in mine) / len(mine) ** 2
            smooth = min(max(score, 0.01), 0.99)
            n = mine[0].n if len(mine) == 1 else max(round(smooth * (1 - smooth) / variance), 1)
            scores[kind] = (round(score, 6), n)
    return Measured(shares={kind: round(share, 6) for kind, share in shares.items()}, scores=scores)


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(abs(one.get(kind, 0) - other.get(kind, 0)) < SAME for kind in {*one, *other})


def _reasons(mix: MixFile, found: Sequence[Metric], now: Measured) -> list[Reason]:
    """Every test there is: metrics against their previous values, kinds against goals and the evaluation before."""
    last = mix.history[-1] if mix.history and mix.history[-1] != now else None
    compared = [metric for metric in found if metric.previous is not None]
    known = {metric.kind for metric in compared}
    if last:
        for kind, (score, n) in now.scores.items():
            if kind in last.scores and kind not in known:
                compared.append(Metric(kind, kind, score, n, *last.scores[kind]))
    goals = {kind: goal for kind, goal in mix.goals.items() if kind in now.scores}
    tests = len(compared) + len(goals)
    level = 1 - (1 - SURE) / max(tests, 1)
    reasons = []
    for metric in compared:
        interval = change(metric, level)
        verdict = "fell" if interval[2] < 0 else None
        reasons.append(Reason(metric.name, metric.kind, f"before ({metric.previous:.3f})", interval, verdict))
    for kind, goal in goals.items():
        score, n = now.scores[kind]
        half = float(stats.norm.ppf((1 + level) / 2)) * error(score, n)
        interval = (score - goal - half, score - goal, score - goal + half)
        reasons.append(Reason(kind, kind, f"its goal ({goal:g})", interval, "lags" if interval[2] < 0 else None))
    return reasons


def _held_level(mix: MixFile, found: Sequence[Metric], now: Measured, kind: str) -> float:
    """What a kind without a goal is to hold: the most it has had."""
    mine = [metric.previous for metric in found if metric.kind == kind and metric.previous is not None]
    before = [sum(mine) / len(mine)] if mine else []
    before += [each.scores[kind][0] for each in mix.history if kind in each.scores]
    return max([now.scores[kind][0], *before])


def _response(history: Sequence[Measured], kind: str) -> Response:
    seen = [each for each in history if kind in each.scores and kind in each.shares]
    scores, items = zip(*(each.scores[kind] for each in seen), strict=True)
    return response([each.shares[kind] for each in seen], scores, items)


def _bounds(
    mix: MixFile, seen: Sequence[Mapping[str, float]], shares: Mapping[str, float], kinds: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """The least and the most that each kind may have: the range, the floors, and how far from what was evaluated."""
    low_task, high_task = task_range(mix)
    had = {kind: [shares[kind], *(each[kind] for each in seen if kind in each)] for kind in kinds}
    low = {kind: max(mix.floor.get(kind, 0.0), min(had[kind]) / FACTOR, STEP) for kind in kinds}
    high = {kind: min(max(had[kind]) * FACTOR, 1.0) for kind in kinds}
    if GENERAL in low:
        low[GENERAL] = max(low[GENERAL], 1 - high_task)
        high[GENERAL] = max(min(high[GENERAL], 1 - low_task), low[GENERAL])
    return low, {kind: max(high[kind], low[kind]) for kind in kinds}


def _wanted(
    mix: MixFile,
    shares: Mapping[str, float],
    known: Mapping[str, Response],
    levels: Mapping[str, float],
    low: Mapping[str, float],
    high: Mapping[str, float],
) -> dict[str, float]:
    """The shares of the kinds measured with the highest expected sum; kinds that are not keep theirs."""
    whole = sum(shares[kind] for kind in known)
    values = [known[kind].expected(levels[kind]) * mix.importance.get(kind, 1.0) for kind in known]
    rest = 1 - whole
    if rest > SAME:  # stands for the kinds that are not measured
        values.append(np.zeros_like(values[0]))
    bounds = [[each[kind] for kind in known] + ([rest] if rest > SAME else []) for each in (low, high)]
    found = best(values, *bounds)[: len(known)]
    return {kind: share * whole / sum(found) for kind, share in zip(known, found, strict=True)}


def _stepped(
    mix: MixFile,
    shares: Mapping[str, float],
    wanted: Mapping[str, float],
    known: Mapping[str, Response],
    levels: Mapping[str, float],
) -> dict[str, float]:
    """As much of the way to `wanted` as the evidence bears."""
    mean = variance = 0.0
    for kind, each in known.items():
        weight = mix.importance.get(kind, 1.0)
        gain, deviation = each.gain(shares[kind], wanted[kind], levels[kind])
        mean += weight * gain
        variance += (weight * deviation) ** 2
    likely = float(stats.norm.cdf(mean / max(variance**0.5, 1e-12)))
    step = min(max((likely - 0.5) / (LIKELY - 0.5), 0.0), 1.0)
    return {kind: shares[kind] + step * (wanted[kind] - shares[kind]) for kind in known}


def _explored(
    wanted: Mapping[str, float], low: Mapping[str, float], high: Mapping[str, float], seed: int, number: int
) -> dict[str, float]:
    """Half of the shares times `EXPLORED`, half over it, within the bounds; which, by the seed and the round."""

    def drawn(kind: str) -> bytes:
        return blake2b(f"{seed}:{number // 2}:{kind}:explore".encode(), digest_size=8).digest()

    order = sorted(wanted, key=drawn)
    up = set(order[: len(order) // 2]) if number % 2 == 0 else set(order[len(order) // 2 :])
    whole = sum(wanted.values())
    new = {kind: share * (EXPLORED if kind in up else 1 / EXPLORED) for kind, share in wanted.items()}

    def cut(scale: float) -> dict[str, float]:
        return {kind: min(max(share * scale, low[kind]), high[kind]) for kind, share in new.items()}

    if not sum(low[kind] for kind in new) <= whole <= sum(high[kind] for kind in new):
        return dict(wanted)
    below, above = 0.0, 1 / min(new.values())
    for _ in range(100):  # the scale at which the cut shares have the sum they should
        middle = (below + above) / 2
        below, above = (middle, above) if sum(cut(middle).values()) < whole else (below, middle)
    return cut(above)


def _losses(
    known: Mapping[str, Response], first: Mapping[str, float], wanted: Mapping[str, float], accepted: Sequence[str]
) -> list[Loss]:
    """What each kind is expected to lose since the first mix, the largest loss first."""
    losses = []
    for kind, each in known.items():
        if kind in first and wanted[kind] < first[kind] - SAME:
            mean, deviation = each.gain(first[kind], wanted[kind])
            half = 1.645 * deviation
            if mean <= -SLIGHT:
                losses.append(Loss(kind, mean, (mean - half, mean + half), kind in accepted))
    return sorted(losses, key=lambda loss: loss.estimate)


def _enough(known: Response, first: float, now: float, margin: float) -> float:
    """The smallest share up to `now` whose expected loss since `first` is within the margin."""
    shares = np.arange(STEP, now, STEP)
    fine = [share for share in shares if -known.gain(first, float(share))[0] <= margin]
    return float(min(fine, default=now))


def told(tuned: Tuned) -> dict[str, Any]:
    """A tuning as JSON."""
    return {
        "moved": tuned.moved,
        "shares": tuned.shares,
        "reasons": [each._asdict() for each in tuned.reasons],
        "expected": tuned.expected,
        "losses": [each._asdict() for each in tuned.losses],
        "held": tuned.held,
        "notes": tuned.notes,
    }
