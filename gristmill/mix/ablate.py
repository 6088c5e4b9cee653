"""Does a part earn its place? Arms trained on sets of equal size, compared item by item, and a plain verdict for each.

- *ours* (the kept rows) against as many of all rows: at random, stratified by source, the longest; and everything;
- a *rule*: ours against as many of the kept rows and those the rule dropped;
- a *source*, or a set named by a value that its rows have (`tags=borrow`): as many kept rows of all against the kept
  rows without it.

So a part is judged by what it does in the place of more of the others, in their proportions: a harmless part of a set
with a harmful one may help by diluting it. Take out what hurts, and look again.

Every arm is trained with several seeds, which also draw its rows. A difference is that of the arms' mean scores over
the same items; its variance is that of the seeds, pooled over all arms, or that of the items if it is larger. *helps*
and *hurts* are said where the 95 % interval leaves out 0, else *no evidence*. Equal sizes are rows, or tokens (words).

Not covered: interactions of parts, several comparisons at once (each verdict is wrong in one of twenty where there is
nothing), the trainer's own noise beyond the seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import t

from gristmill.errors import UsageError
from gristmill.plan.subsets import Row, longest, nested, source_of, stratified, values_of
from gristmill.plan.trial import Results

Measure = Literal["rows", "tokens"]
Floats = np.ndarray[Any, np.dtype[np.float64]]

Ints = np.ndarray[Any, np.dtype[np.int64]]

SURE = 0.95

LEAST = 30
"""Items of a slice that is judged by itself."""


@dataclass(frozen=True)
class Arm:
    """A set to train on, drawn anew for every seed."""

    name: str
    rows: Callable[[int], Sequence[Row]]


@dataclass(frozen=True)
class Part:
    """What is judged: the arm that has it against the arm that has not."""

    name: str
    with_it: str
    without: str


Pair = tuple[str, Arm, Arm]
"""What a part is called, the arm with it, and the arm without."""


class Verdict(NamedTuple):
    """What a part does to one capability, or to all of them (`overall`)."""

    part: str
    capability: str
    with_it: float
    without: float
    difference: float
    low: float
    high: float
    verdict: Literal["helps", "hurts", "no evidence"]


def arms(
    rows: Sequence[Row],
    *,
    measure: Measure = "rows",
    parts: Sequence[str] = ("filters", "rules", "sources"),
    named: Sequence[str] = (),
) -> tuple[list[Arm], list[Part]]:
    """The arms and comparisons for rows of which a filter may have dropped some (`drop_rule`).

    `parts` says which: `filters` (all of them together, with stratified random and longest), `rules`, `sources`;
    `named` are sets of kept rows that are judged as a source is, `COLUMN=VALUE`. Raises UsageError where nothing was
    kept, no row or every row has such a value, or there is nothing to compare.
    """
    kept = [row for row in rows if row.get("drop_rule") is None]
    if not kept:
        raise UsageError("ablate: no kept row; filter first, or loosen the filter")
    pairs = [
        *(_against_filters(rows, kept, measure) if "filters" in parts and len(kept) < len(rows) else ()),
        *(_against_rules(rows, kept, measure) if "rules" in parts else ()),
        *_left_out(kept, _sets(kept, sources="sources" in parts, named=named), measure),
    ]
    if not pairs:
        raise UsageError("ablate: nothing to compare: no row was dropped, and all are of one source")
    made = {arm.name: arm for _, *both in pairs for arm in both}
    return list(made.values()), [Part(name, with_it.name, without.name) for name, with_it, without in pairs]


def _against_filters(rows: Sequence[Row], kept: Sequence[Row], measure: Measure) -> Iterator[Pair]:
    """The kept rows against choices that need no filter."""
    for arm in (
        Arm("random", _like(kept, rows, measure)),
        Arm("stratified", lambda seed: _stratified(rows, kept, seed, measure)),
        Arm("longest", lambda _: _sized(longest(rows, len(rows)), _size(kept, measure), measure)),
        Arm("everything", lambda _: rows),
    ):
        yield f"ours against {arm.name}", Arm("ours", lambda _: kept), arm


def _against_rules(rows: Sequence[Row], kept: Sequence[Row], measure: Measure) -> Iterator[Pair]:
    """The kept rows against as many of them and of those that a rule dropped."""
    for rule in sorted({row["drop_rule"] for row in rows if row.get("drop_rule")}):
        back = [row for row in rows if row.get("drop_rule") in (None, rule)]
        yield f"rule {rule}", Arm("ours", lambda _: kept), Arm(f"without {rule}", _like(kept, back, measure))


def _left_out(kept: Sequence[Row], sets: Iterator[tuple[str, str]], measure: Measure) -> Iterator[Pair]:
    """As many of the kept rows against those without a part."""
    for name, value in sets:
        rest = [row for row in kept if not _has(row, value)]
        with_it = Arm(f"{_size(rest, measure):,} {measure} of ours", _like(rest, kept, measure))
        yield name, with_it, Arm(f"without {name.removeprefix('source ')}", _always(rest))


def _sets(kept: Sequence[Row], *, sources: bool, named: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The parts of the kept rows that are left out in turn: what each is called, and the value that its rows have."""
    names = sorted({source_of(row) for row in kept}) if sources else []
    for name in names if len(names) > 1 else ():
        yield f"source {name}", f"source={name}"
    for part in named:
        count = sum(_has(row, part) for row in kept)
        if not 0 < count < len(kept):
            raise UsageError(
                f"--part {part}: {count:,} of {len(kept):,} kept rows have it; write COLUMN=VALUE, a column, tags, "
                "source or a key of meta with a value that some rows have"
            )
        yield part, part


