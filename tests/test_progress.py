"""What is under way: counts, rates and time left by a fake clock; what stands on a terminal, and what elsewhere."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from gristmill import progress, read
from gristmill.formats import raw_records
from gristmill.generate.prompt_table import PromptTable
from gristmill.progress import Stage, duration
from tests.test_cli import gristmill
from tests.test_filter import pile, write

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_rate_runs_from_the_first_count_to_the_last_and_gives_the_time_left(clock):
    stage = Stage("near", 1_000_000, clock=clock)
    assert stage.line() == "near              1,000,000 rows  0 s  …"
    clock.now = 10
    stage.advance(100_000)
    assert (stage.rate, stage.left) == (None, None)  # what came before the first count was preparation
    clock.now = 14
    stage.advance(200_000)
    assert stage.rate == 50_000
    assert stage.left == 14
    clock.now = 16
    assert stage.rate == 50_000  # between two counts
    assert stage.line() == "near                300,000 of 1,000,000 rows   30%  50,000 rows/s  16 s  12 s left"
    clock.now = 34
    assert stage.rate == 200_000 / 24  # long overdue: the wait counts
    stage.advance(700_000)
    assert stage.line() == "near              1,000,000 of 1,000,000 rows  100%  37,500 rows/s  34 s"


def test_no_time_is_left_where_the_last_count_is_overdue(clock):
    stage = Stage("write", 25, clock=clock)
    stage.advance(10)
    clock.now = 2
    stage.advance(10)
    clock.now = 2.9
    assert stage.left == pytest.approx(0.1)
    clock.now = 3.1
    assert stage.left is None
    assert stage.line().endswith("3 s  …")
    clock.now = 5
    assert stage.left == 2.5  # 10 in 5 seconds, and 5 more


def test_a_stage_counts_at_one_place_or_where_most_have_passed(clock):
    one, other = Stage("read", at="rows", clock=clock), Stage("read", clock=clock)
    for stage in (one, other):
        stage.advance(8, at="read")
        stage.advance(3, at="rows")
    assert (one.done, other.done) == (3, 8)


def test_the_bytes_read_tell_how_many_rows_there_will_be(clock):
    stage = Stage("read + rules", at="rows", clock=clock)
    stage.all_bytes = 100 << 20
    stage.advance(1_000, at="read")
    assert stage.expected is None  # no basis yet
    stage.bytes = 10 << 20
    assert stage.expected == 10_000
    assert stage.line() == "read + rules        ~10,000 rows  0 s  …"
    stage.advance(500, at="rows")
    clock.now = 2
    stage.advance(500, at="rows")
    assert stage.line() == "read + rules          1,000 of ~10,000 rows   10%  250 rows/s  2 s  36 s left"


def test_a_phase_counts_something_else_from_0(clock):
    stage = Stage("near", 50, clock=clock)
    stage.advance(50)
    clock.now = 5
    stage.phase("pairs", 400)
    assert stage.line() == "near                    400 pairs  5 s  …"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")]
)
def test_durations_are_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_nothing_is_counted_without_a_stage_and_a_step_is_one_unless_it_is_part_of_one():
    progress.end()
    progress.advance(5)
    assert progress.line() == ""
    with progress.step("alone") as counted:
        counted(5)
        assert progress.line().startswith("alone") and " 5 rows" in progress.line()
        with progress.step("part") as counted:
            counted(7)
            assert progress.line().startswith("alone") and " 5 rows" in progress.line()
    assert progress.line() == ""
    with progress.step("alone", 4, unit="files") as counted:
        counted(1)
        assert " 1 of 4 files" in progress.line()


def test_prompts_that_are_being_read_are_seen_at_once(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    seen = []

    def watched(file):
        for record in raw_records(file):
            seen.append(progress.line())
            yield record

    monkeypatch.setattr("gristmill.generate.prompt_table.raw_records", watched)
    table = PromptTable(str(tmp_path))
    opened = len(seen)
    assert seen[0].split()[:4] == ["opening", "2", "files", "0"] and "1 of 2 files" in seen[-1]
    assert table.count().rows == 4
    assert seen[opened].startswith("reading") and " 3 rows" in seen[-1]


STAGE = re.compile(r"[a-z][a-z +-]{13} {0,10}[\d,]+ rows( {2} *[\d,]+ dropped| {19}) {2,}\d+\.\d s( {2}0 bad rows)?")


def test_off_a_terminal_a_run_prints_a_line_a_finished_stage_and_no_other(tmp_path):
    write(tmp_path / "data.jsonl", pile())
    done = gristmill("filter", "data.jsonl", "-o", "out", "--json", cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert [line[:14].rstrip() for line in lines] == [
        *("read + rules", "signatures", "exact", "near", "openings", "write")
    ]
    assert all(STAGE.fullmatch(line) for line in lines), done.stderr


SLOW = """
import sys, time
from gristmill.progress import Stages, advance, shown

