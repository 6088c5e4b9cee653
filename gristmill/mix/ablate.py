"""Does a part earn its place? Arms trained on sets of equal size, compared item by item, and a plain verdict for each.

- *ours* (the kept rows) against as many of all rows: at random, stratified by source, the longest; and everything;
- a *rule*: ours against as many of the kept rows and those the rule dropped;
- a *source*: as many kept rows of all sources against the kept rows of the others.

Every arm is trained with several seeds, which also draw its rows. A difference is that of the arms' mean scores over
the same items; its variance is that of the seeds, pooled over all arms, or that of the items if it is larger. *helps*
and *hurts* are said where the 95 % interval leaves out 0, else *no evidence*. Equal sizes are rows, or tokens (words).

Not covered: interactions of parts, several comparisons at once (each verdict is wrong in one of twenty where there is
nothing), the trainer's own noise beyond the seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from scipy.stats import t

from gristmill.errors import UsageError
from gristmill.plan.subsets import Row, longest, nested, stratified

Measure = Literal["rows", "tokens"]
Results = Mapping[str, Sequence[float]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

SURE = 0.95


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
    rows: Sequence[Row], *, measure: Measure = "rows", parts: Sequence[str] = ("filters", "rules", "sources")
) -> tuple[list[Arm], list[Part]]:
    """The arms and comparisons for rows of which a filter dropped some (`drop_rule`).

    `parts` says which: `filters` (all of them together, with stratified random and longest), `rules`, `sources`. Raises
    UsageError where nothing was kept or there is nothing to compare.
    """
    kept = [row for row in rows if row.get("drop_rule") is None]
    if not kept:
        raise UsageError("ablate: no kept row; filter first, or loosen the filter")
    made, compared = [Arm("ours", lambda _: kept)], list[Part]()

    def like(size_of: Sequence[Row], pool: Sequence[Row]) -> Callable[[int], Sequence[Row]]:
        return lambda seed: _sized(nested(pool, seed), _size(size_of, measure), measure)

    if "filters" in parts and len(kept) < len(rows):
        made += [
            Arm("everything", lambda _: rows),
            Arm("random", like(kept, rows)),
            Arm("stratified", lambda seed: _stratified(rows, kept, seed, measure)),
            Arm("longest", lambda _: _sized(longest(rows, len(rows)), _size(kept, measure), measure)),
        ]
        compared += [Part(f"ours against {each}", "ours", each) for each in ("random", "stratified", "longest")]
        compared.append(Part("ours against everything", "ours", "everything"))
    if "rules" in parts:
        for rule in sorted({row["drop_rule"] for row in rows if row.get("drop_rule")}):
            back = [row for row in rows if row.get("drop_rule") in (None, rule)]
            made.append(Arm(f"without {rule}", like(kept, back)))
            compared.append(Part(f"rule {rule}", "ours", f"without {rule}"))
    if "sources" in parts:
        names = sorted({source_of(row) for row in kept})
        for name in names if len(names) > 1 else ():
            rest = [row for row in kept if source_of(row) != name]
            made.append(Arm(f"without {name}", _always(rest)))
            made.append(Arm(f"as many as without {name}", like(rest, kept)))
            compared.append(Part(f"source {name}", f"as many as without {name}", f"without {name}"))
    if not compared:
        raise UsageError("ablate: nothing to compare: no row was dropped, and all are of one source")
    return made, compared


def _always(rows: Sequence[Row]) -> Callable[[int], Sequence[Row]]:
    return lambda _: rows


def source_of(row: Row) -> str:
    """The source of a row: what `meta` names so, else its file."""
    meta = row.get("meta") or ""
    if '"source"' in meta:
        return str(orjson.loads(meta).get("source"))
    return str(row.get("source_file"))


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


def judge(results: Mapping[str, Sequence[Results]], compared: Sequence[Part]) -> list[Verdict]:
    """The verdict on each part, overall and by capability; `results` holds for each arm those of its seeds.

    Raises UsageError for arms with fewer than two seeds, or with other items than the others.
    """
    capabilities = list(next(iter(results.values()))[0])
    tables = {name: _table(name, seeds, capabilities) for name, seeds in results.items()}
    found = []
    for capability in ("overall", *capabilities) if len(capabilities) > 1 else capabilities:
        places = slice(None) if capability == "overall" else _places(results, capability)
        spread, free = _seed_variance([table[:, places] for table in tables.values()])
        for part in compared:
            a, b = tables[part.with_it][:, places], tables[part.without][:, places]
            found.append(_verdict(part.name, capability, a, b, spread, free))
    return found


def _table(name: str, seeds: Sequence[Results], capabilities: Sequence[str]) -> Floats:
    """Seeds by items, all capabilities one after the other."""
    if len(seeds) < 2:
        raise UsageError(f"ablate: arm {name}: {len(seeds)} seed; two at least, or chance cannot be told from effect")
    try:
        return np.array([[value for each in capabilities for value in seed[each]] for seed in seeds], float)
    except (KeyError, ValueError):
        raise UsageError(f"ablate: arm {name}: other capabilities or items than the other arms") from None


def _places(results: Mapping[str, Sequence[Results]], capability: str) -> slice:
    start = 0
    for name, items in next(iter(results.values()))[0].items():
        if name == capability:
            return slice(start, start + len(items))
        start += len(items)
    raise KeyError(capability)


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