def _has(row: Row, value: str) -> bool:
    return value in values_of(row, value.partition("=")[0])


def _like(size_of: Sequence[Row], pool: Sequence[Row], measure: Measure) -> Callable[[int], Sequence[Row]]:
    return lambda seed: _sized(nested(pool, seed), _size(size_of, measure), measure)


def _always(rows: Sequence[Row]) -> Callable[[int], Sequence[Row]]:
    return lambda _: rows


def _stratified(rows: Sequence[Row], kept: Sequence[Row], seed: int, measure: Measure) -> Sequence[Row]:
    count = len(kept)
    if measure == "tokens":
        count = round(_size(kept, measure) / max(_size(rows, measure), 1) * len(rows))
    return stratified(rows, min(count, len(rows)), seed, [source_of(row) for row in rows])


def _size(rows: Sequence[Row], measure: Measure) -> int:
    return len(rows) if measure == "rows" else sum(map(_tokens, rows))


def _tokens(row: Row) -> int:
    return len((row["response"] or "").split()) + sum(len((turn["content"] or "").split()) for turn in row["prompt"])


def _sized(rows: Sequence[Row], size: int, measure: Measure) -> Sequence[Row]:
    """The first rows that have that size together."""
    if measure == "rows":
        return rows[:size]
    total, taken = 0, []
    for row in rows:
        if total >= size:
            break
        taken.append(row)
        total += _tokens(row)
    return taken


def judge(
    results: Mapping[str, Sequence[Results]],
    compared: Sequence[Part],
    *,
    slices: Mapping[str, Sequence[int]] | None = None,
) -> list[Verdict]:
    """The verdict on each part, overall, by capability and by slice; `results` holds for each arm those of its seeds.

    `slices` are places of items, all capabilities one after the other; one of fewer than 30 items is not judged. An
    item that some trial could not judge counts in none. Raises UsageError for arms with fewer than two seeds, with
    other items than the others, or without an item that all could judge.
    """
    first = next(iter(results.values()))[0]
    tables = {name: _table(name, seeds, list(first)) for name, seeds in results.items()}
    if len({table.shape[1] for table in tables.values()}) > 1:
        raise UsageError("ablate: arms differ in their items; a trainer must give the same ones in every trial")
    judged = ~np.isnan(np.concatenate(list(tables.values()))).any(axis=0)
    found = []
    for capability, places in _views(first, slices or {}).items():
        used = places[judged[places]]
        if capability in (slices or {}) and len(used) < LEAST:
            continue
        if len(used) < 2:
            raise UsageError(f"ablate: {capability}: {len(used)} items that every trial could judge; two at least")
        spread, free = _seed_variance([table[:, used] for table in tables.values()])
        for part in compared:
            a, b = tables[part.with_it][:, used], tables[part.without][:, used]
            found.append(_verdict(part.name, capability, a, b, spread, free))
    return found


def _table(name: str, seeds: Sequence[Results], capabilities: Sequence[str]) -> Floats:
    """Seeds by items, all capabilities one after the other; NaN where an item could not be judged."""
    if len(seeds) < 2:
        raise UsageError(f"ablate: arm {name}: {len(seeds)} seed; two at least, or chance cannot be told from effect")
    try:
        return np.array([[value for each in capabilities for value in seed[each]] for seed in seeds], float)
    except (KeyError, ValueError):
        raise UsageError(f"ablate: arm {name}: other capabilities or items than the other arms") from None


def _views(results: Results, slices: Mapping[str, Sequence[int]]) -> dict[str, Ints]:
    """What is judged by itself: places of items, all capabilities one after the other."""
    ends = np.cumsum([len(items) for items in results.values()])
    views = {name: np.arange(end - len(results[name]), end) for name, end in zip(results, ends, strict=True)}
    whole = {"overall": np.arange(ends[-1])} if len(results) > 1 or slices else {}
    named = {name: np.array(places, np.int64) for name, places in slices.items()}
    return {**whole, **(views if len(results) > 1 or not slices else {}), **named}


def _seed_variance(tables: Sequence[Floats]) -> tuple[float, int]:
    """The variance of an arm's mean score between seeds, pooled over the arms, and its degrees of freedom."""
    means = [table.mean(axis=1) for table in tables]
    free = sum(len(each) - 1 for each in means)
    return float(sum(((each - each.mean()) ** 2).sum() for each in means) / free), free


def _verdict(part: str, capability: str, a: Floats, b: Floats, spread: float, free: int) -> Verdict:
    with_it, without = float(a.mean()), float(b.mean())
    items = a.mean(axis=0) - b.mean(axis=0)
    # Chance on items is part of what seeds differ by; what items add beyond it is in the larger of the two.
    error = max(spread * (1 / len(a) + 1 / len(b)), float(items.var(ddof=1)) / len(items))
    half = float(t.ppf((1 + SURE) / 2, free)) * error**0.5
    low, high = with_it - without - half, with_it - without + half
    word: Literal["helps", "hurts", "no evidence"] = "helps" if low > 0 else "hurts" if high < 0 else "no evidence"
    return Verdict(part, capability, with_it, without, with_it - without, low, high, word)
