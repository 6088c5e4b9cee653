"""Shares of strata held through the filter."""

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.filter.row_keys import Keys
from gristmill.filter.stratify import Strata, stratify_findings
from tests.test_filter import essay, write

NOTHING = {"rules": (), "exact": False, "near": None}


def filtered(tmp_path, rows, **given):
    data = write(tmp_path / "data.jsonl", rows)
    summary = filter_files([data], tmp_path / "out", Settings(**{"minimum": {"quality": 1.0}, **NOTHING, **given}))
    return pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist(), summary


def pile(strata):
    """Rows by (name, rows, of them with quality 1): the others have 0."""
    return [
        {"instruction": f"Say {name} {n}.", "output": essay(n), "quality": int(n < good), "topic": name}
        for name, count, good in strata
        for n in range(count)
    ]


def shares(rows, stratum, kept=False):
    """The share of each stratum, of all rows or of the kept ones."""
    chosen = [stratum(row) for row in rows if not kept or row["drop_rule"] is None]
    return {name: count / len(chosen) for name, count in Counter(chosen).items()}


def topic(row):
    return json.loads(row["meta"])["topic"]


@pytest.mark.parametrize(
    ("column", "stratum"),
    [
        ("topic", topic),
        ("score_kind", lambda row: row["score_kind"]),
        ("source_file", lambda row: row["source_file"]),
        ("tags", lambda row: tuple(row["tags"])),
    ],
)
def test_shares_hold_to_a_row(tmp_path, column, stratum):
    strata = [("oats", 60, 12), ("rye", 30, 27), ("wheat", 10, 9)]
    rows = pile(strata)
    for row in rows:
        row["score_kind"] = len(row["topic"])
        row["tags"] = [row["topic"], "grain"]
    rows, summary = filtered(tmp_path, rows, stratify=column)
    before, after = shares(rows, stratum), shares(rows, stratum, kept=True)
    kept = summary["rows_kept"]
    assert before.keys() == after.keys()
    for name, share in before.items():
        assert abs(after[name] * kept - share * kept) <= 1
    if column == "source_file":
        assert (kept, summary["dropped"]) == (48, {"below_quality": 52})
    else:
        assert (kept, summary["dropped"]) == (20, {"below_quality": 52, "stratified": 28})
    assert summary["stages"][-1]["name"] == "stratify"
    assert summary["rules"]["stratified"] == {"stratify": column}


def test_a_drop_tells_its_stratum_and_both_shares(tmp_path):
    rows, _ = filtered(tmp_path, pile([("oats", 50, 5), ("rye", 50, 15)]), stratify="topic")
    lost = [row for row in rows if row["drop_rule"] == "stratified"]
    assert len(lost) == 10
    for row in lost:
        assert (topic(row), row["drop_value"], row["drop_limit"]) == ("rye", 0.75, 0.5)
        assert json.loads(row["drop_evidence"]) == {"stratum": "rye"}


def test_fifths_of_the_length_are_strata(tmp_path):
    rows = [
        {"instruction": f"Say {n}.", "output": essay(n, 10 + n), "quality": int(n >= 50 or n % 5 == 0)}
        for n in range(100)
    ]
    given = {key: value for key, value in NOTHING.items() if key != "rules"}
    data = write(tmp_path / "data.jsonl", rows)
    filter_files([data], tmp_path / "out", Settings(minimum={"quality": 1.0}, stratify="length", **given))
    rows = pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    edges = np.quantile([row["rule_chars"] for row in rows], [0.2, 0.4, 0.6, 0.8])
    fifths = shares(rows, lambda row: int(np.searchsorted(edges, row["rule_chars"])), kept=True)
    assert all(abs(share - 0.2) < 0.03 for share in fifths.values()) and len(fifths) == 5
    named = {json.loads(row["drop_evidence"])["stratum"] for row in rows if row["drop_rule"] == "stratified"}
    assert f"{edges[3]:.0f} to more characters" in named


