"""The values of slots, their combinations by number, and the order that a seed gives."""

import itertools
import math
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from gristmill.errors import UsageError
from gristmill.generate.combinations import Combinations, Group, Node, Subsets
from gristmill.generate.permutation import Permutation
from gristmill.generate.slots import Slots
from gristmill.generate.template_file import SlotEntry


def slots(folder: Path = Path(), **entries: Any) -> Slots:
    found = {name: SlotEntry.model_validate(entry) for name, entry in entries.items()}
    return Slots(found, folder, "t.yaml")


def combined(nodes: list[Node]) -> Combinations:
    weighted = [node for node in nodes if node.weights]
    groups = [Group([node]) for node in nodes if not node.weights]
    return Combinations(groups, Group(weighted) if weighted else None)


def drawn(made: Slots, count: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    return list(itertools.islice(combined(made.nodes).drawn(seed), count))


# the order


@given(st.integers(1, 3_000), st.integers())
def test_a_permutation_gives_every_number_once(size: int, seed: int) -> None:
    order = Permutation(size, seed)
    assert sorted(map(order.at, range(size))) == list(range(size))


@given(st.integers(2, 10**40), st.integers(), st.data())
def test_places_of_a_large_permutation_are_inside_and_differ(size: int, seed: int, data: st.DataObject) -> None:
    order = Permutation(size, seed)
    places = data.draw(st.sets(st.integers(0, size - 1), max_size=20))
    numbers = {order.at(place) for place in places}
    assert len(numbers) == len(places)
    assert all(0 <= number < size for number in numbers)


def test_every_order_of_three_comes_as_often_as_the_others() -> None:
    orders = Counter(tuple(Permutation(3, seed).at(place) for place in range(3)) for seed in range(3_000))
    assert len(orders) == math.factorial(3)
    assert scipy.stats.chisquare(list(orders.values())).pvalue > 0.001


def test_the_first_numbers_of_a_large_permutation_lie_evenly() -> None:
    order = Permutation(10**12, 1)
    tenths = Counter(order.at(place) * 10 // 10**12 for place in range(10_000))
    assert scipy.stats.chisquare([tenths[tenth] for tenth in range(10)]).pvalue > 0.001


def test_more_combinations_than_any_seed_can_order_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2\^1024"):
        Permutation(1 << 1025, 0)


# combinations


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(), st.data())
def test_all_combinations_are_the_product(sizes: list[int], seed: int, data: st.DataObject) -> None:
    entries: dict[str, Any] = {}
    for number, size in enumerate(sizes):
        values = [f"{number}.{value}" for value in range(size)]
        if data.draw(st.booleans()):
            weights = data.draw(st.lists(st.integers(1, 100), min_size=size, max_size=size))
            entries[f"s{number}"] = {"values": values, "weights": weights}
        else:
            entries[f"s{number}"] = values
    found = [tuple(each[name] for name in entries) for each in drawn(slots(**entries), seed=seed)]
    lists = [entry if isinstance(entry, list) else entry["values"] for entry in entries.values()]
    assert len(found) == math.prod(sizes)
    assert set(found) == set(itertools.product(*lists))


@given(st.integers(0, 40), st.integers())
def test_fewer_draws_are_the_beginning_of_more(count: int, seed: int) -> None:
    made = slots(a=list("abcd"), b={"values": list("xyz"), "weights": [5, 1, 1]}, c={"range": [1, 4]})
    assert drawn(made, count, seed) == drawn(made, 48, seed)[:count]


def test_another_seed_is_another_order() -> None:
    made = slots(a={"range": [1, 1000]})
    assert drawn(made, 5, seed=1) != drawn(made, 5, seed=2)


def test_a_million_million_combinations_cost_no_memory() -> None:
    made = slots(**{name: {"range": [1, 1_000_000]} for name in "ab"}, c={"values": ["x", "y"], "weights": [1, 9]})
    tracemalloc.start()
    found = drawn(made, 2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert combined(made.nodes).size == 2 * 10**12
    assert len({tuple(each.values()) for each in found}) == 2_000
    assert peak < 4 << 20


# weights


def test_values_come_as_often_as_their_weights() -> None:
    made = slots(a={"values": list("xyz"), "weights": [6, 3, 1]}, b={"range": [1, 10**6]})
    counts = Counter(each["a"] for each in drawn(made, 5_000, seed=3))
    assert scipy.stats.chisquare([counts[value] for value in "xyz"], [3_000, 1_500, 500]).pvalue > 0.001


def test_two_weighted_slots_are_drawn_apart() -> None:
    made = slots(
        a={"values": list("xy"), "weights": [3, 1]}, b={"values": [1, 2], "weights": [1, 4]}, c={"range": [1, 10**6]}
    )
    counts = Counter((each["a"], each["b"]) for each in drawn(made, 8_000, seed=3))
    expected = {("x", 1): 1_200, ("x", 2): 4_800, ("y", 1): 400, ("y", 2): 1_600}
    assert scipy.stats.chisquare([counts[key] for key in expected], list(expected.values())).pvalue > 0.001


def test_a_weight_is_shared_by_the_values_that_hang_on_it() -> None:
    made = slots(
        a={"values": ["few", "many"], "weights": [1, 1]},
        b={"given": "a", "values": {"few": [0], "many": list(range(1, 10))}},
        c={"range": [1, 10**6]},
    )
    counts = Counter(each["a"] for each in drawn(made, 4_000, seed=3))
    assert scipy.stats.chisquare([counts["few"], counts["many"]]).pvalue > 0.001


def test_the_rest_of_the_product_is_even_under_weights() -> None:
    made = slots(a={"values": ["x", "y"], "weights": [1, 3]}, b=list(range(5)), c={"range": [1, 10**6]})
    counts = Counter(each["b"] for each in drawn(made, 5_000, seed=3))
    assert scipy.stats.chisquare([counts[value] for value in range(5)]).pvalue > 0.001


def test_what_is_used_up_is_drawn_no_more() -> None:
    made = slots(a={"values": ["common", "rare"], "weights": [1_000_000, 1]}, b=list("xyz"))
    found = [each["a"] for each in drawn(made)]
    assert found == ["common"] * 3 + ["rare"] * 3


# kinds of values


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        ({"range": [1, 4]}, [1, 2, 3, 4]),
        ({"range": [-2, 7], "step": 4}, [-2, 2, 6]),
        ({"range": [0, 1], "step": 0.25}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"range": [0.1, 0.7], "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ({"range": [5, 5]}, [5]),
        ({"values": ["", True, 1, 1.0, [1], {"a": 1}]}, ["", True, 1, 1.0, [1], {"a": 1}]),
    ],
)
def test_values(entry: dict[str, Any], values: list[Any]) -> None:
    found = [each["a"] for each in drawn(slots(a=entry))]
    assert sorted(map(repr, found)) == sorted(map(repr, values))


def test_with_is_the_same_row() -> None:
    made = slots(a=list("abc"), b={"with": "a", "values": [1, 2, 3]}, c={"with": "b", "values": ["x", "x", "y"]})
    assert {tuple(each[name] for name in "abc") for each in drawn(made)} == {
        ("a", 1, "x"),
        ("b", 2, "x"),
        ("c", 3, "y"),
    }


def test_given_takes_the_list_of_the_other_value() -> None:
    made = slots(
        topic=["algebra", "geometry"],
        area={"with": "topic", "values": ["numbers", "space"]},
        skill={"given": "topic", "values": {"algebra": ["lines", "roots"], "geometry": ["circles"]}},
        depth={"given": "skill", "values": {"lines": [1], "roots": [1, 2], "circles": [3]}},
        tool={"given": "area", "values": {"numbers": ["pen"], "space": ["ruler", "string"]}},
        style=["terse", "long"],
    )
    expected = {
        (topic, skill, depth, tool, style)
        for topic, skill, depth, tools in [
            ("algebra", "lines", 1, ["pen"]),
            ("algebra", "roots", 1, ["pen"]),
            ("algebra", "roots", 2, ["pen"]),
            ("geometry", "circles", 3, ["ruler", "string"]),
        ]
        for tool in tools
        for style in ("terse", "long")
    }
    found = [tuple(each[name] for name in ("topic", "skill", "depth", "tool", "style")) for each in drawn(made)]
    assert len(found) == len(expected)
    assert set(found) == expected


@given(st.integers(1, 8), st.data())
def test_samples_are_all_subsets(size: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, size))
    subsets = Subsets(list(range(size)), range(size), k)
    found = [frozenset(subsets[number]) for number in range(subsets.size)]
    assert len(found) == math.comb(size, k)
    assert set(found) == set(map(frozenset, itertools.combinations(range(size), k)))


