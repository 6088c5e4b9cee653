"""From a mix file and the sizes of its sources to the share of each, and to whole numbers.

1. A preset (or `task_share`) fixes how much is task-specific; explicit shares are of the whole mix, and sources without
   one share what their side has left in proportion to size^(1/temperature) (the smoothing of XLM-R,
   https://arxiv.org/abs/1911.02116, whose exponent alpha is 1/temperature).
2. Floors: a kind below its floor is raised to it, the others shrink in proportion, and a note says so.
3. The total: what was asked for, or less where a source would be repeated more often than its `epochs`. Caps bind
   before: what a capped source gives up goes to the others of its side.
4. Whole numbers by largest remainders (`gristmill.shares`).

Not covered: which rows are taken (`draw.py`).
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import NamedTuple

from gristmill.errors import UsageError
from gristmill.mix.mix_file import GENERAL, MixFile, Source, general_floor, presets, task_range
from gristmill.shares import allotted

CLOSE = 1e-6


class Resolved(NamedTuple):
    """What to take. `shares` by source sum to 1; `quotas` are whole units (rows, or characters) by source."""

    shares: dict[str, float]
    quotas: dict[str, int]
    notes: list[str]
    """What was changed and why, a sentence each."""


def resolve(
    mix: MixFile, sizes: Mapping[str, int], *, total: int | None, unit: str = "rows", each: int = 1
) -> Resolved:
    """The shares of the sources, of which `sizes` units are there, and their quotas of `total` (None: all there is).

    `unit` is what messages call `each` of so many units. Raises UsageError for shares that contradict one another, for
    a mix without general data and for sources without rows.
    """
    if empty := next((source.name for source in mix.sources if not sizes[source.name]), None):
        raise UsageError(f"source {empty}: no row in it; take it out of the mix")
    notes: list[str] = []
    shares = floored(mix, _asked(mix, sizes, notes), notes)
    caps = {source.name: source.cap * each for source in mix.sources if source.cap is not None}
    most = {s.name: int(s.epochs * sizes[s.name] + CLOSE) for s in mix.sources}
    sides = {source.name: _side(source) for source in mix.sources}

    def fits(amount: int) -> str | None:
        """The source that runs out at that total, or None."""
        part = _capped(shares, {name: cap / amount for name, cap in caps.items()}, sides)
        return _runs_out(part, most, amount)

    def feasible(amount: int) -> bool:
        try:
            return fits(amount) is None
        except _AllCapped:
            return False

    wanted = sum(most.values()) if total is None else total
    amount = wanted if feasible(wanted) else _largest(feasible, wanted)
    if not amount:
        raise UsageError("mix: the caps and sizes of the sources leave no row that keeps the shares")
    if total is not None and amount < total:
        try:
            name = fits(amount + 1)
            binds = f"{name} has {sizes[str(name)] // each:,} {unit}, each taken {_times(mix, str(name))} at most"
        except _AllCapped as error:
            binds = f"every {error} source is at its cap"
        notes.append(f"{amount // each:,} of {total // each:,} {unit}: {binds}; allow more epochs, or a smaller share")
    part = _capped(shares, {name: cap / amount for name, cap in caps.items()}, sides)
    for name, cap in caps.items():
        if part[name] < shares[name] - 5e-4:
            notes.append(
                f"{name} is capped at {cap // each:,} {unit}: {part[name]:.1%} of the mix instead of {shares[name]:.1%}"
            )
    bounds = {name: min(most[name], caps.get(name, most[name])) for name in shares}
    quotas = allotted(
        min(amount, sum(bounds.values())),
        {name: part[name] * amount for name in shares},
        dict.fromkeys(shares, 0),
        bounds,
    )
    return Resolved(part, quotas, notes)


def _runs_out(part: Mapping[str, float], most: Mapping[str, int], amount: int) -> str | None:
    """The source that has least of what it should give to `amount`, if quotas that are off by a row cannot mend it."""
    short = [name for name in part if part[name] * amount > most[name] + 0.5]
    rounded_up = sum(min(most[name], ceil(part[name] * amount - CLOSE)) for name in part)
    if not short and rounded_up < amount:  # each is short by less than a row, and together by more than one
        short = [name for name in part if part[name] * amount > most[name]]
    return max(short, key=lambda name: part[name] * amount / most[name]) if short else None


def by_kind(mix: MixFile, shares: Mapping[str, float]) -> dict[str, float]:
    """The share of each kind."""
    found = dict.fromkeys(mix.kinds, 0.0)
    for source in mix.sources:
        found[source.kind] += shares[source.name]
    return found


def _times(mix: MixFile, name: str) -> str:
    epochs = next(source.epochs for source in mix.sources if source.name == name)
    return "once" if epochs == 1 else f"{epochs:g} times"


def _side(source: Source) -> str:
    return GENERAL if source.kind == GENERAL else "task"


def _asked(mix: MixFile, sizes: Mapping[str, int], notes: list[str]) -> dict[str, float]:
    """The shares before floors."""
    given = {source.name: source.share for source in mix.sources if source.share is not None}
    preset = presets().get(mix.preset or "")
    if preset and preset.high > task_range(mix)[1] + CLOSE:
        notes.append(
            f"preset {mix.preset}: {preset.low:.0%} to {preset.high:.0%} task-specific, cut to "
            f"{task_range(mix)[1]:.0%} at most by the floor of {mix.floor[GENERAL]:.0%} general data"
        )
    if (preset or mix.task_share) and mix.kinds == [GENERAL]:
        raise UsageError("no task-specific source, of which a preset and task_share say how much; add one")
    everything = len(given) == len(mix.sources)
    task = mix.task_share
    if task is None and preset and not everything:
        task = (preset.low + preset.high) / 2
    if task is None:
        return _filled(mix.sources, given, 1.0, sizes, mix.temperature)
    shares: dict[str, float] = {}
    sides = {side: [s for s in mix.sources if _side(s) == side] for side in ("task", GENERAL)}
    for side, amount in (("task", task), (GENERAL, 1 - task)):
        if sides[side]:
            whole = amount if sides[GENERAL] and sides["task"] else 1.0
            shares |= _filled(sides[side], given, whole, sizes, mix.temperature, side=side)
    return shares


def _filled(
    sources: list[Source],
    given: Mapping[str, float],
    whole: float,
    sizes: Mapping[str, int],
    temperature: float,
    *,
    side: str = "",
) -> dict[str, float]:
    """The given shares, and of what they leave of `whole` the others by size^(1/temperature)."""
    fixed = {source.name: given[source.name] for source in sources if source.name in given}
    open_ = [source.name for source in sources if source.name not in given]
    left = whole - sum(fixed.values())
    of = f"the {side} side, {whole:.0%} of the mix" if side else "the mix"
    if left < -CLOSE or (open_ and left < CLOSE):
        raise UsageError(f"shares: {sum(fixed.values()):.1%} are given of {of}; lower them, or leave some out")
    if not open_:
        if abs(left) > 1e-3:
            raise UsageError(
                f"shares: they make {sum(fixed.values()):.1%} of {of}; let them make the whole, or leave one out"
            )
        return {name: share * whole / sum(fixed.values()) for name, share in fixed.items()}
    largest = max(sizes[name] for name in open_)  # scaled, so that a low temperature does not overflow
    weights = {name: (sizes[name] / largest) ** (1 / temperature) for name in open_}
    rest = {name: left * weight / sum(weights.values()) for name, weight in weights.items()}
    return {source.name: (fixed | rest)[source.name] for source in sources}


def floored(mix: MixFile, shares: Mapping[str, float], notes: list[str]) -> dict[str, float]:
    """The shares with every kind at its floor at least; raises UsageError where a kind with a floor has no source."""
    floors = {kind: floor for kind, floor in mix.floor.items() if floor > 0}
    kinds = by_kind(mix, shares)
    if mix.floor[GENERAL] < general_floor() - CLOSE:
        usual = f"below the usual {general_floor():.0%}"
        notes.append(f"the floor of general data is {mix.floor[GENERAL]:.0%}, {usual}: asked for by name")
    if lacking := next((kind for kind in floors if kind not in kinds), None):
        raise UsageError(
            f"no source of the kind {lacking}, of which there must be {floors[lacking]:.0%}; add one, or say "
            f"`floors: {{{lacking}: 0}}`"
        )
    new = dict(kinds)
    raised: set[str] = set()
    while low := {kind for kind in floors if new[kind] < floors[kind] - 1e-12} - raised:
        raised |= low
        rest = 1 - sum(floors[kind] for kind in raised)
        others = sum(kinds[kind] for kind in kinds if kind not in raised)
        new = {k: floors[k] if k in raised else kinds[k] * rest / others for k in kinds}
    notes += [f"{kind} is raised from {kinds[kind]:.1%} to its floor of {floors[kind]:.0%}" for kind in sorted(raised)]
    return {s.name: shares[s.name] * (new[s.kind] / kinds[s.kind] if kinds[s.kind] else 1.0) for s in mix.sources}


class _AllCapped(Exception):
    """Every source of a side (which the argument names) is at its cap."""


def _capped(shares: Mapping[str, float], caps: Mapping[str, float], sides: Mapping[str, str]) -> dict[str, float]:
    """The shares, none above its cap, with the sides as they were; raises _AllCapped where that cannot be."""
    found: dict[str, float] = {}
    for side in dict.fromkeys(sides.values()):
        names = [name for name in shares if sides[name] == side]
        whole, capped = sum(shares[name] for name in names), set[str]()
        while True:
            free = [name for name in names if name not in capped]
            left = whole - sum(caps[name] for name in capped)
            weight = sum(shares[name] for name in free)
            if left > CLOSE * whole and not weight:
                raise _AllCapped(side)
            part = {name: shares[name] * left / weight for name in free}
            over = {name for name in free if part[name] > caps.get(name, 1.0) + 1e-12}
            if not over:
                break
            capped |= over
        found |= part | {name: caps[name] for name in capped}
    return {name: found[name] for name in shares}


def _largest(feasible: Callable[[int], bool], above: int) -> int:
    """The largest total that is feasible, of those below one that is not."""
    low, high = 0, above
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if feasible(middle) else (low, middle)
    return low