def test_rows_without_an_answer_have_a_length_too(tmp_path):
    rows = [{"instruction": f"Say {n}.", "output": [None, "", essay(n)][n % 3]} for n in range(20)]
    data = write(tmp_path / "data.jsonl", rows)
    summary = filter_files([data], tmp_path / "out", Settings(stratify="length"))
    assert "stratum_lost" in {alarm["name"] for alarm in summary["alarms"]}


def test_the_best_rows_stay_by_score_then_by_the_smallest_id(tmp_path):
    rows = pile([("oats", 40, 10), ("rye", 40, 40)])
    for n, row in enumerate(rows):
        row["rank"] = n % 4
    for prefer in ("rank", None):
        found, _ = filtered(tmp_path, rows, stratify="topic", prefer=prefer, minimum={"quality": 1.0})
        rye = [row for row in found if topic(row) == "rye"]
        best = sorted(rye, key=lambda row: (-row["score_rank"] if prefer else 0, row["id"]))
        assert [row["id"] for row in best[:10]] == sorted(
            (row["id"] for row in rye if row["drop_rule"] is None),
            key=[row["id"] for row in best].index,
        )


def test_a_stratum_without_a_kept_row_raises_an_alarm_and_the_others_hold(tmp_path):
    rows, summary = filtered(tmp_path, pile([("oats", 20, 0), ("rye", 20, 10), ("wheat", 40, 30)]), stratify="topic")
    (alarm,) = (alarm for alarm in summary["alarms"] if alarm["name"] == "stratum_lost")
    assert alarm["message"] == "no row of the stratum 'oats' is kept, of 20; its share cannot be held"
    assert Counter(topic(row) for row in rows if row["drop_rule"] is None) == {"rye": 10, "wheat": 20}


def test_rows_that_lack_the_key_are_a_stratum(tmp_path):
    rows = pile([("oats", 10, 5)]) + [{"instruction": f"And {n}.", "output": essay(n), "quality": 1} for n in range(10)]
    found, _ = filtered(tmp_path, rows, stratify="topic")
    assert Counter(bool(row["meta"]) for row in found if row["drop_rule"] is None) == {True: 5, False: 5}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("nope", "--stratify nope: no row has it; allowed are id, "),
        ("length", "--stratify length: allowed are id, "),
        ("number", "--stratify number: 1,200 values; allowed are 1,000"),
    ],
)
def test_what_is_no_stratum_is_refused_in_one_line(tmp_path, column, message):
    rows = [{"instruction": f"Say {n}.", "output": "So.", "quality": 1, "number": n} for n in range(1_200)]
    with pytest.raises(UsageError) as refused:
        filtered(tmp_path, rows, stratify=column)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), max_size=80))
@settings(deadline=None)
def test_any_shares_hold_as_well_as_whole_rows_can(rows):
    strata = np.array([stratum for stratum, _, _ in rows], np.int64)
    kept = np.array([keeps for _, keeps, _ in rows], bool)
    score = np.array([score for _, _, score in rows], float)
    number = np.arange(len(rows), dtype=np.uint64)
    keys = Keys(number[::-1].copy(), number, np.zeros(len(rows), np.int32))
    found = stratify_findings(keys, Strata(strata, [f"s{n}" for n in range(6)]), kept, score)
    lost = found.findings["row"].to_pylist()
    assert set(lost) <= set(np.flatnonzero(kept).tolist())
    left = kept.copy()
    left[lost] = False
    before, after, rest = (np.bincount(strata[mask], minlength=6).tolist() for mask in (kept | True, kept, left))
    assert len(found.alarms) == sum(b > 0 and a == 0 for b, a in zip(before, after, strict=True))
    alive = [n for n in range(6) if after[n]]
    if not alive:
        return
    factor = min(Fraction(after[n], before[n]) for n in alive)  # what the one that lost most allows of each
    for n in alive:
        assert before[n] * factor <= rest[n] < before[n] * factor + 1
    assert any(rest[n] == after[n] for n in alive)
    for n in alive:  # the best stay
        mine = np.flatnonzero(kept & (strata == n)).tolist()
        best = sorted(mine, key=lambda row: (-score[row], len(rows) - row))
        assert {row for row in mine if left[row]} == set(best[: rest[n]])
