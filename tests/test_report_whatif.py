"""What if a limit were moved: the page's computation against filtering again."""

import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gristmill.report.whatif
from gristmill.filter.limits import DEFAULT_RULES, Limit, Rule, describe
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.report.near_again import falls, rank, thresholds
from gristmill.report.numbers import lengths
from gristmill.report.stops import decimals_of, rounded, stops_of
from gristmill.report.whatif import whatif
from tests.milled import key, milled, pairs, sample, whole

SCRIPT = Path(gristmill.report.whatif.__file__).with_name("whatif.js")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs whatif.js, is not installed")
RULES = (
    Rule("too_short", ((Limit("chars", least=2),), (Limit("words", least=3),))),
    Rule("repetitive", ((Limit("top_2gram", most=0.2), Limit("words", most=19)), (Limit("repeats", most=4),))),
)


def run(program, given_):
    """What a JavaScript expression gives, in which `w` is whatif.js and `given` the JSON value `given_`."""
    head = f"const w = require({json.dumps(str(SCRIPT))}), given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
    code = f"{head} console.log(JSON.stringify({program}));"
    done = subprocess.run(["node", "-e", code], input=json.dumps(given_), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def computed(function, *calls):
    """What a function of whatif.js returns for each of the lists of arguments."""
    return run(f"given.map(arguments_ => w.{function}(...arguments_))", calls)


def estimates(data, stops):
    """What `estimate` returns for each of the lists of stops."""
    return run("given.stops.map(stops => w.estimate(given.data, stops))", {"data": data, "stops": stops})


def loaded(directory):
    summary = json.loads((directory / "summary.json").read_text())
    return whatif(directory, summary, lengths(directory / "rows.parquet").words)


def moved(data, **to):
    """The stops with sliders, by rule and measure as `rule__measure`, moved to these values."""
    names = [f"{control['rule']}__{control['measure']}" for control in data["controls"]]
    return [
        control["stops"].index(to[name]) if name in to else control["base"]
        for name, control in zip(names, data["controls"], strict=True)
    ]


def measured(rows=400, seed=0):
    """Rows with random measures, as `milled` takes them, and what the filter did to them."""
    draw = np.random.default_rng(seed)
    given_ = []
    for n in range(rows):
        values = {
            "rule_chars": draw.integers(0, 12),
            "rule_words": draw.integers(0, 40),
            "rule_repeats": draw.poisson(2),
        }
        values = {name: float(value) for name, value in values.items()} | {"rule_top_2gram": float(draw.beta(1, 5))}
        quality = None if draw.random() < 0.1 else float(draw.normal(3, 1))
        given_.append(sample(f"Q{n}", f"A {n}", score_quality=quality, source_file=f"{n % 3}.jsonl", **values))
    for row, rule in zip(given_, judged(given_, RULES, 2.0), strict=True):
        row["drop_rule"] = rule or ("contaminated" if draw.random() < 0.1 else None)
    return given_


def judged(rows, rules, quality):
    """The first rule, or score, that each row fails, by the limits of the filter itself."""
    found = []
    for row in rows:
        fails = (
            rule.name
            for rule in rules
            if any(all(limit.broken(row[f"rule_{limit.measure}"]) for limit in case) for case in rule.cases)
        )
        score = row["score_quality"]
        other = "unjudged_quality" if score is None else "below_quality" if score < quality else None
        found.append(next(fails, other))
    return found


def written(directory, rows, **rules):
    named = describe(RULES) | {"below_quality": {"measures": {"score_quality": {"min": 2.0}}}, "unjudged_quality": {}}
    return milled(directory, rows, rules=named | {"contaminated": {"against": ["x"]}} | rules)


def limited(quality, words, top, repeats):
    """The rules of `measured` with other limits, and the score's."""
    short, repetitive = RULES
    short = replace(short, cases=(short.cases[0], (Limit("words", least=words),)))
    cases = ((Limit("top_2gram", most=top), Limit("words", most=19)), (Limit("repeats", most=repeats),))
    return (short, replace(repetitive, cases=cases)), quality


@needs_node
@pytest.mark.parametrize("at_once", [1, 4])
def test_any_stops_give_what_the_limits_say(tmp_path, at_once):
    rows = measured()
    data = loaded(written(tmp_path, rows))
    draw = np.random.default_rng(at_once)
    controls = {f"{c['rule']}__{c['measure']}": c for c in data["controls"]}
    names = ["below_quality__quality", "too_short__words", "repetitive__top_2gram", "repetitive__repeats"]
    tried = []
    for _ in range(40):
        chosen = draw.choice(names, at_once, replace=False)
        tried.append({name: float(draw.choice(controls[name]["stops"])) for name in chosen})
    answers = estimates(data, [moved(data, **to) for to in tried])
    for to, answer in zip(tried, answers, strict=True):
        at = {name: to.get(name, controls[name]["stops"][controls[name]["base"]]) for name in names}
        rules, quality = limited(*at.values())
        verdicts = judged(rows, rules, quality)
        fates = [
            verdict or (row["drop_rule"] if row["drop_rule"] == "contaminated" else None)
            for verdict, row in zip(verdicts, rows, strict=True)
        ]
        open_ = [not fate and row["drop_rule"] for fate, row in zip(fates, rows, strict=True)]
        kept = [row for fate, row in zip(fates, rows, strict=True) if fate is None]
        assert (answer["kept"], answer["exact"], answer["unsure"]) == (len(kept), True, sum(map(bool, open_)))
        assert answer["dropped"] == [fates.count(name) for name in data["names"]]
        assert answer["sources"] == [
            sum(row["source_file"] == source["name"] for row in kept) for source in data["sources"]
        ]
        words = [row["rule_words"] for row in kept]
        assert answer["words"][1] == (np.median(words) if words else None)


@needs_node
def test_a_moved_limit_keeps_what_filtering_again_keeps(tmp_path):
    draw = np.random.default_rng(1)
    lines = [
        {
            "prompt": f"Q{n}?",
            "response": " ".join(draw.choice(list("abcdefgh"), n % 60)),
            "quality": float(draw.normal()),
        }
        for n in range(300)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plain = Settings(exact=False, near=None, minimum={"quality": -0.5})
    filter_files([str(source)], tmp_path / "out", plain)
    data = loaded(tmp_path / "out")
    control = data["controls"][0]
    quality = control["stops"][control["base"] + 20]
    stops = moved(data, below_quality__quality=quality, too_short__words=9)
    rules = tuple(
        replace(rule, cases=((Limit("chars", least=1),), (Limit("words", least=9),)))
        if rule.name == "too_short"
        else rule
        for rule in DEFAULT_RULES
    )
    again = filter_files([str(source)], tmp_path / "again", replace(plain, rules=rules, minimum={"quality": quality}))
    answer = computed("estimate", [data, stops])[0]
    assert (answer["kept"], answer["unsure"]) == (again["rows_kept"], 0)
    assert {name: n for name, n in zip(data["names"], answer["dropped"], strict=True) if n} == again["dropped"]


@needs_node
@pytest.mark.parametrize("exact", [True, False])
def test_another_near_threshold_keeps_what_filtering_again_keeps(tmp_path, exact):
    draw = np.random.default_rng(2)
    lines = []
    for _ in range(12):
        words = [f"w{n}" for n in draw.integers(0, 10**6, 60)]
        for _ in range(10):
            changed = [f"x{draw.integers(10**6)}" if draw.random() < 0.02 else word for word in words]
            lines.append({"prompt": "Tell.", "response": " ".join(changed)})
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plain = Settings(rules=(), exact=exact, near=0.5, recall=0.9999)
    filter_files([str(source)], tmp_path / "out", plain)
    data = loaded(tmp_path / "out")
    for threshold in (0.65, 0.9):
        again = filter_files([str(source)], tmp_path / "again", replace(plain, near=threshold, recall=0.9999))
        answer = computed("estimate", [data, moved(data, near_duplicate__near=threshold)])[0]
        assert (answer["kept"], answer["exact"]) == (again["rows_kept"], False), threshold
        assert answer["dropped"][data["near"]["name"]] == again["dropped"].get("near_duplicate", 0)


@needs_node
def test_one_limit_is_counted_over_all_rows_and_several_are_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(gristmill.report.whatif, "SAMPLE", 200)
    rows = measured(1500)
    data = loaded(written(tmp_path, rows))
    quality, words = (
        data["controls"][0],
        next(c for c in data["controls"] if c["measure"] == "words" and c["side"] == "least"),
    )
    covered = 0
    tries = [(q, w) for q in quality["stops"][5::12] for w in words["stops"][1::6]]
    answers = estimates(data, [moved(data, below_quality__quality=q, too_short__words=w) for q, w in tries])
    for (q, w), answer in zip(tries, answers, strict=True):
        short = replace(RULES[0], cases=(RULES[0].cases[0], (Limit("words", least=w),)))
        fates = judged(rows, (short, RULES[1]), q)
        kept = sum(not fate and row["drop_rule"] != "contaminated" for fate, row in zip(fates, rows, strict=True))
        single = q == 2.0 or w == 3
        assert answer["exact"] is single
        assert not single or answer["kept"] == kept
        covered += answer["low"] <= kept <= answer["high"]
    assert covered >= 0.85 * len(tries)
    rows.reverse()
    assert loaded(written(tmp_path / "reversed", rows))["dropped"] == data["dropped"]


@needs_node
def test_intervals_are_wilsons_and_cover():
    # Wilson's interval of 15 in 148 as in Newcombe (1998), table I: 0.0624 to 0.1605.
    assert computed("wilson", [15, 148])[0] == pytest.approx([0.0624, 0.1605], abs=5e-5)
    assert computed("interval", [3, 5, 100, 100])[0] == pytest.approx([-0.02, -0.02])
    draw = np.random.default_rng(3)
    for shares in ([0.02, 0.05, 0.93], [0.4, 0.4, 0.2], [0.0, 0.01, 0.99]):
        drawn = draw.multinomial(300, shares, 400)
        ends = np.array(computed("interval", *([int(gained), int(lost), 300, 10**9] for gained, lost, _ in drawn)))
        truth = shares[0] - shares[1]
        assert np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) > 0.92


@needs_node
def test_the_command_is_safe_for_a_shell(tmp_path):
    nasty = "it's $(rm -rf ~) `x`"
    rows = [sample(f"Q{n}", "A", **{f"score_{nasty}": float(n)}) for n in range(9)]
    rules = describe(RULES) | {f"below_{nasty}": {"measures": {f"score_{nasty}": {"min": 0.0}}}, "own": {}}
    rules["own"] = {"where": "rule_words > 3", "cases": [[{"measure": "own", "most": 0}]]}
    for n, row in enumerate(rows):
        row |= {"rule_own": float(n % 2), "rule_words": 5.0, "rule_chars": 5.0 + n}
    data = loaded(milled(tmp_path, rows, rules=rules, run=f"runs/{nasty}"))
    stops = moved(data, **{f"below_{nasty}__{nasty}": 3, "too_short__chars": 8, "own__own": 1})
    told = computed("command", [data, stops])[0]
    assert shlex.split(told["line"])[2:] == [
        *("--from-run", f"runs/{nasty}", "--min", f"{nasty}=3", "--rules", "rules.yaml", "-o", "NEW")
    ]
    assert told["rules"].splitlines() == [
        "rules:",
        "  - {name: too_short, limits: {chars: 8}}",
        "  - {name: own, most: 1}",
    ]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.sampled_from(["least", "most"]),
    st.integers(0, 10**6),
)
def test_rounding_moves_no_value_over_a_stop(values, side, place):
    array = np.array(values)
    decimals = decimals_of(array)
    low, high = float(array.min()), float(array.max())
    stop = round(low + (high - low) * place / 10**6, decimals)
    short = rounded(array, side, decimals)
    outside = [(value < stop if side == "least" else value > stop) for value in values]
    assert (short < stop if side == "least" else short > stop).tolist() == outside


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(-1e6, 1e6))
def test_stops_hold_the_limit_and_both_ends(values, limit):
    found = stops_of(np.array(values), (min(values), max(values)), limit)
    assert limit in found
    assert found == sorted(set(found))
    assert found[0] <= min(values)
    assert found[-1] >= max(values)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(50, 100), st.booleans()), max_size=25))
