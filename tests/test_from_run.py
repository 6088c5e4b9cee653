"""A filter of what a run remembers: the same as a filter of the files with those settings, without the files."""

import json
import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import gristmill.cli.main
from gristmill.run import Run
from tests.test_filter import LONG, QUESTION, essay, pile, write

DROPS = ["drop_rule", "drop_value", "drop_limit", "drop_evidence"]


def shouting(rows):
    """A rule by function: the share of capitals."""
    return pc.divide(pc.utf8_length(pc.replace_substring_regex(rows["response"], "[^A-Z]", "")), 10.0)


def twice_as_long(rows):
    """Another: characters, doubled."""
    return pc.multiply(pc.utf8_length(rows["response"]), 2)


def filtered(*arguments):
    """Exit code, summary and stderr of `gristmill filter` in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        gristmill.cli.main.run(["filter", *map(str, arguments), "--json"])
    return ended.value.code or 0, json.loads(out.getvalue()) if out.getvalue() else None, err.getvalue()


def rows():
    given = pile() + [
        {"instruction": f"Tell me story {n}.", "output": LONG[n], "quality": 1 + n % 3} for n in range(30, 45)
    ]
    for n in range(3):  # alike by a half, by two thirds, by nine tenths
        words = essay(100 + n, 90).split()
        changed = words[:-1] if n == 2 else words[: 60 + 15 * n] + essay(200 + n, 30 - 15 * n).split()
        given += [{"instruction": f"Say {n}.", "output": " ".join(each), "quality": 3} for each in (words, changed)]
    opening = essay(300, 50)
    given += [
        {"instruction": f"Go on {n}.", "output": f"{opening} {essay(310 + n, 80)}", "quality": n} for n in range(3)
    ]
    given += [{"instruction": "Count.", "output": f"{essay(320, 40)} {n} times {essay(321, 9)}"} for n in (17, 18)]
    return [row | {"depth": n % 4, "topic": f"t{n % 2}"} for n, row in enumerate(given)]


RULES = {
    "limits": "rules:\n  - {name: too_short, limits: {chars: 30, words: 6}}\n  - {name: echo, enabled: false}\n",
    "where": "rules:\n  - {name: wet, where: \"response ilike '%wheel%mill%'\", reason: no water}\n",
    "function": 'rules:\n  - {name: loud, function: "tests.test_from_run:shouting", most: 0.15}\n',
    "none": "rules: []\ndefaults: false\n",
    "languages": "rules:\n  - {name: wrong_language, languages: [de]}\n",
    "private": "rules:\n  - {name: secrets, action: drop}\n",
}
BASE = ["--against", "eval.jsonl", "--min", "quality=1", "--min", "depth=1", "--keep-unjudged"]


def built(place):
    """Files in a directory, and a filter of them with the settings of BASE in `first`, remembered in `run`."""
    write(place / "data.jsonl", rows())
    write(place / "eval.jsonl", [{"question": QUESTION, "answer": "18"}])
    write(place / "other.jsonl", [{"question": f"What of {LONG[7]}"}])
    for name, text in RULES.items():
        (place / f"{name}.yaml").write_text(text)
    code, summary, err = filtered("data.jsonl", *BASE, "-o", "first", "--run", "run")
    assert code == 0, err
    return summary


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One for all tests, which is the directory of the process."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("gristmill.runner.use_runner", lambda _: None)  # a process chooses it once
        built(place)
        yield place


@pytest.fixture
def own(place, tmp_path, monkeypatch):  # noqa: ARG001
    """One of a test's own, and its summary."""
    monkeypatch.chdir(tmp_path)
    return built(tmp_path)


