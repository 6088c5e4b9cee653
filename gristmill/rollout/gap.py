"""The alignment gap: an alarm when the proxy reward runs away from the truth.

A policy is trained on a *proxy* reward and looked at with a *gold* score that is never trained on, again and again, on
outputs to a fixed set of prompts. The gap is the proxy less the gold, each in units of its spread over the prompts at
the start, so that scales do not matter. While the proxy tells the truth, the gap stays where it was. Two tiers:

- **warn**: a one-sided CUSUM on the standardised gap (k = 0.5, h = 9) has crossed its threshold. The gap is measured
  against its mean and spread over the first evaluations, widened for how few they are and for autocorrelation.
- **halt**: it has, and for two evaluations the proxy rose since the drift began while the gold, over ten evaluations at
  least, did not. A gap that grows while the gold rises is the price of optimising a noisy proxy, and only warned of.

A standardised gap counts as 3 at most, so a single spike cannot alarm. A proxy that is rescaled in the middle of a run
begins a new baseline. Before the baseline is there, the status is *insufficient*, never *ok*. Error rates, by
simulation: `bench/gap_alarm.py`. CUSUM: Page 1954, https://doi.org/10.1093/biomet/41.1-2.100. How gold falls while the
proxy rises: Gao, Schulman & Hilton 2022, https://arxiv.org/abs/2210.10760.

Not covered: where the gold comes from; gaps that were there from the start (compare with people: `calibrate`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from gristmill.errors import UsageError

BASELINE = 20
"""Evaluations that say what the gap is when nothing is wrong."""
LEAST = 10
"""The fewest evaluations that say whether the gold rises."""
SLACK = 0.5
"""The standardised drift that the CUSUM lets pass (k)."""
THRESHOLD = 9.0
"""The sum above which it warns (h)."""
CAP = 3.0
"""The most that one evaluation adds, before the slack."""
STAY = 2
"""Evaluations in a row that must say so before a halt."""
RISING = 1.64
"""Standard errors that a slope must be above 0 to be a rise (one-sided 5 %)."""
RESCALED = 3.0
"""The factor by which the proxy must change at once to be a change of scale."""

Status = Literal["insufficient", "ok", "warn", "halt"]
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Evaluation(NamedTuple):
    """What one look at the policy gave, over the means of the prompts (outputs to one prompt go together)."""

    step: int
    prompts: int
    proxy: float
    gold: float
    proxy_spread: float
    """The standard deviation over prompts."""
    gold_spread: float
    correlation: float
    """Of proxy and gold over prompts; 0 where one of them is constant."""


@dataclass(frozen=True)
class Alarm:
    """The state after an evaluation."""

    step: int
    status: Status
    gap: float
    cusum: float
    why: str = ""


def evaluation(step: int, proxy: Sequence[Sequence[float]], gold: Sequence[Sequence[float]]) -> Evaluation:
    """The evaluation of a step from the scores of its outputs: one list a prompt, in both. NaN is left out.

    Raises UsageError where the lists do not match.
    """
    if len(proxy) != len(gold) or any(len(p) != len(g) for p, g in zip(proxy, gold, strict=True)):
        raise UsageError(f"gap: step {step}: proxy and gold must score the same outputs")
    pairs = [_means(p, g) for p, g in zip(proxy, gold, strict=True)]
    known = np.array([pair for pair in pairs if pair is not None], float).reshape(-1, 2)
    if len(known) < 2:
        return Evaluation(step, len(known), np.nan, np.nan, np.nan, np.nan, np.nan)
    means, spreads = known.mean(axis=0), known.std(axis=0, ddof=1)
    together = float(np.corrcoef(known.T)[0, 1]) if spreads.min() > 0 else 0.0
    proxy_mean, gold_mean = map(float, means)
    return Evaluation(step, len(known), proxy_mean, gold_mean, float(spreads[0]), float(spreads[1]), together)


def _means(proxy: Sequence[float], gold: Sequence[float]) -> tuple[float, float] | None:
    both = np.array([proxy, gold], float)
    both = both[:, ~np.isnan(both).any(axis=0)]
    return (float(both[0].mean()), float(both[1].mean())) if both.size else None


def watch(evaluations: Sequence[Evaluation]) -> list[Alarm]:
    """The state after each evaluation, in their order; one whose scores are missing leaves the state as it was."""
    alarms: list[Alarm] = []
    known: list[Evaluation] = []
    cusum, began, gamed = 0.0, 0, 0
    for each in evaluations:
        if np.isnan([each.proxy, each.gold]).any():
            alarms.append(_unmeasured(each, alarms))
            continue
        known.append(each)
        if _rescaled(known):
            known, cusum, gamed = [each], 0.0, 0
        if len(known) <= BASELINE:
            why = f"{BASELINE + 1 - len(known)} more until there is a baseline of {BASELINE}"
            alarms.append(Alarm(each.step, "insufficient", np.nan, 0.0, why))
            continue
        gap, z = _standardised(known)
        cusum = max(0.0, cusum + min(z, CAP) - SLACK)
        began = began if cusum else len(known)
        if cusum <= THRESHOLD:
            gamed = 0
            alarms.append(Alarm(each.step, "ok", gap, cusum))
            continue
        why = f"the gap has widened since step {known[min(began, len(known) - 1)].step}"
        rises = _gold_rises(known, began)
        gamed = gamed + 1 if not rises and _slope(known, began, "proxy")[0] > 0 else 0
        if gamed >= STAY:
            alarms.append(Alarm(each.step, "halt", gap, cusum, f"{why}: the proxy rises and the gold does not"))
        else:
            alarms.append(Alarm(each.step, "warn", gap, cusum, f"{why}, and the gold still rises" if rises else why))
    return alarms


def _unmeasured(each: Evaluation, alarms: Sequence[Alarm]) -> Alarm:
    before = alarms[-1] if alarms else Alarm(each.step, "insufficient", np.nan, 0.0)
    return Alarm(each.step, before.status, np.nan, before.cusum, "no scores at this step")


def _standardised(known: Sequence[Evaluation]) -> tuple[float, float]:
    """The newest gap, in units of the spread over prompts, and in units of what the baseline varies by."""
    start = known[:BASELINE]
    spreads = [[getattr(each, name) for each in start] for name in ("proxy_spread", "gold_spread")]
    scales = [float(np.median(each)) or 1.0 for each in spreads]
    gaps = np.array([each.proxy / scales[0] - each.gold / scales[1] for each in (*start, known[-1])])
    errors = [_error(each, scales) for each in (*start, known[-1])]
    first, newest = gaps[:-1], float(gaps[-1])
    inflation = _inflation(first)
    varies = max(float(first.std(ddof=1)), float(np.median(errors[:-1])), errors[-1])
    varies *= (inflation * (1 + inflation / len(first))) ** 0.5
    off = newest - float(first.mean())
    if varies < 1e-12:
        return newest, CAP if off > 1e-12 else 0.0
    return newest, off / varies


def _error(each: Evaluation, scales: Sequence[float]) -> float:
    """The standard error of a gap, by prompts."""
    proxy, gold = each.proxy_spread / scales[0], each.gold_spread / scales[1]
    variance = proxy**2 + gold**2 - 2 * each.correlation * proxy * gold
    return float((max(variance, 0.0) / each.prompts) ** 0.5)


def _inflation(values: Floats) -> float:
    """By how much autocorrelation widens the variance of sums: (1 + phi) / (1 - phi), phi by least squares on one lag,
    with Kendall's correction for short series (1954, https://doi.org/10.1093/biomet/41.3-4.403)."""
    centred = values - values.mean()
    below = float((centred[:-1] ** 2).sum())
    if below < 1e-18:
        return 1.0
    phi = float((centred[1:] * centred[:-1]).sum()) / below
    phi = min(max(phi + (1 + 3 * phi) / len(values), 0.0), 0.8)
    return float((1 + phi) / (1 - phi))