def test_a_sample_of_many_comes_in_any_order() -> None:
    made = slots(a={"values": list(range(1_000)), "sample": 3})
    found = [each["a"] for each in drawn(made, 3_000)]
    assert all(len(set(each)) == 3 for each in found)
    largest = Counter(each.index(max(each)) for each in found)
    assert scipy.stats.chisquare([largest[place] for place in range(3)]).pvalue > 0.001


def test_samples_differ_though_a_table_repeats_itself_and_followers_stay_beside(tmp_path: Path) -> None:
    rows = [("a", 1), ("a", 9), ("b", 2), ("c", 3)]
    (tmp_path / "seeds.csv").write_text("task,answer\n" + "\n".join(f"{task},{answer}" for task, answer in rows))
    made = slots(
        tmp_path,
        task={"from": "seeds.csv", "column": "task", "sample": 2},
        answer={"from": "seeds.csv", "column": "answer", "with": "task"},
    )
    found = drawn(made)
    assert {frozenset(each["task"]) for each in found} == {frozenset("ab"), frozenset("ac"), frozenset("bc")}
    answers = {"a": "1", "b": "2", "c": "3"}
    assert all(each["answer"] == [answers[task] for task in each["task"]] for each in found)


# tables


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"q": ["what?", "why?"], "n": [1, None]}), path)