def judged(out):
    """Every row with what became of it, and the pairs."""
    table = pq.read_table(f"{out}/rows.parquet")
    used = {name for name in table.column_names if name.startswith(("rule_", "flag_"))}
    return table.select(["id", "copy", "source_file", "source_row", "response", *DROPS]).to_pylist(), used


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("changed", "fresh"),
    [
        (["--rules", "limits.yaml"], ["--rules", "limits.yaml"]),
        (["--rules", "where.yaml"], ["--rules", "where.yaml"]),
        (["--rules", "function.yaml"], ["--rules", "function.yaml"]),
        (["--rules", "none.yaml"], ["--rules", "none.yaml"]),
        (["--rules", "languages.yaml"], ["--rules", "languages.yaml"]),
        (["--rules", "private.yaml"], ["--rules", "private.yaml"]),
        (["--min", "depth=2"], ["--min", "quality=1", "--min", "depth=2"]),
        (["--min", "quality=3"], ["--min", "quality=3", "--min", "depth=1"]),
        (["--keep-top", "0.3:depth"], ["--keep-top", "0.3:depth"]),
        (["--near", "0.5"], ["--near", "0.5"]),
        (["--near", "0.95"], ["--near", "0.95"]),
        (["--near", "off"], ["--near", "off"]),
        (["--numbers", "merge"], ["--numbers", "merge"]),
        (["--near-recall", "0.9"], ["--near-recall", "0.9"]),
        (["--boilerplate", "0.2"], ["--boilerplate", "0.2"]),
        (["--prefer", "depth"], ["--prefer", "depth"]),
        (["--no-exact"], ["--no-exact"]),
        (["--text", "response"], ["--text", "response"]),
        (["--collapse", "mark"], ["--collapse", "mark"]),
        (["--against", "other.jsonl"], ["--against", "other.jsonl"]),
        (["--stratify", "topic"], ["--stratify", "topic"]),
        (["--near", "0.5", "--collapse", "mark", "--rules", "limits.yaml"],) * 2,
    ],
    ids=lambda flags: " ".join(flags),
)
def test_it_gives_what_a_filter_of_the_files_with_those_settings_gives(changed, fresh):
    kept = [] if "--against" in fresh else BASE[:2]
    kept += [] if "--min" in fresh else BASE[2:6]
    code, expected, err = filtered("data.jsonl", *kept, BASE[6], *fresh, "-o", "fresh", "--run", "elsewhere")
    assert code == 0, err
    code, summary, err = filtered("--from-run", "first", *changed, "-o", "second")
    assert code == 0, err
    (rows, used), (expected_rows, expected_used) = judged("second"), judged("fresh")
    assert rows == expected_rows
    assert used >= expected_used
    columns = [name for name in expected_used if name != "flag_masked"]
    now, then = (pq.read_table(f"{out}/rows.parquet", columns=columns) for out in ("second", "fresh"))
    assert {name: now[name].to_pylist() for name in columns} == {name: then[name].to_pylist() for name in columns}
    assert pq.read_table("second/pairs.parquet").equals(pq.read_table("fresh/pairs.parquet"))
    for name in ("kind", "rows_in", "rows_bad", "rows_kept", "dropped", "rules", "contamination", "openings", "yield"):
        assert summary[name] == expected[name], name
    alarms = [{alarm["name"] for alarm in each["alarms"]} for each in (summary, expected)]
    assert alarms[0] == alarms[1]


@pytest.mark.usefixtures("place")
def test_only_what_the_change_concerns_is_computed_again():
    reused = {}
    for flags in (["--min", "depth=2"], ["--near", "0.9"], ["--text", "prompt"], ["--rules", "where.yaml"]):
        _, summary, _ = filtered("--from-run", "run", *flags, "-o", "second")
        reused[flags[0]] = {step["name"] for step in summary["lineage"] if step["reused"]}
        filtered("--from-run", "first", "-o", "second")  # first is what the next begins from
    assert {"read", "contamination", "signatures"} <= reused["--min"]
    assert reused["--near"] == {"read", "contamination"}  # other bands, other signatures
    assert reused["--text"] == {"read"}
    assert {"read", "contamination", "signatures"} <= reused["--rules"]


def test_it_begins_from_the_last_filter_of_a_run_or_from_the_one_that_wrote_a_directory(own, tmp_path):
    _, second, _ = filtered("--from-run", "run", "--min", "depth=3", "-o", "second")
    _, third, _ = filtered("--from-run", "run", "--near", "off", "-o", "third")
    assert third["rules"]["below_depth"] == {"measures": {"score_depth": {"min": 3.0}}}
    _, fourth, _ = filtered("--from-run", "first", "--near", "off", "-o", "fourth")
    assert fourth["rules"]["below_depth"] == {"measures": {"score_depth": {"min": 1.0}}}
    assert second["rows_kept"] < own["rows_kept"]
    for file in ("data.jsonl", "other.jsonl"):
        (tmp_path / file).unlink()
    _, again, _ = filtered("--from-run", "first", "-o", "first")  # without the files, into its own place, as it was
    assert again["rows_kept"] == own["rows_kept"]


