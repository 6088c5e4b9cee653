"""Files of every format in; what is broken is set aside with its place, and its neighbours survive."""

import csv
import gzip
import json

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from gristmill.errors import BadInput, UsageError
from gristmill.files import BAD, ORDER, read, scan
from gristmill.formats import MAX_LINE, expand, raw_records, redacted
from gristmill.run import Run

ROWS = [{"instruction": f"Say {n}.", "input": "", "output": str(n)} for n in range(20)]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def answers(table):
    return [row["response"] for row in table.select("response").to_pylist()]


def write(path, rows=ROWS):
    """Write rows in the format that the file's name tells."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=7)
        data = sink.getvalue().to_pybytes()
    elif name.endswith(".json"):
        data = json.dumps(rows, indent=1).encode()
    elif name.endswith(".csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        data = path.read_bytes()
    else:
        data = jsonl(rows)
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(data))
    return str(path)


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.csv", "lines.json"])
def test_every_format_gives_the_same_rows_in_order(tmp_path, name, packed):
    path = write(tmp_path / f"{name}{packed}")
    if name == "lines.json":
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(packed, bytes)
        (tmp_path / f"{name}{packed}").write_bytes(pack(jsonl(ROWS)))
    table = read(path)
    expected = read(write(tmp_path / "expected.jsonl"))
    assert answers(table) == [row["output"] for row in ROWS]
    assert (
        table.select("id", "copy", "source_row").to_pydict() == expected.select("id", "copy", "source_row").to_pydict()
    )


def test_plain_text_is_one_prompt_a_line(tmp_path):
    (tmp_path / "p.txt").write_text("What is 1?\n\nWhat is 2?\r\n")
    rows = read(str(tmp_path / "p.txt")).select("source_row", "prompt").to_pylist()
    assert [(r["source_row"], r["prompt"][0]["content"]) for r in rows] == [(0, "What is 1?"), (2, "What is 2?")]


def test_equal_rows_are_copies_numbered_over_all_files_in_order(tmp_path):
    one = write(tmp_path / "b.jsonl", ROWS[:2])
    chat = [{"messages": [{"role": "user", "content": "Say 1."}, {"role": "assistant", "content": "1"}]}] * 2
    two = write(tmp_path / "a.jsonl", chat)
    rows = read([one, two]).select("source_file", "source_row", "copy").to_pylist()
    assert [(r["source_row"], r["copy"]) for r in rows] == [(0, 0), (1, 0), (0, 1), (1, 2)]


BROKEN = [
    (b'{"instruction": "a", "output"', "not JSON"),
    (b'{"instruction": 7, "output": "x"}', "instruction is a number"),
    (b'{"instruction": "a", "output": NaN}', "not JSON"),
    (b'{"instruction": "a", "output": "\\ud800"}', "not JSON"),
    (b'{"instruction": "a", "output": "x\\u0000y"}', "NUL"),
    (b'{"instruction": "a", "output": "x\x00y"}', "not JSON"),
    (b'{"instruction": "a", "output": "\xff"}', "not JSON"),
    (b'["a"]', "not an object"),
    (b'{"instruction": "a", "output": "' + b"x" * 50_000_000 + b'"}', "allowed: 16,777,216"),
]


def test_bad_lines_are_set_aside_with_their_place_and_good_ones_survive(tmp_path):
    lines = []
    for line, _ in BROKEN:
        lines += [jsonl([ROWS[len(lines) // 2]]).strip(), line]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n\n" + jsonl([ROWS[10]]))
    rows = scan(str(tmp_path / "a.jsonl")).sort(ORDER).select("source_row", "response", BAD).to_pylist()
    bad = {row["source_row"]: row[BAD] for row in rows if row[BAD]}
    assert list(bad) == [2 * n + 1 for n in range(len(BROKEN))]
    assert all(reason in bad[2 * n + 1] for n, (_, reason) in enumerate(BROKEN))
    good = {row["source_row"]: row["response"] for row in rows if not row[BAD]}
    assert good == {2 * n: str(n) for n in range(len(BROKEN))} | {2 * len(BROKEN) + 1: "10"}


def test_reading_warns_of_the_bad_rows_it_leaves_out(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS) + b"{broken\n")
    assert len(read(str(tmp_path / "a.jsonl"))) == len(ROWS)
    assert f"1 bad rows left out; first: {tmp_path / 'a.jsonl'}:{len(ROWS)}: not JSON" in caplog.text


def test_a_line_past_the_limit_is_not_held_in_memory(tmp_path):
    import tracemalloc

    with (tmp_path / "a.jsonl").open("wb") as file:
        for _ in range(20):
            file.write(b"x" * (MAX_LINE // 4))
        file.write(b"\n" + jsonl(ROWS[:1]))
    tracemalloc.start()
    records = [(number, type(record).__name__) for number, record, _ in raw_records(str(tmp_path / "a.jsonl"))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert records == [(0, "Bad"), (1, "dict")]
    assert peak < 4 * MAX_LINE < 20 * MAX_LINE // 4


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.json.gz"])
def test_what_stands_before_a_truncation_survives(tmp_path, name):
    rows = [{"instruction": f"Say {n * n * 7919}.", "output": str(hash(str(n)))} for n in range(50_000)]
    path = write(tmp_path / name, rows)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    records = list(raw_records(path))
    assert len(records) > 20_000
    assert [r["output"] for _, r, _ in records[:-1]] == [row["output"] for row in rows[: len(records) - 1]]
    assert "the file breaks off after row" in records[-1][1].reason or "not JSON" in records[-1][1].reason


def test_a_truncated_parquet_is_one_bad_row_and_the_other_files_survive(tmp_path):
    path = tmp_path / "a.parquet"
    write(path)
    path.write_bytes(path.read_bytes()[:-20])
    table = read([str(path), write(tmp_path / "b.jsonl")])
    assert answers(table) == [row["output"] for row in ROWS]


def test_empty_files_are_no_rows_and_only_empty_files_are_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert len(read([str(tmp_path / "empty.jsonl"), write(tmp_path / "b.jsonl")])) == 20
    with pytest.raises(BadInput, match="no usable row: every file is empty"):
        read(str(tmp_path / "empty.jsonl"))


@pytest.mark.parametrize(("bad", "good", "stops"), [(5, 20, False), (6, 20, True), (9, 1000, False), (11, 1000, True)])
def test_one_percent_of_bad_rows_but_at_least_five_are_allowed(tmp_path, bad, good, stops):
    (tmp_path / "a.jsonl").write_bytes(b"{\n" * bad + jsonl([ROWS[0]] * good))
    if stops:
        with pytest.raises(BadInput, match=rf"{bad} of {bad + good} rows cannot be read.*a.jsonl:0: not JSON"):
            read(str(tmp_path / "a.jsonl"))
    else:
        assert len(read(str(tmp_path / "a.jsonl"))) == good


def test_no_bad_row_is_allowed_where_the_share_is_zero(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"{\n" + jsonl(ROWS))
    with pytest.raises(BadInput):
        read(str(tmp_path / "a.jsonl"), max_bad=0)


def test_columns_are_mapped_and_joined(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"Body": "Two plus two.", "Question": "How much?", "truth": "4", "said": "5"}])
    table = read(path, columns={"prompt": "Body+Question", "response": "said", "reference": "truth"})
    row = table.select("prompt", "response", "reference").to_pylist()[0]
    assert row["prompt"][0]["content"] == "Two plus two.\nHow much?"
    assert (row["response"], row["reference"]) == ("5", "4")


def test_a_mapping_to_an_unknown_column_names_what_there_is(tmp_path):
    path = write(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="no column 'nope'; it has input, instruction, output"):
        read(path, columns={"response": "nope"})
    with pytest.raises(UsageError, match="no column of ours"):
        read(path, columns={"colour": "output"})


def test_scores_are_carried_by_name_and_by_prefix(tmp_path):
    rows = [row | {"quality": n / 10, "score_depth": n} for n, row in enumerate(ROWS)]
    table = read(write(tmp_path / "a.jsonl", rows), scores=["quality", "depth"])
    assert table.to_pydict()["score_quality"] == [n / 10 for n in range(20)]
    assert table.to_pydict()["score_depth"] == [float(n) for n in range(20)]


def test_kinds_are_not_mixed_except_prompts_among_samples(tmp_path):
    samples = write(tmp_path / "s.jsonl")
    prompts = write(tmp_path / "p.jsonl", [{"prompt": "q"}])
    preferences = write(tmp_path / "f.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    assert answers(read([samples, prompts]))[-1] is None
    with pytest.raises(UsageError, match="filter the two kinds apart"):
        read([samples, preferences])


def test_our_own_tables_are_read_back_with_the_same_ids_without_what_was_dropped(tmp_path):
    table = read(write(tmp_path / "a.jsonl", [row | {"note": "x"} for row in ROWS]))
    arrow = table.to_arrow()
    drops = pa.array([None] * 19 + ["empty"], pa.large_string())
    pq.write_table(arrow.append_column("drop_rule", drops), tmp_path / "rows.parquet")
    again = read(str(tmp_path / "rows.parquet"))
    assert again.to_pydict()["id"] == table.to_pydict()["id"][:19]
    assert again.to_pydict()["meta"] == table.to_pydict()["meta"][:19]


def test_a_limit_counts_rows_over_all_files_in_order(tmp_path):
    paths = [write(tmp_path / name, ROWS[:4]) for name in ("b.jsonl", "a.jsonl")]
    assert answers(read(paths, limit=6)) == ["0", "1", "2", "3", "0", "1"]


def test_paths_are_files_globs_directories_and_urls_each_once(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "notes.md", ".hidden.jsonl"):
        write(tmp_path / name)
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    assert expand([str(tmp_path)]) == [a, b]
    assert expand([str(tmp_path / "*.jsonl")]) == [a, b]
    assert expand([b, a, b]) == [b, a]
    assert expand([f"file://{a}"]) == [f"file://{a}"]
    assert len(read(f"file://{a}")) == 20


@pytest.mark.parametrize(
    ("name", "problem"), [("nope.jsonl", "no such file"), ("*.csv", "no file matches"), ("x.docx", "not a format")]
)
def test_a_path_that_names_nothing_readable_is_one_line(tmp_path, name, problem):
    (tmp_path / "x.docx").write_bytes(b"x")
    with pytest.raises(BadInput, match=problem):
        expand([str(tmp_path / name)])


def test_a_url_loses_its_password():
    assert redacted("https://me:secret@host/a.jsonl") == "https://host/a.jsonl"


def test_many_files_are_one_table_and_large_files_are_streamed(tmp_path):
    paths = [write(tmp_path / f"{n:02}.jsonl", ROWS) for n in range(12)]
    table = read(paths)
    assert isinstance(table, daft.DataFrame)
    assert answers(table) == [row["output"] for row in ROWS] * 12
    assert table.to_pydict()["copy"] == [n for n in range(12) for _ in ROWS]


def test_a_bad_element_of_an_array_costs_none_of_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("gristmill.formats.BLOCK", 7)  # every token is cut by the end of a block somewhere
    good = [json.dumps({"instruction": f'Say "{n}" {{[', "output": f"\\{n}"}) for n in range(3)]
    text = f'[{good[0]}, {{"instruction": NaN}}, 7, {good[1]}, {{"a": {"[" * 3000}{"]" * 3000}}}, "x]", {good[2]}]'
    (tmp_path / "a.json").write_text(text)
    records = list(raw_records(str(tmp_path / "a.json")))
    assert [record["output"] for _, record, _ in records if isinstance(record, dict)] == ["\\0", "\\1", "\\2"]
    assert len(records) == 7
    assert [number for number, _, _ in records] == list(range(7))


def test_rows_under_the_only_list_of_an_object_are_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "data": ROWS}, indent=1))
    assert answers(read(str(tmp_path / "a.json"))) == [row["output"] for row in ROWS]


def test_a_bad_byte_or_quote_in_a_csv_costs_its_own_row(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'prompt,response\na,1\nb,caf\xe9\nc,x"y\nd\ne,"2\n3"\n')
    records = [record for _, record, _ in raw_records(str(tmp_path / "a.csv"))]
    assert [r["response"] if isinstance(r, dict) else r.reason for r in records] == [
        "1", "not UTF-8", 'x"y', "1 values under 2 column names", "2\n3"
    ]  # fmt: skip


def test_times_in_parquet_are_text(tmp_path):
    table = pa.Table.from_pylist(ROWS).append_column("at", pa.array(range(20), pa.timestamp("ns")))
    pq.write_table(table, tmp_path / "a.parquet")
    assert "1970-01-01" in read(str(tmp_path / "a.parquet")).to_pydict()["meta"][0]


def test_a_filters_output_as_input_is_what_it_kept(tmp_path):
    for name in ("rows", "kept"):
        write(tmp_path / f"{name}.parquet")
    assert expand([str(tmp_path)]) == [str(tmp_path / "kept.parquet")]


def test_a_protocol_that_cannot_be_spoken_is_one_line():
    with pytest.raises(BadInput, match=r"nope://bucket/a\.jsonl: Protocol not known"):
        expand(["nope://bucket/a.jsonl"])


def test_a_file_that_cannot_be_opened_where_it_is_read_ends_the_reading(tmp_path):
    here, gone = write(tmp_path / "here.jsonl"), write(tmp_path / "gone.jsonl")
    table = scan([here, gone])
    (tmp_path / "gone.jsonl").unlink()  # as on another machine, which has only the other file
    with pytest.raises(BadInput, match=r"gone\.jsonl: cannot be opened on .*No such file"):
        Run(tmp_path / "run").step(same, table)


def same(table):
    return table