def csv_gz(path: Path) -> None:
    import gzip

    path.write_bytes(gzip.compress(b"q,n\nwhat?,1\nwhy?,\n"))


@pytest.mark.parametrize(
    ("name", "write", "numbers"),
    [
        ("t.jsonl", lambda path: path.write_text('{"q": "what?", "n": 1}\n{"q": "why?", "n": null}\n'), [1, ""]),
        ("t.csv.gz", csv_gz, ["1", ""]),
        ("t.parquet", parquet, [1, ""]),
    ],
)
def test_columns_of_a_table(tmp_path: Path, name: str, write: Callable[[Path], Any], numbers: list[Any]) -> None:
    write(tmp_path / name)
    made = slots(tmp_path, q={"from": name, "column": "q"}, n={"from": name, "column": "n", "with": "q"})
    found = {each["q"]: each["n"] for each in drawn(made)}
    assert found == {"what?": numbers[0], "why?": numbers[1]}
    rows = slots(tmp_path, row={"from": name})
    assert {each["row"]["q"] for each in drawn(rows)} == {"what?", "why?"}


def test_a_text_file_is_one_value_a_line(tmp_path: Path) -> None:
    (tmp_path / "personas.txt").write_text("a baker\n\na 🧑‍🚀 from مصر\n", encoding="utf-8")
    assert {each["p"] for each in drawn(slots(tmp_path, p={"from": "personas.txt"}))} == {"a baker", "a 🧑‍🚀 from مصر"}


# what is refused