with shown({every}) as say:
    stages = Stages(say)
    for name in ("first", "second"):
        stages.begin(name, 30)
        for _ in range(15):
            advance(2)
            time.sleep({sleep})
        if name == "second":
            {act}
        stages.end("30 rows")
print("done")
"""


def slow(sleep=0.1, every=30, act="pass"):
    return [sys.executable, "-c", SLOW.format(sleep=sleep, every=every, act=act)]


def test_off_a_terminal_only_long_stages_write_a_line_now_and_then():
    done = subprocess.run(slow(every=0.5), capture_output=True, text=True, check=True)
    lines = [line.split()[0] for line in done.stderr.splitlines()]
    assert lines.count("first") in (2, 3, 4) and lines[-1] == "second"
    assert re.search(r"first +\d+ of 30 rows", done.stderr)
    assert "\x1b" not in done.stderr
    quick = subprocess.run(slow(sleep=0), capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in quick.stderr.splitlines()] == ["first", "second"]


@pytest.mark.parametrize("gone", ["2>&-", "2>/dev/full"])
def test_the_work_goes_on_where_stderr_is_gone(gone):
    closed = subprocess.run(
        ["sh", "-c", f'"$@" {gone}', "sh", *slow(sleep=0)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert closed.stdout == "done\n"


def on_a_terminal(command, interrupt=False):
    """What a program writes to a terminal on stderr, and to a pipe on stdout."""
    mine, theirs = os.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("TTY_COMPATIBLE", "NO_COLOR")} | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(mine, 65_536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
        if interrupt and b"second" in written:
            process.send_signal(signal.SIGINT)
            interrupt = False
    out = process.communicate()[0]
    os.close(mine)
    return written.decode(), out


def screen(written):
    """The lines that a terminal shows in the end."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[\??\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece.endswith("A") and piece[0] == "\x1b":
            row -= int(piece[2:-1] or 1)
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece[0] != "\x1b":
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return "\n".join(lines).rstrip().split("\n")


def test_on_a_terminal_a_line_moves_and_is_gone_in_the_end():
    written, out = on_a_terminal(slow())
    assert out == "done\n"
    assert len(set(re.findall(r"first +(\d+) of 30 rows", written))) >= 3
    assert re.search(r"second .* rows/s .* s left", written)
    assert [line.split()[:3] for line in screen(written)] == [["first", "30", "rows"], ["second", "30", "rows"]]
    assert written.rindex(SHOW) > written.rindex(HIDE)


def test_after_an_error_the_terminal_is_clean_and_shows_the_cursor():
    written, _ = on_a_terminal(slow(act='raise ValueError("broken")'))
    assert written.rindex(SHOW) > written.rindex(HIDE)
    lines = screen(written)
    assert lines[0].startswith("first") and lines[1].startswith("Traceback") and lines[-1] == "ValueError: broken"


def test_after_an_interrupt_nothing_of_the_display_is_written_or_left():
    written, _ = on_a_terminal(slow(), interrupt=True)
    assert written.rindex(SHOW) > written.rindex(HIDE)
    assert "rows" not in written[written.rindex(SHOW) :]
    assert not any(line.startswith("second") for line in screen(written))


def test_the_display_of_the_filter_on_a_terminal_leaves_the_lines_of_the_stages(tmp_path):
    data = write(tmp_path / "data.jsonl", pile())
    code = "from gristmill.cli.main import run; run()"
    written, out = on_a_terminal(
        [sys.executable, "-c", code, "filter", data, "-o", str(tmp_path / "o"), "--run", str(tmp_path / "r")]
    )
    assert "rows kept" in out
    lines = screen(written)
    assert [line[:14].rstrip() for line in lines] == [
        *("read + rules", "signatures", "exact", "near", "openings", "write")
    ]
    assert all(STAGE.fullmatch(line) for line in lines), lines


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv", "parquet", "parquet.gz"])
def test_reading_counts_every_row_and_every_byte_of_the_file(tmp_path, monkeypatch, ending):
    path = tmp_path / f"data.{ending}"
    plain = tmp_path / f"plain.{ending.removesuffix('.gz')}"
    table = pa.table({"prompt": [f"Ask {n}." for n in range(2_500)], "response": [f"Told {n}." for n in range(2_500)]})
    if "parquet" in ending:
        pq.write_table(table, plain, row_group_size=700)
    elif "csv" in ending:
        csv.write_csv(table, plain)
    else:
        plain.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    path.write_bytes(gzip.compress(plain.read_bytes()) if ending.endswith("gz") else plain.read_bytes())
    consumed = []
    monkeypatch.setattr(progress, "consume", consumed.append)
    progress.begin("read")
    try:
        assert len(read(str(path))) == 2_500
        assert progress.line().startswith("read                  2,500 of 2,500 rows  100%")
    finally:
        progress.end()
    peeked = path.stat().st_size if ending == "parquet.gz" else 0  # it is unpacked for its first records too
    assert abs(sum(consumed) - peeked - path.stat().st_size) <= 3  # of Parquet by rows, rounded
