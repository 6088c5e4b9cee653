"""Mixes on files: exact shares, the same rows in any order and on any engine, repeats that are known, lineage."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.errors import BadInput, UsageError
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.lineage import across
from gristmill.mix.mix_file import MixFile
from gristmill.mix.pipeline import mix_files
from gristmill.run import Run
from tests.cluster import ENVIRONMENT, two_nodes

Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def plain(name: str, count: int) -> list[Row]:
    return [
        {"prompt": f"{name} {n}?", "response": f"{name} says {n}" * (1 + n % 5), "topic": str(n % 3)}
        for n in range(count)
    ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, count in (("a", 300), ("b", 100), ("g", 400)):
        write(tmp_path / f"{name}.jsonl", plain(name, count))
    return tmp_path


def wanted(**more: Any) -> MixFile:
    sources = [
        {"name": "a", "files": "a.jsonl", "kind": "math", "share": 0.5} | more.pop("a", {}),
        {"name": "b", "files": "b.jsonl", "kind": "code", "share": 0.2} | more.pop("b", {}),
        {"name": "g", "files": "g.jsonl", "kind": "general", "share": 0.3} | more.pop("g", {}),
    ]
    return MixFile.model_validate({"sources": sources, "seed": 7, **more})


def made(mix: MixFile, out: str = "out.parquet", **more: Any) -> tuple[list[Row], Row]:
    told = mix_files(mix, Path(out), run=Run("run"), **more)
    return pq.read_table(out).to_pylist(), told


def source_of(row: Row) -> str:
    return next(str(tag).removeprefix("source:") for tag in row["tags"] if tag.startswith("source:"))


def key(row: Row) -> tuple[str, int]:
    return row["id"], row["copy"]


@pytest.mark.usefixtures("place")
def test_shares_are_exact_and_every_row_is_from_its_source() -> None:
    rows, told = made(wanted(rows=333))
    assert Counter(map(source_of, rows)) == {"a": 166, "b": 67, "g": 100}  # of 166.5, 66.6 and 99.9
    assert all(Path(row["source_file"]).stem == source_of(row) == row["response"][0] for row in rows)
    assert len(set(map(key, rows))) == 333
    assert told["kinds"] == pytest.approx({"math": 166 / 333, "code": 67 / 333, "general": 100 / 333})
    assert [each["left_out"] for each in told["sources"]] == [134, 33, 300]


@pytest.mark.usefixtures("place")
def test_the_same_seed_gives_the_same_file_and_another_another() -> None:
    one, _ = made(wanted(rows=200), "one.parquet")
    again, _ = made(wanted(rows=200), "again.parquet")
    other, _ = made(wanted(rows=200, seed=8), "other.parquet")
    assert one == again
    assert set(map(key, one)) != set(map(key, other))


def test_which_rows_are_drawn_depends_on_no_order(place: Path) -> None:
    """Rank by content: a file turned over gives the same rows."""
    one, _ = made(wanted(rows=200))
    for name in "abg":
        lines = (place / f"{name}.jsonl").read_text().splitlines()
        (place / f"{name}.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    other, _ = made(wanted(rows=200), "other.parquet")
    assert set(map(key, one)) == set(map(key, other))


@pytest.mark.usefixtures("place")
def test_a_larger_mix_of_a_seed_holds_the_smaller() -> None:
    small, large = (set(map(key, made(wanted(rows=rows), f"{rows}.parquet")[0])) for rows in (100, 300))
    assert small < large


@pytest.mark.usefixtures("place")
def test_repeats_are_whole_passes_and_one_drawn_part() -> None:
    rows, told = made(wanted(rows=1000, a={"share": 0.25}, b={"share": 0.45, "epochs": 5}))
    times = Counter(row["id"] for row in rows if source_of(row) == "b")
    assert Counter(times.values()) == {4: 50, 5: 50}
    assert len(set(map(key, rows))) == 1000
    copies = sorted(row["copy"] for row in rows if row["id"] == next(id for id, n in times.items() if n == 4))
    assert copies == [0, 1, 2, 3]
    again = [row for row in rows if any(tag.startswith("again:") for tag in row["tags"])]
    assert len(again) == 350
    assert {tag for row in again for tag in row["tags"] if tag.startswith("again:")} == {"again:0"}
    assert told["sources"][1] | {"why": ""} == told["sources"][1] | {"why": "", "repeated": 100, "most_times": 5}


def test_rows_of_one_content_in_two_sources_keep_a_key_each(place: Path) -> None:
    (place / "b.jsonl").write_text((place / "a.jsonl").read_text())
    rows, _ = made(wanted(rows=500, a={"share": 0.4}, b={"share": 0.3}))
    assert len(set(map(key, rows))) == 500
    assert len({row["id"] for row in rows}) < 500


@pytest.mark.usefixtures("place")
def test_every_stretch_has_the_shares_of_the_whole() -> None:
    """The mix is interleaved by chunks of 8,192 rows: of 20,000 rows, each third."""
    rows, _ = made(wanted(rows=20_000, a={"epochs": 50}, b={"epochs": 50}, g={"epochs": 50}))
    for begin in range(0, 18_000, 6_667):
        part = Counter(source_of(row) for row in rows[begin : begin + 6_666])
        assert part["a"] == pytest.approx(3_333, abs=3)
        assert part["b"] == pytest.approx(1_333, abs=3)


@pytest.mark.usefixtures("place")
def test_tokens_are_shared_to_the_nearest_row() -> None:
    rows, told = made(wanted(tokens=1_000))
    characters = Counter[str]()
    for row in rows:
        characters[source_of(row)] += len(row["prompt"][0]["content"]) + len(row["response"])
    longest = max(len(row["prompt"][0]["content"]) + len(row["response"]) for row in rows)
    for name, share in (("a", 0.5), ("b", 0.2), ("g", 0.3)):
        assert abs(characters[name] - share * 4_000) <= longest / 2 + 1
    assert told["tokens"] == round(sum(characters.values()) / 4)


def test_strata_keep_their_shares(place: Path) -> None:
    write(
        place / "a.jsonl",
        [row | {"topic": "rare" if n % 10 == 0 else "usual"} for n, row in enumerate(plain("a", 300))],
    )
    rows, _ = made(wanted(rows=100, a={"strata": "topic"}))
    topics = Counter(json.loads(row["meta"])["topic"] for row in rows if source_of(row) == "a")
    assert topics == {"usual": 45, "rare": 5}
    with pytest.raises(UsageError, match="strata: no row has colour"):
        made(wanted(rows=100, a={"strata": "colour"}))


def test_a_share_of_reasoning(place: Path) -> None:
    thinking = [row | ({"reasoning": "because"} if n % 2 else {}) for n, row in enumerate(plain("a", 300))]
    write(place / "a.jsonl", thinking)
    rows, told = made(wanted(rows=200, reasoning=0.4))
    assert sum(bool(row["reasoning"]) for row in rows) == 80
    assert Counter(map(source_of, rows)) == {"a": 100, "b": 40, "g": 60}
    assert told["reasoning"] == 0.4
    with pytest.raises(UsageError, match=r"0.0% to 50.0% of the mix can have reasoning"):
        made(wanted(rows=200, reasoning=0.6))


def test_dropped_and_bad_rows_are_no_rows(place: Path) -> None:
    filter_files(["a.jsonl"], Path("filtered"), Settings(), run=Run("run"))
    kept = pq.read_table("filtered/kept.parquet").num_rows
    _, told = made(wanted(a={"files": ["filtered/rows.parquet"]}))
    assert told["sources"][0]["available"] == kept
    (place / "g.jsonl").write_text((place / "g.jsonl").read_text() + "{broken\n")
    _, told = made(wanted())
    assert told["sources"][2]["rows_bad"] == 1
    (place / "g.jsonl").write_text("{broken\n" * 50)
    with pytest.raises(BadInput):
        made(wanted())


@pytest.mark.usefixtures("place")
def test_a_table_of_ours_is_read_where_it_is_and_its_ids_stay() -> None:
    first, _ = made(wanted(rows=100), "first.parquet")
    second, _ = made(wanted(a={"files": ["first.parquet"], "kind": "math", "share": 0.5}), "second.parquet")
    known = {key(row): row["tags"] for row in first}
    mine = [row for row in second if source_of(row) and row["tags"][-1] == "source:a" and len(row["tags"]) == 2]
    assert mine
    assert all(known[key(row)] == row["tags"][:1] for row in mine)


@pytest.mark.usefixtures("place")
def test_why_reaches_from_a_repeat_to_the_file() -> None:
    rows, _ = made(wanted(rows=400, a={"share": 0.2}, b={"share": 0.5, "epochs": 2}))
    row = next(row for row in rows if row["copy"] == 1)
    told = across(Path("run"), f"{row['id']}#1")
    assert [stage["step"] for stage in told["stages"]] == ["read", "mix"]
    assert told["stages"][1]["new"]["tags"] == "source:b, again:0"
    assert told["source_row"] == row["source_row"]


def test_kinds_of_rows_do_not_mix(place: Path) -> None:
    write(place / "b.jsonl", [{"prompt": "p", "chosen": "c", "rejected": "r"}])
    with pytest.raises(UsageError, match="mix the two kinds apart"):
        made(wanted())


def test_a_directory_is_parts_and_is_replaced_if_it_is_ours(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.mix.pipeline.PART_ROWS", 100)
    one, _ = made(wanted(rows=250))
    parts, _ = made(wanted(rows=250), "parts")
    assert [path.name for path in sorted((place / "parts").iterdir())] == [f"part-0000{n}.parquet" for n in range(3)]
    assert parts == one
    made(wanted(rows=50), "parts")
    (place / "mine").mkdir()
    (place / "mine" / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match="did not write"):
        made(wanted(rows=50), "mine")


@pytest.mark.usefixtures("place")
def test_the_same_shares_after_a_newer_evaluation_are_stale() -> None:
    _, told = made(wanted(rows=100))
    assert not any("stale" in note for note in told["notes"])
    pq.write_table(pa.table({"x": [1]}), "eval.parquet")
    Run("run").output("eval.parquet", "eval")
    assert any("stale" in note for note in made(wanted(rows=200))[1]["notes"])
    _, told = made(wanted(rows=100, a={"share": 0.4}, b={"share": 0.3}))
    assert not any("stale" in note for note in told["notes"])


def test_the_command_prints_what_became_of_every_source(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.runner.use_runner", lambda _: None)  # Daft takes one a process
    (place / "mix.yaml").write_text(yaml.safe_dump(wanted(rows=100).model_dump(exclude_defaults=True)))
    done = CliRunner().invoke(app, ["mix", "mix.yaml", "-o", "out.parquet", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["rows"], told["task_specific"]) == (100, pytest.approx(0.7))
    done = CliRunner().invoke(app, ["mix", "mix.yaml", "-o", "out.parquet", "--rows", "50"])
    assert "50 rows in out.parquet: 70.0% task-specific, 30.0% general" in done.output
    assert "275 left out: its share is full" in done.output


@pytest.mark.xdist_group("ray")
def test_the_same_rows_in_the_same_order_on_a_cluster(place: Path) -> None:
    pytest.importorskip("ray")
    repeats = {name: {"epochs": 700} for name in "abg"}
    mix = wanted(rows=150_000, **repeats).model_dump(exclude_defaults=True)
    (place / "mix.yaml").write_text(yaml.safe_dump(mix))
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with two_nodes() as address:
        for out, runner in (("native", "native"), ("ray", f"ray:{address}")):
            command = [sys.executable, "-m", "gristmill", "mix", "mix.yaml", "-o", f"{out}.parquet", "--run", out]
            done = subprocess.run(
                [*command, "--runner", runner], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
    assert pq.read_table("native.parquet").equals(pq.read_table("ray.parquet"))
