import json

import numpy as np
import pyarrow as pa
import pytest

from gristmill.cli.filter import printed
from gristmill.filter import balance as module
from gristmill.filter import shift
from gristmill.filter.axes import axes, measured
from gristmill.filter.balance import Balance, balance, compare
from gristmill.filter.bias import LEAST_DISTANCE, LEAST_EFFECT
from gristmill.filter.pipeline import Settings, filter_files
from tests.tables import table

WORDS = ["grain", "stone", "wheel", "river", "flour", "sack", "mill", "rye"]
ASKS = ["Write about {}", "Explain {}", "What is {}?", "How does a {} turn?", "Is {} old?", "The {} is old."]


def rows(count, seed=0):
    """Samples of three sources with skewed lengths, a few-valued score, a reward that follows length, tags and code."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(2.5, 0.8, count), 1, 60).astype(int)
    found = []
    for n, length in enumerate(lengths):
        said = " ".join(random.choice(WORDS, length))
        found.append(
            {
                "prompt": ASKS[random.integers(len(ASKS))].format(WORDS[n % 8]) + f" {n}",
                "response": f"```\n{said}\n```" if n % 9 == 0 else f"{said}.",
                "source_file": str(random.choice(["a.jsonl", "b.jsonl", "c.jsonl"], p=[0.8, 0.15, 0.05])),
                "tags": [str(tag) for tag in random.choice(["math", "prose", "rare"], 2, p=[0.6, 0.35, 0.05])],
                "model": ["one", "two"][n % 2],
                "score_quality": float(random.choice([1, 4, 5], p=[0.02, 0.3, 0.68])),
                "score_reward": float(np.log(length) + random.normal(0, 0.8)),
            }
        )
    return found


def marked(given, rules):
    """The table of `given`, dropped by `rules` (None is kept)."""
    arrow = table("sample", given).to_arrow()
    return arrow.append_column("drop_rule", pa.array(rules, pa.large_string()))


def summary(arrow, kind="sample", window=10_000):
    collected = Balance(kind, len(arrow))
    for start in range(0, len(arrow), window):
        collected.add(arrow.slice(start, window))
    return collected.summary()


def axis(found, name):
    return next(each for each in found["axes"] if each["name"] == name)


@pytest.fixture
def quick(monkeypatch):
    """Intervals decide nothing, and take half the time."""
    monkeypatch.setattr(shift, "BOOTSTRAPS", 10)


@pytest.fixture(scope="module")
def many():
    arrow = table("sample", rows(1_000)).to_arrow()
    return measured(arrow, "sample", pa.array(np.zeros(len(arrow), bool)))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("size", [50, 300])
def test_a_filter_that_looks_at_nothing_is_hardly_ever_flagged_on_any_axis(many, size):
    alarms = 0
    for trial in range(100):
        random = np.random.default_rng([size, trial])
        drawn = many.take(pa.array(random.choice(len(many), size, replace=False)))
        share = [0.1, 0.3, 0.5, 0.9][trial % 4]
        rules = np.where(random.random(size) < share, 0, random.integers(1, 3, size))
        alarms += bool(compare(axes(drawn), rules, ["", "one", "two"])["alarms"])
    assert alarms <= 5


def planted(name, values, random):
    z = (np.log(values) - np.log(values).mean()) / np.log(values).std()
    return {
        "odds": lambda: random.random(len(z)) < 1 / (1 + np.exp(-1.5 * z)),
        "threshold": lambda: values > np.quantile(values, 0.3),
        "middle": lambda: np.abs(z) < 0.7,
    }[name]()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["odds", "threshold", "middle"])
def test_a_planted_bias_of_length_is_found_and_its_rule_named(many, name):
    for trial in range(10):
        random = np.random.default_rng(trial)
        drawn = many.take(pa.array(random.choice(len(many), 300, replace=False)))
        kept = planted(name, drawn["length"].to_numpy(), random)
        rules = np.where(kept, np.where(random.random(300) < 0.05, 2, 0), 1)
        found = axis(compare(axes(drawn), rules, ["", "guilty", "innocent"]), "length")
        assert found["biased"] and "by guilty (" in found["message"]


def test_a_threshold_on_a_score_that_follows_length_is_named_but_not_on_the_score():
    given = rows(600)
    rules = ["below_reward" if row["score_reward"] < 2.5 else None for row in given]
    found = summary(marked(given, rules))
    length, reward = axis(found, "length"), axis(found, "score_reward")
    assert length["effect_size"] >= LEAST_EFFECT
    assert length["effect_interval"][0] < length["effect_size"] < length["effect_interval"][1]
    assert length["message"].startswith("length: long answers survive: the median goes from ")
    assert f"all of it by below_reward (all {sum(r is not None for r in rules)} dropped rows)" in length["message"]
    assert not reward["biased"] and reward["asked_for"] == ["below_reward"] and reward["effect_size"] > 0.3
    assert length["message"] in found["warnings"]
    assert {"name": "bias", "value": length["effect_size"], "limit": LEAST_EFFECT} in [
        {name: alarm[name] for name in ("name", "value", "limit")} for alarm in found["alarms"]
    ]
    json.dumps(found)


def test_a_source_that_vanishes_is_named_with_its_shares():
    given = rows(600)
    found = summary(marked(given, ["near_duplicate" if row["source_file"] == "b.jsonl" else None for row in given]))
    source = axis(found, "source")
    assert source["js_distance"] >= LEAST_DISTANCE
    before = {value["value"]: value["before"] for value in source["values"]}
    after = {value["value"]: value["after"] for value in source["values"]}
    assert after == pytest.approx(
        {
            "a.jsonl": before["a.jsonl"] / (1 - before["b.jsonl"]),
            "b.jsonl": 0.0,
            "c.jsonl": before["c.jsonl"] / (1 - before["b.jsonl"]),
        }
    )
    assert f"b.jsonl falls from {before['b.jsonl']:.1%} to 0.0% of the rows, a.jsonl rises" in source["message"]
    assert all(low <= value["after"] <= high for value in source["values"] for low, high in [value["interval"]])


def test_shares_and_numbers_are_of_all_rows_and_of_the_kept():
    given = [{"prompt": f"{n}", "response": "word " * n, "score_q": float(n % 3)} for n in range(1, 31)]
    found = summary(marked(given, [None if n > 10 else "x" for n in range(1, 31)]))
    length, score = axis(found, "length"), axis(found, "score_q")
    assert (found["rows"], found["kept"], found["sampled"], length["rows"], length["kept"]) == (30, 20, 30, 30, 20)
    assert length["before"] == pytest.approx({"p10": 3.9, "p50": 15.5, "p90": 27.1, "mean": 15.5})
    assert length["after"] == pytest.approx({"p10": 12.9, "p50": 20.5, "p90": 28.1, "mean": 20.5})
    assert [(each["from"], each["to"]) for each in score["bins"]] == [(0, 0), (1, 1), (2, 2)]
    assert sum(each["before"] for each in length["bins"]) == pytest.approx(1)
    # P(kept > any row) - P(kept < any row): all ten dropped are below, the kept are even.
    assert length["effect_size"] == pytest.approx(1 / 3)


def test_each_tag_is_an_axis_and_few_rows_are_not_judged():
    given = [{"prompt": f"{n}", "response": "x", "tags": ["a"] * (n < 8) + ["b"] * (n % 2)} for n in range(16)]
    found = summary(marked(given, ["x" if n < 8 else None for n in range(16)]))
    tag = axis(found, "tag:a")
    assert {each["value"]: (each["before"], each["after"]) for each in tag["values"]} == {
        "no": (0.5, 1),
        "yes": (0.5, 0),
    }
    assert tag["p_value"] is None and not found["warnings"]
    assert "tag:b" in [each["name"] for each in found["axes"]]


def test_windows_and_their_order_change_nothing(monkeypatch):
    given = rows(900)
    arrow = marked(given, ["x" if row["score_quality"] < 5 else None for row in given])
    assert summary(arrow, window=70) == summary(arrow)
    monkeypatch.setattr(module, "SAMPLE", 300)
    whole = summary(arrow)
    assert 200 < whole["sampled"] < 400 and whole["rows"] == 900 and "in a sample of" in " ".join(whole["warnings"])
    assert summary(arrow, window=70) == whole

    def rounded(found):
        return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 9))

    assert rounded(summary(arrow.take(pa.array(np.random.default_rng(1).permutation(900))))) == rounded(whole)


def test_nothing_dropped_nothing_kept_and_no_rows():
    given = rows(40)
    untouched = balance(table("sample", given))
    assert not untouched["warnings"] and {each["js_distance"] for each in untouched["axes"]} == {0.0}
    assert summary(marked(given, ["x"] * 40)) == {
        **{"rows": 40, "kept": 0, "sampled": 40},
        **{"axes": [], "warnings": [], "alarms": []},
    }
    assert Balance("sample", 0).summary()["axes"] == []


def test_a_table_of_prompts_is_measured_by_its_last_messages():
    given = [{"prompt": "word " * (n + 1)} for n in range(40)]
    arrow = table("prompt", given).to_arrow().append_column("drop_rule", pa.array([None, "x"] * 20, pa.large_string()))
    found = summary(arrow, "prompt")
    assert axis(found, "length")["before"]["p50"] == 20.5
    arrow = arrow.set_column(
        arrow.schema.get_field_index("drop_rule"), "drop_rule", pa.array(["x"] * 20 + [None] * 20, pa.large_string())
    )
    assert axis(summary(arrow, "prompt"), "length")["message"].startswith("length: long prompts survive: ")
    assert "prompt length" not in [each["name"] for each in found["axes"]]


def test_balance_of_a_preference_table_looks_at_the_chosen_answers():
    import daft

    given = [{"prompt": f"{n}", "chosen": "word " * (n + 1), "rejected": "x"} for n in range(40)]
    arrow = table("preference", given).to_arrow()
    arrow = arrow.append_column("drop_rule", pa.array(["x"] * 20 + [None] * 20, pa.large_string()))
    assert axis(balance(daft.from_arrow(arrow)), "length")["after"]["p50"] == 30.5


def test_the_filter_writes_and_prints_the_warning(tmp_path):
    given = [{"prompt": f"Question {n}?", "response": f"{n} " * (n + 1), "score_quality": n // 30} for n in range(120)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    settings = Settings(minimum={"quality": 2.0}, near=None, rules=())
    found = filter_files([str(tmp_path / "in.jsonl")], tmp_path / "out", settings)
    length = axis(found["balance"], "length")
    assert length["biased"] and "by below_quality" in length["message"]
    assert f"ALARM bias: {length['message']}" in printed(found, tmp_path / "out", settings)