def test_what_falls_at_a_threshold_is_what_the_star_takes(tmp_path_factory, drawn):
    ids = sorted(key(f"Q{n}", "A") for n in range(10))
    listed = {(min(a, b), max(a, b)): (j / 100, twin) for a, b, j, twin in drawn if a != b}
    directory = tmp_path_factory.mktemp("pairs")
    pairs(directory, [(ids[a], ids[b], j, twin) for (a, b), (j, twin) in listed.items()])
    at = thresholds(0.8)
    ranks = rank(pa.chunked_array([pa.array(ids)]), pa.chunked_array([pa.array([0] * 10)]))
    bits = falls(directory / "pairs.parquet", at, guard=True).of(ranks, np.zeros(10, np.uint64))
    for stop, threshold in enumerate(at):
        fell = set()
        for worse in range(10):
            if any(
                b == worse and j >= threshold and not twin and a not in fell for (a, b), (j, twin) in listed.items()
            ):
                fell.add(worse)
        assert {n for n in range(10) if int(bits[n]) >> stop & 1} == fell


@needs_node
def test_sliders_at_rest_say_what_the_filter_did(tmp_path):
    data = loaded(whole(tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    answer = estimates(data, [moved(data)])[0]
    assert (answer["kept"], answer["low"], answer["high"], answer["unsure"]) == (3, 3, 3, 0)
    assert {name: n for name, n in zip(data["names"], answer["dropped"], strict=True) if n} == summary["dropped"]
    assert computed("told", [data, answer]) == ["3 of 12 rows kept, as now."]


def test_nothing_to_move_is_no_sliders(tmp_path):
    assert loaded(milled(tmp_path, [sample("Q", "A")], rules={})) is None


def test_the_sample_is_the_same_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(gristmill.report.whatif, "SAMPLE", 50)
    directory = written(tmp_path, measured(300))
    table = pq.read_table(directory / "rows.parquet")
    first = loaded(directory)
    pq.write_table(table.take(list(range(len(table)))[::-1]), directory / "rows.parquet", row_group_size=7)
    again = loaded(directory)
    assert first["controls"] == again["controls"]
    assert sorted(first["words"]) == sorted(again["words"])
