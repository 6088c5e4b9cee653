"""The claims as tables with sentences: what was measured, and whether it holds. Printed, and in the report.

A sentence follows from the figures of the day; none is written before.

Not covered: how they are printed (`cli/demo.py`, `report/template.html.j2`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gristmill.demo.countering import NAMES

POINTS = 0.05
"""Elsewhere may lose so much."""


class Claim(NamedTuple):
    """A table, and what follows from it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str]


def claims(filtering: Mapping[str, Any], countering: Mapping[str, Any]) -> list[Claim]:
    """The two claims of the demo from what `filtering` and `countering` found."""
    return [_filtering(filtering), _countering(countering)]


def _filtering(found: Mapping[str, Any]) -> Claim:
    title = f"Filtering: {found['rows_kept']:,} of {found['candidates']:,} candidates kept ({found['yield']:.0%})"
    trained = {"base": 0, "kept": found["rows_kept"], "all": found["candidates"], "random": found["rows_kept"]}
    rows = [[name if name != "base" else "before", f"{n:,}", *_accuracy(found[name])] for name, n in trained.items()]
    return Claim(title, ["trained on", "rows", "accuracy", "95 % interval"], rows, list(_filtered(found)))


def _filtered(found: Mapping[str, Any]) -> Iterator[str]:
    dropped = ", ".join(f"{count:,} {rule}" for rule, count in found["dropped"].items())
    yield f"{found['right']:.0%} of the candidates were right; dropped: {dropped}"
    yield f"an example that was kept gives {found['per_example_ratio']:.1f} times what one of all gives"
    for other in ("all", "random"):
        low, high = found["kept"]["interval"][0], found[other]["interval"][1]
        gap = found["kept"]["accuracy"] - found[other]["accuracy"]
        what = {"all": "all", "random": "as many at random"}[other]
        if gap <= 0:
            yield f"the claim does NOT hold: kept does not beat {what} at equal steps ({100 * gap:+.1f} points)"
        else:
            sure = "" if low > high else "; the intervals overlap"
            yield f"kept beats {what} at equal steps by {100 * gap:.1f} points{sure}"


def _countering(found: Mapping[str, Any]) -> Claim:
    columns = ["trained on", "cluster", "elsewhere", "gate"]
    if found["mined"] is None:
        return Claim("Counterexamples: no cluster of failures was found", columns, [], ["there is nothing to counter"])
    rows = [
        [words, _share(found[name]["in_cluster"]), _share(found[name]["elsewhere"]), found[name].get("verdict", "")]
        for name, words in NAMES.items()
    ]
    title = f"Counterexamples: the worst failures that were mined: {found['mined']}"
    return Claim(title, columns, rows, list(_countered(found)))


def _countered(found: Mapping[str, Any]) -> Iterator[str]:
    counter, random, alone = (found[name] for name in ("counter", "random", "no_replay"))
    if counter["in_cluster"] is None:
        yield "no item of the gate is known to belong to the cluster: nothing can be said of it"
        return
    gain = counter["in_cluster"] - random["in_cluster"]
    holds = "" if gain > 0 else "the claim does NOT hold: "
    yield f"{holds}{NAMES['counter']} against {NAMES['random']}: {100 * gain:+.1f} points in the cluster"
    lost = found["base"]["elsewhere"] - counter["elsewhere"]
    within = "" if lost <= POINTS else "; that is more than 5, and replay was not enough"
    yield f"with replay, elsewhere changed by {-100 * lost:+.1f} points{within}"
    lost = found["base"]["elsewhere"] - alone["elsewhere"]
    caught = "caught by the gate" if alone["verdict"] == "reject" else f"NOT caught by the gate ({alone['verdict']})"
    yield f"without replay, elsewhere changed by {-100 * lost:+.1f} points: forgetting, {caught}"


def _accuracy(told: Mapping[str, Any]) -> list[str]:
    low, high = told["interval"]
    return [_share(told["accuracy"]), f"{low:.1%} to {high:.1%}"]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
