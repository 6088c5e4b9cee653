"""The gate: may a candidate take the baseline's place, judged on the same items?

| on | what must be shown | by |
|---|---|---|
| every target slice | the candidate is better | McNemar's exact test, one-sided |
| every other slice, and all items outside the targets (`rest`) | it is less than the margin worse | Tango's limit |
| every critical slice | no item is lost, and few enough could be | 1 - level^(1/n) below the margin |
| all items | at most a share of them is lost | the observed share |
| all items | both were judged on them | the observed share |

All of it must be shown, each at the level of this look (`looks.py`). A conjunction needs no correction for the number
of its tests, for a bad candidate must pass the one that it is bad at (intersection-union, Berger 1982). What names a
slice as worse is corrected (Holm), for there any one of many would do. What is neither shown nor refuted is
*inconclusive*, with the number of items that would tell: that is no pass.

Not covered: judges that cannot be trusted (`calibrate/`); scores that are not right or wrong.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from math import ceil, log
from typing import Any, Literal

from scipy.stats import norm

from gristmill.errors import UsageError
from gristmill.loop.compare import Compared, Item, judged_pairs, matched, told, within
from gristmill.loop.evals import Evals
from gristmill.loop.looks import Look, Looks, level_of
from gristmill.loop.paired import (
    MOST_ITEMS,
    Pairs,
    discordance,
    holm,
    interval,
    items_better,
    items_not_worse,
    mcnemar,
    power_better,
    power_not_worse,
    score,
)
from gristmill.rollout.groups import Solved
from gristmill.run import Run

Verdict = Literal["promote", "reject", "inconclusive"]
Check = dict[str, Any]
"""`check` (target, slice, critical, flips, unscored), `name`, `verdict` (pass, reject, inconclusive), `why`, counts."""

NAMED = 20
"""Lost items of a critical slice that are named."""


@dataclass(frozen=True)
class Terms:
    """What is asked of a candidate. Shares are 0 to 1.

    `margin` is how much worse a slice may be, `effect` the smallest gain worth having on a target (None: the margin),
    `alpha` the error of all looks together, `max_flips` the share of items that may be lost, `max_unscored` the share
    that may lack an outcome. Slices of fewer than `least` items are named and not checked. The share `sealed` of the
    items stays out of every look but a `release`, which is at them alone.
    """

    targets: Sequence[str]
    critical: Sequence[str] = ()
    margin: float = 0.05
    effect: float | None = None
    alpha: float = 0.05
    max_flips: float = 0.1
    max_unscored: float = 0.01
    least: int = 1
    sealed: float = 0.0
    release: bool = False

    def __post_init__(self) -> None:
        for name in ("margin", "alpha", "effect"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UsageError(f"--{name} {value:g}: allowed is a share above 0 and below 1")
        if not self.targets:
            raise UsageError("gate: no target; name the slice that was to become better with --target (or `all`)")
        if both := set(self.targets) & set(self.critical):
            raise UsageError(f"--critical {min(both)}: a target already; a slice is the one or the other")
        if self.release and not self.sealed:
            raise UsageError("--release without --sealed: say what share of the items was kept sealed")


def gate(
    base: Evals,
    candidate: Evals,
    terms: Terms,
    *,
    run: Run | None = None,
    solved: Solved | None = None,
    slices: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare two evaluations and give a verdict with every count it rests on, as JSON.

    The look is written down in the `run`; without one it counts as the first. Raises UsageError for a slice that no
    item is in and for evaluations that have nothing in common.
    """
    found = matched(base, candidate, solved=solved, slices=slices)
    _check_slices(found.items, slices or ())
    items = [item for item in found.items if not terms.sealed or is_sealed(item, terms.sealed) == terms.release]
    _check_names(items, terms)
    look = _look(items, found, terms, run)
    level = level_of(terms.alpha, look.number)
    checks = [*_targets(items, terms, level), *_others(items, terms, level)]
    checks += [_critical(name, items, terms, level) for name in terms.critical]
    checks += [_flips(items, terms), _unscored(items, found, terms)]
    verdicts = {check["verdict"] for check in checks}
    verdict = "reject" if "reject" in verdicts else "inconclusive" if "inconclusive" in verdicts else "promote"
    if run:
        Looks(run).decided(look, verdict)
    return {
        "verdict": verdict,
        "why": [f"{each['name']}: {each['why']}" for each in checks if each["verdict"] not in ("pass", "unchecked")],
        "n_needed": _needed(checks),
        "score": found.score,
        "right_from": found.least,
        "all": told(judged_pairs(items)),
        "look": {"number": look.number, "alpha": terms.alpha, "level": level, "release": terms.release},
        "terms": asdict(terms),
        "checks": checks,
    }