TABLE = {"from": "t.jsonl", "column": "q"}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"a": []}, ["slots.a", "empty", "at least one"]),
        ({"a": ["x", None]}, ["slots.a[1]", "null"]),
        ({"a": ["x", "y", "x"]}, ["slots.a[2]", "'x'", "weights"]),
        ({"a": {}}, ["slots.a", "one of values, range, from and template", "none"]),
        ({"a": {"values": ["x"], "range": [1, 2]}}, ["slots.a", "range and values"]),
        ({"a": {"values": ["x"], "step": 2}}, ["slots.a", "step", "values"]),
        ({"a": {"values": {"x": ["y"]}}}, ["slots.a", "given"]),
        ({"a": {"values": ["x", "y"], "weights": [1]}}, ["slots.a", "1 weights for 2 values"]),
        ({"a": {"values": ["x", "y"], "weights": [1, 0]}}, ["slots.a", "weights", "0", "above 0"]),
        ({"a": {"values": ["x"], "weights": [math.inf]}}, ["slots.a", "inf", "above 0"]),
        ({"a": {"range": [3, 1]}}, ["slots.a", "[3, 1]", "lowest"]),
        ({"a": {"range": [1, 2, 3]}}, ["slots.a", "two numbers"]),
        ({"a": {"range": [0.5, 2]}}, ["slots.a", "step"]),
        ({"a": {"range": [1, 9], "step": 0}}, ["slots.a", "step 0", "above 0"]),
        ({"a": {"range": [0, 1 << 70]}}, ["slots.a", "2^63"]),
        ({"a": {"values": ["x"], "sample": 2}}, ["slots.a", "sample: 2", "1 to 1"]),
        ({"a": {"values": ["x"], "with": "b"}}, ["slots.a", "'b'", "slots are a"]),
        ({"a": ["x"], "b": {"with": "a", "values": [1, 2]}}, ["slots.b", "2 values with 1 of a"]),
        ({"a": {"range": [1, 2]}, "b": {"with": "a", "values": [1, 2]}}, ["slots.b", "list or a table"]),
        ({"a": ["x"], "b": {"given": "a", "values": [1]}}, ["slots.b", "mapping"]),
        ({"a": ["x", "y"], "b": {"given": "a", "values": {"x": [1]}}}, ["slots.b", "a = 'y'", "it has x"]),
        ({"a": ["x"], "b": {"given": "a", "values": {"x": [1], "z": [2]}}}, ["slots.b", "'z'", "not a value of a"]),
        ({"a": ["x"], "b": {"given": "a", "values": {"x": []}}}, ["slots.b", "values.x", "empty"]),
        ({"a": [["x"]], "b": {"given": "a", "values": {"x": [1]}}}, ["slots.b", "list", "text, numbers"]),
        ({"a": {"values": ["x", "y"], "sample": 1}, "b": {"given": "a", "values": {"x": [1]}}}, ["slots.b", "sample"]),
        ({"a": {"range": [1, 10**6]}, "b": {"given": "a", "values": {1: [1]}}}, ["slots.b", "100,000"]),
        ({"a": {"template": "{{ b }}"}, "b": {"template": "{{ a }}"}}, ["circle", "a", "b"]),
        ({"a": {"template": "{{ a }}"}}, ["circle", "a"]),
        ({"a": {"with": "b", "values": [1]}, "b": {"with": "a", "values": [1]}}, ["circle"]),
        ({"a": {"template": "{{ z }}"}}, ["slots.a", "'z'", "slots are a"]),
        ({"a": {"template": "{{ z"}}, ["slots.a", "not a Jinja skeleton"]),
        ({"a": {"template": "x", "with": "b"}, "b": [1]}, ["slots.a", "with", "template"]),
        ({"two words": [1]}, ["slots.two words", "letters"]),
        ({"loop": [1]}, ["slots.loop", "Jinja"]),
        ({"range": [1]}, ["slots.range", "Jinja"]),
        ({"a": {"from": "missing.jsonl", "column": "q"}}, ["slots.a", "missing.jsonl", "no such file"]),
        ({"a": {"from": "t.jsonl", "column": "x"}}, ["slots.a", "t.jsonl:0", "'x'", "columns are q, n"]),
        ({"a": {"from": "bad.jsonl", "column": "q"}}, ["slots.a", "bad.jsonl:1", "not JSON"]),
        ({"a": {"from": "nul.jsonl", "column": "q"}}, ["slots.a", "nul.jsonl:0", "NUL", "at 1"]),
        ({"a": {"from": "none.jsonl", "column": "q"}}, ["slots.a", "none.jsonl", "no row"]),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, entries: dict[str, Any], told: list[str]) -> None:
    (tmp_path / "t.jsonl").write_text('{"q": "what?", "n": 1}\n')
    (tmp_path / "bad.jsonl").write_text('{"q": "what?"}\nnonsense\n')
    (tmp_path / "nul.jsonl").write_text('{"q": "a\\u0000b"}\n')
    (tmp_path / "none.jsonl").write_text("\n")
    with pytest.raises(UsageError) as caught:
        slots(tmp_path, **entries)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("t.yaml: ")
    assert [part for part in told if part not in message] == []