def test_a_rule_of_a_name_that_means_something_else_now_is_measured_again(place):
    chain = (
        "rules:\n"
        "  - {{name: size, function: 'tests.test_from_run:{}', most: 1000}}\n"
        "  - {{name: big, where: 'rule_size > 700'}}\n"
    )
    (place / "one.yaml").write_text(chain.format("shouting"))
    (place / "two.yaml").write_text(chain.format("twice_as_long"))
    filtered("data.jsonl", "--rules", "one.yaml", "-o", "one", "--run", "size")
    filtered("data.jsonl", "--rules", "two.yaml", "-o", "two", "--run", "elsewhere")
    code, _, err = filtered("--from-run", "size", "--rules", "two.yaml", "-o", "second")
    assert code == 0, err
    assert any(row["drop_rule"] == "big" for row in judged("two")[0])
    assert judged("second")[0] == judged("two")[0]
    for name in ("rule_size", "rule_big"):
        now, then = (pq.read_table(f"{out}/rows.parquet")[name].to_pylist() for out in ("second", "two"))
        assert now == then


def test_masking_stays_as_it_was(place):
    mask = "rules:\n  - {name: personal_data, action: mask}\n"
    (place / "mask.yaml").write_text(mask)
    (place / "more.yaml").write_text(f"{mask}  - {{name: long, where: 'length(response) > 500'}}\n")
    (place / "limit.yaml").write_text(f"{mask}  - {{name: too_short, limits: {{chars: 30, words: 6}}}}\n")
    told = [{"instruction": f"Write {n}.", "output": f"{LONG[n]} Ask ann{n}@example.com."} for n in range(5)]
    write(place / "told.jsonl", told)
    filtered("told.jsonl", "--rules", "mask.yaml", "-o", "masked", "--run", "maskrun")
    for flags, message in ((["--rules", "default"], "mask"), (["--rules", "more.yaml"], "mask")):
        code, _, err = filtered("--from-run", "maskrun", *flags, "-o", "second")
        assert (code, err.count("\n")) == (2, 1)
        assert message in err and "filter the files again" in err
    code, _, err = filtered("--from-run", "maskrun", "--rules", "limit.yaml", "-o", "second")
    assert code == 0, err
    filtered("told.jsonl", "--rules", "limit.yaml", "-o", "fresh", "--run", "elsewhere")
    assert judged("second") == judged("fresh")


def test_two_filters_of_one_run_in_one_program_are_told_apart(tmp_path):
    from gristmill.filter.pipeline import Settings, filter_files

    run = Run(tmp_path / "run")
    for number in range(2):
        data = write(tmp_path / f"data{number}.jsonl", rows()[number * 20 : number * 20 + 20])
        summary = filter_files([data], tmp_path / f"out{number}", Settings(), run=run)
    assert [step["name"] for step in summary["lineage"]].count("read") == 1
    again = filter_files([data], tmp_path / "again", Settings(), run=run, before=run.outputs()[-1])
    assert judged(tmp_path / "again") == judged(tmp_path / "out1")
    assert again["rows_kept"] == summary["rows_kept"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["data.jsonl", "--from-run", "run"],
            "filter data.jsonl --from-run run: the rows come from the run; leave IN out",
        ),
        (["--from-run", "run", "--map", "response=output"], "--map --from-run: the rows were read already"),
        (["--from-run", "run", "--limit", "3"], "--limit --from-run: the rows were read already"),
        (["--from-run", "run", "--run", "elsewhere"], "--run --from-run"),
        (["--from-run", "nowhere"], "--from-run nowhere: neither a run nor the output of a filter"),
        (["--from-run", "."], "--from-run .: neither a run nor the output of a filter"),
        (["--from-run", "bare"], "--from-run bare: no filter is in it; run one first"),
        (["--from-run", "run", "--min", "length=2"], "score 'length': no row has it; the scores are depth, quality"),
        (["--from-run", "run", "--prefer", "length"], "score 'length': no row has it"),
        (["--from-run", "run", "--rules", "mask.yaml"], "rules that mask"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_one_line(place, flags, message):
    Run(place / "bare")
    (place / "mask.yaml").write_text("rules:\n  - {name: personal_data, action: mask}\n")
    code, _, err = filtered(*flags, "-o", "refused")
    last = err.splitlines()[-1]
    assert code == 2
    assert message in last and last.startswith("gristmill: ")
    assert not (place / "refused").exists()


@pytest.mark.usefixtures("own")
def test_an_output_whose_run_is_gone_is_refused(tmp_path):
    (tmp_path / "run").rename(tmp_path / "moved")
    code, _, err = filtered("--from-run", "first", "-o", "second")
    assert code == 2
    assert re.search(r"--from-run first: its run is gone \(.*run\); filter the files again", err)
    assert filtered("--from-run", "moved", "-o", "second")[0] == 0