def is_sealed(item: Item, share: float) -> bool:
    """Whether an item is among the sealed ones: decided by its name alone, so for every look and model the same."""
    digest = blake2b("\0".join(("sealed", *item.key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


def _check_slices(items: Sequence[Item], names: Sequence[str]) -> None:
    """Raise UsageError for a name that slices nothing: it would be a check that is passed because it is not made."""
    there = {each.partition("=")[0] for item in items for each in item.slices}
    if missing := next((name for name in names if name not in there), None):
        raise UsageError(
            f"--slice {missing}: no item of both has it; allowed are tags, slot_… and fields of meta that items have"
        )


def _check_names(items: Sequence[Item], terms: Terms) -> None:
    there = {name for item in items for name in item.slices}
    for flag, names in (("target", terms.targets), ("critical", terms.critical)):
        for name in names:
            if name != "all" and name not in there:
                some = ", ".join(sorted(there)[:12]) or "none (name a column of them with --slice)"
                raise UsageError(f"--{flag} {name}: no item of both is in that slice; allowed: all, {some}")


def _look(items: Sequence[Item], found: Compared, terms: Terms, run: Run | None) -> Look:
    outcomes = [[*item.key, item.base, item.candidate, sorted(item.slices)] for item in items]
    content = json.dumps([outcomes, asdict(terms), found.score, found.least], sort_keys=True)
    key = blake2b(content.encode(), digest_size=16).hexdigest()
    if run is None:
        return Look(key, 1, "", {})
    return Looks(run).take(key, [item.key for item in items], {"terms": asdict(terms), "items": len(items)})


def _limits(pairs: Pairs, level: float) -> tuple[float, float]:
    """The lower and the upper limit for the difference, each wrong with probability `level`."""
    return interval(pairs, 1 - 2 * level) if pairs.n else (-1.0, 1.0)


def _targets(items: Sequence[Item], terms: Terms, level: float) -> list[Check]:
    effect = terms.effect or terms.margin
    checks = []
    for name in terms.targets:
        pairs = judged_pairs(within(items, name))
        p, (low, high), share = mcnemar(pairs, "greater"), _limits(pairs, level), discordance(pairs)
        check: Check = {"check": "target", "name": name, **told(pairs), "p_better": p, "limits": [low, high]}
        check["power"] = power_better(pairs.n, level, share, effect)
        if p <= level:
            check |= {"verdict": "pass", "why": f"better by {_points(pairs.difference)} (p = {p:.2g})"}
        elif high < effect:
            why = f"{_points(pairs.difference)}: a gain of {_size(effect)} is excluded (at most {_points(high)})"
            check |= {"verdict": "reject", "why": why}
        else:
            needed = items_better(level, share, effect)
            if needed <= pairs.n and pairs.difference > 0:
                needed = items_better(level, share, pairs.difference)
            check |= _open(f"{_points(pairs.difference)} is not shown (p = {p:.2g})", pairs.n, needed)
        checks.append(check)
    return checks


def _others(items: Sequence[Item], terms: Terms, level: float) -> list[Check]:
    """Every slice that is neither target nor critical, and what lies outside the targets."""
    special = {*terms.targets, *terms.critical}
    names = sorted({name for item in items for name in item.slices} - special)
    groups = {name: within(items, name) for name in names}
    if "all" not in terms.targets and (rest := [item for item in items if not item.slices & set(terms.targets)]):
        groups["rest"] = rest
    counts = {name: judged_pairs(group) for name, group in groups.items()}
    checked = {name: pairs for name, pairs in counts.items() if len(groups[name]) >= terms.least}
    worse = holm({name: mcnemar(pairs, "less") for name, pairs in checked.items()})
    checks = [_not_worse(name, pairs, terms, level, worse[name]) for name, pairs in checked.items()]
    return checks + [
        {"check": "slice", "name": name, **pairs._asdict(), "verdict": "unchecked", "why": f"under {terms.least} items"}
        for name, pairs in counts.items()
        if name not in checked
    ]


def _not_worse(name: str, pairs: Pairs, terms: Terms, level: float, p_worse: float) -> Check:
    (low, high), share, margin = _limits(pairs, level), discordance(pairs), terms.margin
    check: Check = {"check": "slice", "name": name, **told(pairs), "p_worse_holm": p_worse, "limits": [low, high]}
    check["power"] = power_not_worse(pairs.n, margin, level, share) if pairs.n else 0.0
    shown = f"{_points(pairs.difference)}, at worst {_points(low)}"
    if pairs.n and score_at(pairs, -margin) >= float(norm.isf(level)):
        return check | {"verdict": "pass", "why": shown}
    if p_worse <= level:
        return check | {"verdict": "reject", "why": f"worse: {shown} (p = {p_worse:.2g} after Holm)"}
    needed = items_not_worse(margin, level, share)
    if needed <= pairs.n and -margin < pairs.difference < 0:
        needed = items_not_worse(margin, level, share, pairs.difference)
    return check | _open(f"{shown}: a loss of {_size(margin)} is not excluded", pairs.n, needed)


def score_at(pairs: Pairs, difference: float) -> float:
    """Tango's statistic for counts."""
    return float(score(pairs.gained, pairs.lost, pairs.n, difference))


def _critical(name: str, items: Sequence[Item], terms: Terms, level: float) -> Check:
    """No item that the baseline is right on may be lost, and there must be enough of them to say so."""
    able = [item for item in within(items, name) if item.base]
    lost = [item for item in able if item.candidate is False]
    unknown = sum(item.candidate is None for item in able)
    n = len(able) - unknown
    bound = 1 - level ** (1 / n) if n else 1.0
    check: Check = {
        "check": "critical",
        "name": name,
        **judged_pairs(within(items, name))._asdict(),
        "baseline_right": len(able),
        "candidate_unscored": unknown,
        "lost_items": [" ".join(item.key) for item in lost[:NAMED]],
        "loses_at_most": None if lost else bound,
        "rule_of_three": None if lost or not n else 3 / n,
    }
    if lost:
        return check | {"verdict": "reject", "why": f"{len(lost)} of {len(able)} lost; none may be"}
    if unknown:
        return check | {"verdict": "inconclusive", "why": f"{unknown} of {len(able)} could not be judged"}
    if bound > terms.margin:
        needed = ceil(log(level) / log(1 - terms.margin))
        return check | _open(f"0 of {n} lost, which allows {bound:.1%}", n, needed)
    return check | {"verdict": "pass", "why": f"0 of {n} lost: at most {bound:.1%} are"}


def _flips(items: Sequence[Item], terms: Terms) -> Check:
    pairs = judged_pairs(items)
    share = pairs.lost / pairs.n if pairs.n else 0.0
    verdict = "pass" if share <= terms.max_flips else "reject"
    why = f"{share:.1%} of the items are lost; {terms.max_flips:.1%} may be"
    return {
        "check": "flips",
        "name": "negative flips",
        **pairs._asdict(),
        "share": share,
        "verdict": verdict,
        "why": why,
    }


def _unscored(items: Sequence[Item], found: Compared, terms: Terms) -> Check:
    """What was not judged may be what the candidate fails at, so there may not be much of it."""
    ours, theirs = sum(item.base is None for item in items), sum(item.candidate is None for item in items)
    either = sum(item.base is None or item.candidate is None for item in items)
    alone = found.base_only + found.candidate_only
    share = (either + alone) / (len(items) + alone)
    verdict = "pass" if share <= terms.max_unscored else "inconclusive"
    why = f"{share:.1%} of the items lack an outcome of one of the two; {terms.max_unscored:.1%} may"
    counts = {"baseline_unscored": ours, "candidate_unscored": theirs}
    counts |= {"baseline_only": found.base_only, "candidate_only": found.candidate_only}
    return {"check": "unscored", "name": "unscored", **counts, "share": share, "verdict": verdict, "why": why}


def _open(why: str, n: int, needed: int) -> Check:
    needed = max(needed, n + 1)
    words = f"over {MOST_ITEMS:,}" if needed >= MOST_ITEMS else f"about {needed:,}"
    return {"verdict": "inconclusive", "why": f"{why}; {words} items needed, there are {n:,}", "n_needed": needed}


def _needed(checks: Sequence[Check]) -> dict[str, int]:
    """The items that would tell, by the name of the check that lacks them."""
    return {check["name"]: check["n_needed"] for check in checks if "n_needed" in check}


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _size(share: float) -> str:
    return f"{100 * share:g} points"
