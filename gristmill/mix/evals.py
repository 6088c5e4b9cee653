"""Evaluations as metrics of the kinds of a mix: what each scored, on how many items, and how that compares with before.

Taken are EVAL rows (`suite`, `item`, `score_*`: a metric is the mean of a suite, or of the rows with one value of
another column), and tables of {capability, score, n, previous}, as JSON, JSONL or CSV. A difference between two
evaluations of the same items is judged by pairs (Tango's interval where items are right or wrong, else Student's t of
the differences), another by the two binomial variances.

Not covered: several runs of one item as clusters: their mean counts as one item.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any, NamedTuple

from scipy import stats

from gristmill.errors import BadInput, UsageError
from gristmill.formats import Bad, expand, raw_records
from gristmill.loop.evals import outcomes, read_evals, solved_of
from gristmill.loop.paired import Pairs, interval
from gristmill.mix.mix_file import GENERAL, MixFile
from gristmill.rollout.groups import Solved

PREVIOUS = ("previous", "previous_score", "previous score")

Items = dict[tuple[str, str], float]
"""The score of each (metric, item)."""


class Metric(NamedTuple):
    """One metric of a kind: a mean over `n` items, and what it was before if that is known."""

    name: str
    kind: str
    score: float
    n: int
    previous: float | None = None
    previous_n: int = 0
    pairs: tuple[float, ...] = ()
    """Of each item that both evaluations have: the difference."""


def metrics(
    paths: Sequence[str],
    mix: MixFile,
    *,
    before: Sequence[str] = (),
    score: str | None = None,
    column: str = "suite",
) -> list[Metric]:
    """The metrics in evaluation files, with those of `before` beside them where they are named.

    `score` names the column `score_<score>` of EVAL rows (needed where there are several), `column` what tells metrics
    apart: `suite`, `tags`, a slot, a key of `meta`. Raises UsageError for what is no evaluation, BadInput for a record
    that cannot be read.
    """
    if (listed := _table(paths)) is not None:
        if before:
            raise UsageError("--before: for EVAL rows; a table names the score before as `previous`")
        return [_listed(each, mix) for each in listed]
    new, old = _items(paths, score, column), _items(before, score, column) if before else {}
    found = []
    for name in dict.fromkeys(metric for metric, _ in new):
        mine = {key: value for key, value in new.items() if key[0] == name}
        then = [value for key, value in old.items() if key[0] == name]
        pairs = tuple(value - old[key] for key, value in mine.items() if key in old)
        mean = sum(then) / len(then) if then else None
        kind = kind_of_metric(name, mix)
        found.append(Metric(name, kind, sum(mine.values()) / len(mine), len(mine), mean, len(then), pairs))
    return found


def kind_of_metric(name: str, mix: MixFile) -> str:
    """The kind that a suite measures."""
    kind = mix.suites.get(name, name)
    return kind if kind in mix.kinds else GENERAL


def change(metric: Metric, level: float) -> tuple[float, float, float]:
    """The interval (low, estimate, high) of a metric less its previous value, at a confidence `level` (0 to 1)."""
    assert metric.previous is not None
    if metric.pairs and set(metric.pairs) <= {-1.0, 0.0, 1.0}:
        counted = Pairs(len(metric.pairs), metric.pairs.count(1.0), metric.pairs.count(-1.0))
        low, high = interval(counted, level)
        return low, counted.difference, high
    if len(metric.pairs) > 1:
        estimate = sum(metric.pairs) / len(metric.pairs)
        spread = sqrt(sum((each - estimate) ** 2 for each in metric.pairs) / (len(metric.pairs) - 1))
        half = float(stats.t.ppf((1 + level) / 2, len(metric.pairs) - 1)) * spread / sqrt(len(metric.pairs))
    else:
        estimate = metric.score - metric.previous
        variance = error(metric.score, metric.n) ** 2 + error(metric.previous, metric.previous_n or metric.n) ** 2
        half = float(stats.norm.ppf((1 + level) / 2)) * sqrt(variance)
    return estimate - half, estimate, estimate + half


def error(score: float, n: int) -> float:
    """The standard error of a share of `n` items, with two successes and failures added (Agresti and Coull, 1998)."""
    share = (score * n + 2) / (n + 4)
    return sqrt(share * (1 - share) / (n + 4))


def _table(paths: Sequence[str]) -> list[Mapping[str, Any]] | None:
    """The records of a table of capabilities; None where the files hold EVAL rows."""
    records: list[Mapping[str, Any]] = []
    for path in expand(paths):
        for number, record, _ in raw_records(path):
            if isinstance(record, Bad):
                raise BadInput(f"{path}:{number}: {record.reason}")
            if not records and "capability" not in record:
                return None
            records.append(record)
    if not records:
        raise UsageError(f"--tune {paths[0]}: no record in it")
    return records


def _listed(record: Mapping[str, Any], mix: MixFile) -> Metric:
    name = str(record.get("capability") or "")
    if not name:
        raise UsageError("--tune: a record without its capability; each has capability, score and n")
    score = _number(record, "score", name)
    n = _number(record, "n", name)
    key = next((key for key in PREVIOUS if record.get(key) not in (None, "")), None)
    previous = None if key is None else _number(record, key, name)
    if not 0 <= score <= 1 or not (previous is None or 0 <= previous <= 1) or n < 1:
        raise UsageError(f"--tune: {name}: allowed are scores from 0 to 1 and n from 1")
    then = record.get("previous_n") or 0
    return Metric(name, kind_of_metric(name, mix), score, int(n), previous, int(then))


def _number(record: Mapping[str, Any], key: str, name: str) -> float:
    try:
        value = float(record[key])
    except (KeyError, TypeError, ValueError):
        value = float("nan")
    if not isfinite(value):
        raise UsageError(f"--tune: {name}: {key} is {record.get(key)!r}; allowed is a number")
    return value


def _items(paths: Sequence[str], score: str | None, column: str) -> Items:
    """The mean score of each item of each metric; items that nobody could judge are left out."""
    evals = read_evals(paths)
    name = solved_of(evals, Solved(score, 1.0) if score else None).score
    found: Items = {}
    for (suite, item), outcome in outcomes(evals.rows, name, [column]).items():
        judged = [value for value in outcome.values if value is not None]
        for each in sorted(outcome.slices) if judged else ():
            found[each.partition("=")[2], f"{suite}/{item}"] = sum(judged) / len(judged)
    if not found:
        raise UsageError(
            f"--tune {paths[0]}: no row has a score_{name} and a {column}; name others with --score, --slice"
        )
    return found
