"""Scores: verdicts in order, None kept apart from 0, and none reached twice."""

import json
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gristmill.cli.score import missing
from gristmill.errors import BadInput, Refused, UsageError
from gristmill.run import Run
from gristmill.score.cache import Scores, cached
from gristmill.score.named import score
from gristmill.score.pipeline import score_files
from gristmill.score.score import Item, Score, Verdict, each


def length(item: Item) -> Verdict:
    return Verdict(float(len(item.response or "")), "scored")


def rows_file(path: Path, rows: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def counting(calls: list[int]) -> Score:
    def judge(items: Sequence[Item]) -> list[Verdict]:
        calls.append(len(items))
        return each(length, items)

    return Score("length", "1", judge)


def test_verdicts_come_in_order_and_a_missing_response_is_not_judged() -> None:
    made = Score("length", "1", partial(each, length))
    got = made([Item("abc"), Item(None), Item("")])
    assert [v.value for v in got] == [3.0, None, 0.0]
    assert got[1].verdict == "no_response"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_judge_that_loses_or_invents_verdicts_is_a_defect(count: int) -> None:
    made = Score("bad", "1", lambda _: [Verdict(1.0, "yes")] * count)
    with pytest.raises(ValueError, match="verdicts"):
        made([Item("a"), Item("b")])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_finite_number_is_an_error_not_a_score(value: float) -> None:
    (verdict,) = Score("odd", "1", lambda items: [Verdict(value, "scored") for _ in items])([Item("a")])
    assert verdict.value is None and verdict.verdict == "error"


def test_equal_items_are_judged_once_and_the_rest_are_hits(tmp_path: Path) -> None:
    calls: list[int] = []
    cache = Scores(tmp_path)
    made = cached(counting(calls), cache)
    assert [v.value for v in made([Item("a"), Item("bb"), Item("a")])] == [1, 2, 1]
    assert [v.value for v in made([Item("bb"), Item("ccc")])] == [2, 3]
    assert calls == [2, 1]
    assert cache.hits["length"] == 2 and cache.judged["length"] == 3
    assert [v.value for v in cached(counting(calls), Scores(tmp_path))([Item("a")])] == [1]
    assert calls == [2, 1]


@pytest.mark.parametrize(
    "other",
    [
        Item("a", "r"),
        Item("a", reasoning="b"),
        Item("a", prompt=[{"role": "user", "content": "b"}]),
        Item("a", prompt=[{"role": "system", "content": "b"}]),
    ],
)
def test_the_key_covers_all_that_a_score_may_look_at(other: Item) -> None:
    made = Score("s", "1", partial(each, length))
    assert made.key(other) != made.key(Item("a"))


def test_the_key_covers_the_score_and_the_meta_it_reads_but_no_other() -> None:
    item = Item("a", meta={"x": 1, "y": 2})
    keys = {
        Score("s", "1", each_length).key(item),
        Score("t", "1", each_length).key(item),
        Score("s", "2", each_length).key(item),
        Score("s", "1", each_length, {"p": 1}).key(item),
        Score("s", "1", each_length, reads=["x"]).key(item),
    }
    assert len(keys) == 5
    reads = Score("s", "1", each_length, reads=["x"])
    assert reads.key(item) == reads.key(Item("a", meta={"x": 1, "y": 3}))
    assert reads.key(item) != reads.key(Item("a", meta={"x": 2}))


each_length = partial(each, length)


@pytest.mark.parametrize("word", ["timeout", "crash", "error"])
def test_a_failure_is_never_remembered(tmp_path: Path, word: str) -> None:
    answers = [Verdict(None, word), Verdict(1.0, "correct")]
    made = cached(Score("s", "1", lambda items: [answers.pop(0) for _ in items]), Scores(tmp_path))
    assert made([Item("a")])[0].verdict == word
    assert made([Item("a")])[0].verdict == "correct"
    assert made([Item("a")])[0].verdict == "correct"


def test_threads_never_judge_one_item_twice(tmp_path: Path) -> None:
    seen: list[str | None] = []
    barrier = threading.Barrier(8)

    def judge(items: Sequence[Item]) -> list[Verdict]:
        seen.extend(item.response for item in items)
        return each(length, items)

    made = cached(Score("s", "1", judge), Scores(tmp_path))

    def work() -> None:
        barrier.wait()
        for start in range(0, 100, 20):
            made([Item(f"{n}") for n in range(start, start + 30)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 110


def test_a_score_that_fails_gives_its_claims_back(tmp_path: Path) -> None:
    def broken(_: Sequence[Item]) -> list[Verdict]:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        cached(Score("s", "1", broken), Scores(tmp_path))([Item("a")])
    assert cached(Score("s", "1", each_length), Scores(tmp_path))([Item("a")])[0].value == 1


WORKER = """
import sys, time
from pathlib import Path
from gristmill.score.cache import Scores, cached
from gristmill.score.score import Item, Score, Verdict

def judge(items):
    with open(sys.argv[2], "a") as log:
        for item in items:
            log.write(item.response + "\\n")
    time.sleep(0.02 * len(items))
    return [Verdict(float(len(item.response)), "scored") for item in items]

made = cached(Score("s", "1", judge), Scores(Path(sys.argv[1])))
for start in range(0, 60, 10):
    got = made([Item(f"row {n}") for n in range(start, start + 15)])
    assert [v.value for v in got] == [len(f"row {n}") for n in range(start, start + 15)]
"""


def test_two_processes_never_judge_one_item_twice_and_a_killed_one_holds_nothing_up(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(textwrap.dedent(WORKER))
    arguments = [sys.executable, str(script), str(tmp_path / "run"), str(tmp_path / "log")]
    both = [subprocess.Popen(arguments) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]
    judged = (tmp_path / "log").read_text().split("\n")[:-1]
    assert len(judged) == len(set(judged)) == 65

    killed = tmp_path / "killed"
    (tmp_path / "killed.py").write_text(WORKER.replace("time.sleep(0.02 * len(items))", "time.sleep(600)"))
    first = subprocess.Popen([sys.executable, str(tmp_path / "killed.py"), str(killed), str(tmp_path / "log2")])
    while not (tmp_path / "log2").exists():
        pass
    first.kill()
    first.wait()
    assert (
        subprocess.run([*arguments[:2], str(killed), str(tmp_path / "log3")], timeout=30, check=False).returncode == 0
    )


def test_a_cached_score_can_be_pickled(tmp_path: Path) -> None:
    made = pickle.loads(pickle.dumps(cached(score("exact"), Scores(tmp_path))))
    assert made([Item("a", "a"), Item("a", "b"), Item("a")]) == [
        (1, "correct", ""),
        (0, "wrong", ""),
        (None, "no_reference", ""),
    ]


MINE = """
def near(response, reference, meta, by: int = 1):
    if reference == "?":
        return None, "no gold"
    if reference == "!":
        raise ValueError("odd\\nrow")
    return abs(int(response) - int(reference)) <= by, f"{response} for {reference}"

def halves(response):
    return len(response) / 2

def odd(response):
    return "text"
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


def test_a_function_of_the_users_is_a_score(mine: str) -> None:
    items = [Item("3", "4"), Item("3", "9"), Item("3", "?"), Item("3", "!")]
    assert score(f"{mine}:near")(items) == [
        (1, "yes", "3 for 4"),
        (0, "no", "3 for 9"),
        (None, "unjudged", "no gold"),
        (None, "error", "ValueError: odd row"),
    ]
    assert score(f"{mine}:near,by=6")(items[1:2])[0].value == 1
    assert score(f"{mine}:halves,name=half").name == "half"
    assert score(f"{mine}:odd")(items[:1])[0].verdict == "error"


def test_an_edited_function_is_another_version(mine: str) -> None:
    before = score(f"{mine}:halves").version
    Path(mine).write_text(MINE + "\n# changed\n")
    assert score(f"{mine}:halves").version != before


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nosuch", "allowed are"),
        ("exact:x", "takes no argument"),
        ("exact,tolerance=1", "no parameter 'tolerance'"),
        ("exact,tolerance", "write NAME=VALUE"),
        ("exact,name=Big One", "name=Big One"),
        ("no.py:f", "no file"),
        ("{mine}:nothing", "no function 'nothing'"),
        ("{mine}:near,far=1", "no setting 'far'; allowed: by"),
    ],
)
def test_what_names_no_score_is_one_line(mine: str, spec: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        score(spec.replace("{mine}", mine))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_gets_columns_and_bad_rows_are_set_aside(tmp_path: Path, mine: str) -> None:
    source = rows_file(
        tmp_path / "in.jsonl",
        [
            {"prompt": "1+2", "response": "3", "reference": "3"},
            {"prompt": 5},
            {"prompt": "2", "response": "x", "reference": "!"},
        ],
    )
    out = tmp_path / "out.parquet"
    told = score_files(source, [score("exact"), score(f"{mine}:near")], out, run=Run(tmp_path / "run"), max_failures=1)
    assert told["rows"] == 2 and told["rows_bad"] == 1 and told["bad_rows"][0]["source_row"] == 1
    assert told["scores"]["near"]["verdicts"] == {"yes": 1, "error": 1} and told["scores"]["near"]["mean"] == 1
    rows = pq.read_table(out).to_pylist()
    assert [row["score_exact"] for row in rows] == [1, 0]
    assert [row["score_near"] for row in rows] == [1, None]
    assert [row["source_row"] for row in rows] == [0, 2] and [row["copy"] for row in rows] == [0, 0]
    again = score_files(str(out), [score("exact")], tmp_path / "again.parquet", run=Run(tmp_path / "run"))
    assert again["scores"]["exact"]["cache_hits"] == 2
    names = pq.read_schema(tmp_path / "again.parquet").names
    assert names.count("score_exact") == 1 and "score_near" in names


def test_too_many_errors_refuse_but_lose_nothing(tmp_path: Path, mine: str) -> None:
    source = rows_file(tmp_path / "in.jsonl", [{"prompt": "p", "response": "1", "reference": "!"}] * 3)
    with pytest.raises(Refused, match="3 of 3 rows"):
        score_files(source, [score(f"{mine}:near")], tmp_path / "o.parquet", run=Run(tmp_path / "run"))
    assert pq.read_table(tmp_path / "o.parquet").num_rows == 3


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    prompts = rows_file(tmp_path / "p.jsonl", [{"prompt": "p"}])
    out = tmp_path / "o.parquet"
    with pytest.raises(UsageError, match="prompt rows"):
        score_files(prompts, [score("exact")], out, run=Run(tmp_path / "run"))
    rows = rows_file(tmp_path / "r.jsonl", [{"prompt": "p", "response": "r"}])
    with pytest.raises(UsageError, match="twice"):
        score_files(rows, [score("exact"), score("exact")], out, run=Run(tmp_path / "run"))
    with pytest.raises(BadInput):
        score_files(str(tmp_path / "none.jsonl"), [score("exact")], out, run=Run(tmp_path / "run"))
    assert not out.exists()


def test_where_every_row_lacks_a_column_the_flag_that_names_it_is_told() -> None:
    assert missing({"no_reference": 3}) == [
        "no row has a reference: name the column that holds it with --map reference=COLUMN"
    ]
    assert missing({"no_reference": 3, "wrong": 1}) == missing({}) == []