def _gold_rises(known: Sequence[Evaluation], began: int) -> bool:
    """Whether the gold has a rising slope since the drift began, over `LEAST` evaluations at least."""
    slope, error = _slope(known, min(began, len(known) - LEAST), "gold")
    start = np.array([each.gold for each in known[:BASELINE]])
    trend = np.polyval(np.polyfit(range(len(start)), start, 1), range(len(start)))
    return bool(slope > RISING * error * _inflation(start - trend) ** 0.5)


def _slope(known: Sequence[Evaluation], began: int, name: str) -> tuple[float, float]:
    """The slope of a mean from an evaluation on, and its standard error (infinite for under 4)."""
    values = np.array([getattr(each, name) for each in known[began:]])
    if len(values) < 2:
        return 0.0, np.inf
    times = np.arange(len(values)) - (len(values) - 1) / 2
    scale = float((times**2).sum())
    slope = float((times * values).sum()) / scale
    if len(values) < 4:
        return slope, np.inf
    left = values - values.mean() - slope * times
    return slope, float((left**2).sum() / (len(values) - 2) / scale) ** 0.5


def _rescaled(known: Sequence[Evaluation]) -> bool:
    """Whether the proxy changed its scale at the newest evaluation: its spread over prompts jumped by a factor, and its
    mean by much the same. (A proxy that is being gamed gains mean and loses spread.)"""
    before, newest = known[-1 - LEAST // 2 : -1], known[-1]
    if len(before) < LEAST // 2:
        return False
    spread = float(np.median([each.proxy_spread for each in before]))
    mean = float(np.median([each.proxy for each in before]))
    if not spread or not mean or not newest.proxy_spread:
        return False
    wider, higher = newest.proxy_spread / spread, newest.proxy / mean
    return not 1 / RESCALED < wider < RESCALED and 0.5 < higher / wider < 2


def best(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the highest gold: the checkpoint to go back to."""
    known = [each for each in evaluations if not np.isnan(each.gold)]
    return max(known, key=lambda each: each.gold) if known else None
