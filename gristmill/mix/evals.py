"""Evaluations as metrics of the kinds of a mix: what each scored, on how many items, and how that compares with before.

Taken are EVAL rows (`suite`, `item`, `score_*`: a metric is the mean of a suite, or of the rows with one value of
another column), and tables of {capability, score, n, previous}, as JSON, JSONL or CSV. A difference between two
evaluations of the same items is judged by pairs (Student's t of the differences), another by the two binomial variances.

Not covered: several runs of one item as clusters: their mean counts as one item.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, sqrt
from typing import Any, NamedTuple

from scipy import stats

from gristmill.errors import BadInput, UsageError
from gristmill.formats import Bad, expand, raw_records
from gristmill.mix.mix_file import GENERAL, MixFile

PREVIOUS = ("previous", "previous_score", "previous score")

Items = dict[tuple[str, str], float]
"""The score of each (suite, item)."""


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
    apart. Raises UsageError for what is no evaluation, BadInput for a record that cannot be read.
    """
    now = list(_records(paths))
    if not now:
        raise UsageError(f"--tune {paths[0]}: no record in it")
    if "capability" in now[0]:
        if before:
            raise UsageError("--before: for EVAL rows; a table names the score before as `previous`")
        return [_listed(each, mix) for each in now]
    new, old = _items(now, score, column), _items(list(_records(before)), score, column)
    found = []
    for name in dict.fromkeys(suite for suite, _ in new):
        mine = {key: value for key, value in new.items() if key[0] == name}
        then = [value for key, value in old.items() if key[0] == name]
        pairs = tuple(value - old[key] for key, value in mine.items() if key in old)
        found.append(
            Metric(
                name,
                kind_of_metric(name, mix),
                sum(mine.values()) / len(mine),
                len(mine),
                sum(then) / len(then) if then else None,
                len(then),
                pairs,
            )
        )
    return found


def kind_of_metric(name: str, mix: MixFile) -> str:
    """The kind that a suite measures."""
    kind = mix.suites.get(name, name)
    return kind if kind in mix.kinds else GENERAL


def change(metric: Metric, level: float) -> tuple[float, float, float]:
    """The interval (low, estimate, high) of a metric less its previous value, at a confidence `level` (0 to 1)."""
    assert metric.previous is not None
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


def _records(paths: Sequence[str]) -> Iterable[Mapping[str, Any]]:
    for path in expand(paths) if paths else ():
        for number, record, _ in raw_records(path):
            if isinstance(record, Bad):
                raise BadInput(f"{path}:{number}: {record.reason}")
            yield record


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


def _items(records: Sequence[Mapping[str, Any]], score: str | None, column: str) -> Items:
    """The mean score of each item; items that nobody could judge are left out."""
    if not records:
        return {}
    scores = sorted({key for record in records for key in record if key.startswith("score_")})
    wanted = f"score_{score}" if score else scores[0] if len(scores) == 1 else None
    if wanted not in scores:
        listed = ", ".join(name.removeprefix("score_") for name in scores) or "none"
        raise UsageError(f"--tune: the rows have the scores {listed}; name one with --score NAME")
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number, record in enumerate(records):
        if record.get(column) is None:
            raise UsageError(f"--tune: row {number} has no {column}; give EVAL rows, or name a column with --slice")
        value = record[wanted]
        if value is not None and isfinite(value):
            names = record[column] if isinstance(record[column], list) else [record[column]]
            for name in names:
                found[str(name), str(record.get("item", record.get("id", number)))].append(float(value))
    if not found:
        raise UsageError(f"--tune: no row has a {wanted}")
    return {key: sum(values) / len(values) for key, values in found.items()}
