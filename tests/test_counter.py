"""Counterexamples: of the kinds that were asked for, right, new, from the training half, and mixed with old data."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gristmill.errors import BadInput, UsageError
from gristmill.loop.clusters_table import read_clusters
from gristmill.loop.counter import likeness
from gristmill.loop.counter_files import Plan
from gristmill.loop.counter_inputs import index_of, maker, maker_of, replayed
from tests.test_mine import gristmill, rows, write

FAKE = r'''
import re

def reply(messages, sampling):
    """A model that writes tasks about cakes, and answers them, wrongly where their number is a multiple of five."""
    text = messages[-1]["content"]
    number = sampling.get("seed", 0) % 10007
    if "Change as few words" in text:
        asked, answer = re.search(r"<task>\n(.*?)\n</task>", text, re.S)[1], re.search(r"Answer: (\d+)", text)[1]
        changed = asked.replace("halves", "thirds")
        return f"<prompt>{changed}</prompt><response>So.\nAnswer: {int(answer) + 1}</response>"
    if "<task>" in text:
        return (f"<prompt>Of {number} cakes in {number % 97 + 3} halves, how much is left over today?</prompt>"
                f"<response>Count.\nAnswer: {number}</response>")
    number = int(re.search(r"Of (\d+) cakes", text)[1])
    return f"Answer: {number + ('thirds' in text) + (number % 5 == 0)}"
'''


@pytest.fixture
def mined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A directory with evaluations, their clusters `c.parquet`, and a scripted model `fake.yaml`."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "e.jsonl", rows())
    (tmp_path / "fake_replies.py").write_text(FAKE)
    (tmp_path / "fake.yaml").write_text("replies: [{regex: '.', function: 'fake_replies:reply'}]\n")
    gristmill(capsys, "mine", "e.jsonl", "-o", "c.parquet")
    return tmp_path


def made(path: str = "x.parquet") -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]


def kept(path: str = "x.parquet") -> list[dict[str, Any]]:
    return [row for row in made(path) if row["drop_rule"] is None]


@pytest.mark.usefixtures("mined")
def test_every_kind_comes_in_its_share_from_seeds_of_the_training_half(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(
        gristmill(capsys, "counter", "c.parquet", "-m", "fake:fake.yaml", "-o", "x.parquet", "-n", 10, "--json")
    )
    assert Counter(row["flag_counter"] for row in kept()) == {
        "look_alike": 4,
        "contrast": 2,
        "boundary": 2,
        "negative": 2,
    }
    assert told["rows_kept"] == 10 and told["weights"]["look_alike"] == pytest.approx(0.4)
    halves = {member["id"]: member["half"] for member in read_clusters("c.parquet")[0]["members"]}
    seeds = {parent for row in made() for parent in row["parents"] if parent in halves}
    assert seeds and {halves[seed] for seed in seeds} == {"train"}
    assert {row["flag_review"] for row in kept()} == {"answer"} and told["for_people"] == 10
    assert {row["flag_cluster"] for row in kept()} == {told["clusters"][0]["cluster"]}


@pytest.mark.usefixtures("mined")
def test_a_contrast_pair_differs_in_few_words_and_in_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    gristmill(capsys, "counter", "c.parquet", "-m", "fake:fake.yaml", "-o", "x.parquet", "-n", 10)
    by_id = {row["id"]: row for row in kept()}
    pairs = [(row, by_id[row["flag_pair"]]) for row in kept() if row["flag_counter"] == "contrast"]
    assert len(pairs) == 2
    for row, base in pairs:
        assert base["flag_counter"] == "look_alike" and base["id"] in row["parents"]
        assert base["reference"] != row["reference"]
        assert likeness(base["prompt"][-1]["content"], row["prompt"][-1]["content"]) > 0.8


@pytest.mark.usefixtures("mined")
def test_answers_that_another_answer_does_not_confirm_are_dropped_and_made_up_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["counter", "c.parquet", "-m", "fake:fake.yaml", "-o", "x.parquet", "-n", 20, "--verify", "answer"]
    told = json.loads(gristmill(capsys, *arguments, "--share", "look_alike=1", "--json"))
    assert told["dropped"].get("unverified", 0) > 0
    assert told["rows_kept"] == 20 and told["for_people"] == 0
    for row in made():
        number = int(re.search(r"Of (\d+)", row["prompt"][-1]["content"])[1])  # type: ignore[index]
        assert (row["drop_rule"] == "unverified") == (number % 5 == 0) or row["drop_rule"] == "exact_duplicate"
        assert row["score_answer"] == float(number % 5 != 0)


@pytest.mark.usefixtures("mined")
def test_the_same_again_asks_nothing_and_gives_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["counter", "c.parquet", "-m", "fake:fake.yaml", "-n", 10, "--verify", "answer", "--json"]
    one = json.loads(gristmill(capsys, *arguments, "-o", "x.parquet"))
    two = json.loads(gristmill(capsys, *arguments, "-o", "y.parquet"))
    assert one["hits"] < one["calls"] == two["calls"] == two["hits"]
    assert made("x.parquet") == made("y.parquet")


def test_a_row_that_is_an_evaluation_item_is_contaminated_in_either_half(
    mined: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mined / "own.py").write_text(
        "def rows(cluster, n, seed):\n"
        "    leaked = [{'prompt': 'Find the area of a rectangle with sides 5 and 7 metres today.', 'response': '35'}]\n"
        "    again = [{'prompt': cluster['items'][0]['prompt'], 'response': '1'}]\n"
        "    new = [{'prompt': f'What is left of {seed * 100 + i} halves?', 'response': str(i)} for i in range(n)]\n"
        "    return (new if seed else leaked + again + new)[:n]\n"
    )
    write(mined / "suite.jsonl", [{"question": "Find the area of a rectangle with sides 5 and 7 metres today."}])
    arguments = ["counter", "c.parquet", "--with", "own.py:rows", "-o", "x.parquet", "-n", 6, "--json"]
    told = json.loads(gristmill(capsys, *arguments, "--against", "suite.jsonl"))
    assert told["rows_kept"] == 6
    rules = Counter(row["drop_rule"] for row in made())
    assert rules["contaminated"] >= 2 and rules[None] == 6
    leaked = next(row for row in made() if row["drop_rule"] and "rectangle" in row["prompt"][0]["content"])
    assert "suite.jsonl" in leaked["drop_evidence"]
    assert any(Path(path).name == "e.jsonl" for path in told["against"])  # what the clusters were mined from


def test_rows_of_a_function_are_verified_and_may_not_come_from_the_held_out_half(
    mined: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = next(each for each in read_clusters("c.parquet")[0]["members"] if each["half"] == "held_out")
    (mined / "own.py").write_text(
        "def rows(cluster, n, seed):\n"
        f"    parents = ['{held['id']}']\n"
        "    return [{'prompt': f'Shorten {seed}{i} of 9 pies', 'response': str(i % 2), 'reference': '1',\n"
        "             'kind': 'negative' if i % 3 else 'look_alike', 'slot_side': 'left',\n"
        "             'parents': parents if i == 1 else []} for i in range(n)]\n"
    )
    arguments = ["counter", "c.parquet", "--with", "own.py:rows", "-o", "x.parquet", "-n", 6, "--json"]
    told = json.loads(gristmill(capsys, *arguments, "--verify", "exact"))
    assert told["dropped"]["unverified"] > 0 and told["dropped"]["held_out_seed"] > 0
    assert {row["response"] for row in kept()} == {"1"} and told["rows_kept"] == len(kept()) <= 6
    assert {row["slot_side"] for row in made()} == {"left"}
    dropped = next(row for row in made() if row["drop_rule"] == "held_out_seed")
    assert json.loads(dropped["drop_evidence"])["of"] == held["id"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def rows(cluster, n, seed):\n    raise ValueError('no\\nunit')\n", "ValueError: no unit (own.py, line 2)"),
        (
            "def rows(cluster, n, seed):\n    return None\n",
            "gave NoneType; a function of (cluster, n, seed) returns rows",
        ),
        ("def rows(cluster, n, seed):\n    yield 3\n", "row 0 is a int"),
        ("import nothing_so_called\n", "No module named 'nothing_so_called' (own.py, line 1)"),
        ("def rows(\n", "SyntaxError"),
    ],
)
def test_what_a_function_does_wrong_is_one_line(
    mined: Path, capsys: pytest.CaptureFixture[str], code: str, said: str
) -> None:
    (mined / "own.py").write_text(code)
    error = gristmill(capsys, "counter", "c.parquet", "--with", "own.py:rows", "-o", "x.parquet", code=2)
    assert said in error.splitlines()[-1]


def test_replay_has_its_share_and_does_not_leak(mined: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = [{"prompt": f"Spell the word number {n}.", "response": str(n)} for n in range(40)]
    old.append({"prompt": "Simplify the fraction 5 over 3 with a common divisor.", "response": "x"})
    write(mined / "old.jsonl", old)
    arguments = ["counter", "c.parquet", "-m", "fake:fake.yaml", "-o", "x.parquet", "-n", 10, "--replay", "old.jsonl"]
    told = json.loads(gristmill(capsys, *arguments, "--json"))
    assert told["replay"]["wanted"] == 10 and told["weights"]["replay"] == pytest.approx(0.5, abs=0.03)
    told = json.loads(gristmill(capsys, *arguments, "--replay-share", "75%", "--json"))
    assert told["weights"]["replay"] == pytest.approx(0.75, abs=0.02)
    assert sum(told["weights"].values()) == pytest.approx(1)
    out = gristmill(capsys, *arguments, "--replay-share", "90%")
    assert "warning: replay has" in out


def test_failed_calls_are_rows_with_a_reason_and_stop_the_run_beyond_a_share(
    mined: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mined / "mute.yaml").write_text("replies: [{default: 'I would rather not.'}]\n")
    told = json.loads(
        gristmill(capsys, "counter", "c.parquet", "-m", "fake:mute.yaml", "-o", "x.parquet", "-n", 5, "--json")
    )
    assert told["rows_kept"] == 0 and set(told["dropped"]) == {"failed"}
    assert all("<prompt>" in row["error"] for row in made())


@pytest.mark.usefixtures("mined")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "name a model (-m) or a function (--with"),
        (["-m", "fake:fake.yaml", "--share", "odd=1"], "--share odd: allowed are look_alike"),
        (["-m", "fake:fake.yaml", "--cluster", "nope"], "--cluster nope: not in c.parquet"),
        (["-m", "fake:fake.yaml", "--replay-share", "100%"], "--replay-share 100%"),
        (["--with", "gone.py:rows"], "--with gone.py:rows: no file gone.py"),
        (["--with", "gone:rows"], "--with gone:rows: write FILE.py:FUNCTION"),
        (["-m", "fake:fake.yaml", "--asks", "."], "--asks .: holds none of look_alike.yaml"),
    ],
)
def test_bad_flags_are_one_line(capsys: pytest.CaptureFixture[str], flags: list[str], said: str) -> None:
    error = gristmill(capsys, "counter", "c.parquet", "-o", "x.parquet", *flags, code=2)
    assert said in error.splitlines()[-1]


def test_templates_of_ones_own_take_the_place_of_the_shipped_ones(
    mined: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mined / "asks").mkdir()
    (mined / "asks" / "look_alike.yaml").write_text(
        "name: mine\nneeds: [prompt]\nmakes: [prompt, response]\n"
        "prompt: 'OWN {{ cluster }} {{ others | length }}: {{ prompt }}'\n"
    )
    (mined / "own.yaml").write_text(
        "replies: [{regex: '^OWN .* 2: Simplify', reply: '<prompt>A new one</prompt><response>2</response>'}]\n"
    )
    flags = ["--asks", "asks", "--share", "look_alike=1", "-n", 1]
    gristmill(capsys, "counter", "c.parquet", "-m", "fake:own.yaml", "-o", "x.parquet", *flags)
    assert [row["response"] for row in kept()] == ["2"]


def test_an_evaluation_is_mined_and_its_suite_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    items = [
        {"prompt": f"Is {n} {side} of here?", "reference": "yes", "slot_side": side}
        for n in range(60)
        for side in ("left", "right")
    ]
    write(tmp_path / "items.jsonl", items)
    (tmp_path / "suite.yaml").write_text("name: sides\nitems: items.jsonl\nscores: [exact]\nslices: [slot_side]\n")
    (tmp_path / "model.yaml").write_text("replies: [{match: left, reply: 'no'}, {default: 'yes'}]\n")
    (tmp_path / "own.py").write_text(
        "def rows(cluster, n, seed):\n"
        "    assert cluster['definition'] == 'side = left'\n"
        "    return [{'prompt': f'Is {59 - i} right of here?', 'response': 'yes'} for i in range(n)]\n"
    )
    gristmill(capsys, "eval", "suite.yaml", "-m", "fake:model.yaml", "-o", "evals.parquet")
    told = json.loads(gristmill(capsys, "mine", "evals.parquet", "-o", "c.parquet", "--json"))
    assert [(each["definition"], each["rate"]) for each in told["clusters"]] == [("side = left", 1.0)]
    told = json.loads(
        gristmill(capsys, "counter", "c.parquet", "--with", "own.py:rows", "-o", "x.parquet", "-n", 3, "--json")
    )
    assert told["rows_kept"] == 0 and set(told["dropped"]) == {"contaminated"}


def test_quotas_add_up() -> None:
    for n in range(1, 40):
        quotas = Plan(n=n, shares={"look_alike": 1, "contrast": 1, "negative": 1}).quotas()
        assert sum(quotas.values()) == n and quotas["boundary"] == 0
        assert max(quotas.values()) - min(quotas[kind] for kind in ("look_alike", "contrast", "negative")) <= 1


@pytest.mark.usefixtures("mined")
def test_a_spent_budget_stops_with_the_rows_so_far_and_more_goes_on_from_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["counter", "c.parquet", "-m", "fake:fake.yaml", "-o", "x.parquet", "-n", 30, "--verify", "answer"]
    error = gristmill(capsys, *arguments, "--max-tokens-total", 5500, code=1)
    assert "tokens" in error.splitlines()[-1]
    few = kept()
    assert 0 < len(few) < 30
    told = json.loads(gristmill(capsys, *arguments, "--json"))
    assert told["rows_kept"] == 30 and told["hits"] > 0
    assert {row["id"] for row in few} <= {row["id"] for row in kept()}
    gristmill(capsys, *[*arguments[:4], "-o", "whole.parquet", *arguments[6:]], "--run", "fresh")
    assert made("whole.parquet") == made()


def test_tiny_is_the_maker_of_the_embedded_models_world() -> None:
    make = maker(maker_of("tiny"))
    made = make({"definition": "borrow = yes", "items": []}, 5, 0)
    assert [row["slot_borrow"] for row in made] == ["yes"] * 5
    assert (maker_of(None), maker_of("mine.py:more")) == ("", "mine.py:more")
    with pytest.raises(UsageError, match=r"FILE\.py:FUNCTION.* or tiny"):
        maker("small")


def test_broken_lines_of_the_replay_are_told_and_the_others_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "old.jsonl"
    good = [json.dumps({"prompt": f"What is {n} + 1?", "response": f"Answer: {n + 1}"}) for n in range(10)]
    old.write_text("\n".join([*good[:5], "{broken", *good[5:]]) + "\n")
    assert len(replayed([str(old)], 100, index_of([], [], []), seed=0)) == 10
    assert "1 bad rows left out" in caplog.text and "old.jsonl:5" in caplog.text
    old.write_text("\n".join([*good, *["{broken"] * 6]) + "\n")
    with pytest.raises(BadInput, match="6 of 16 rows"):
        replayed([str(old)], 100, index_of([], [], []), seed=0)
