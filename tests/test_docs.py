"""The documentation names every flag there is and no other, and its Python runs."""

import re
from pathlib import Path

import pytest
import typer

import gristmill
from gristmill.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
COMMANDS = typer.main.get_command(app).commands


def flags(verb):
    return {
        flag for option in COMMANDS[verb].params for flag in (*option.opts, *option.secondary_opts) if flag[:2] == "--"
    }


def test_the_page_of_filter_names_every_flag():
    page = (ROOT / "docs" / "filter.md").read_text()
    assert {flag for flag in flags("filter") - {"--out"} if flag not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_page_names_a_flag_that_is_not(page):
    known = {flag for verb in COMMANDS for flag in flags(verb)} | {"--help", "--version"}
    shown = set(re.findall(r"gristmill \w+[^`\n]*", page.read_text()))
    assert {flag for line in shown for flag in re.findall(r"(?<!\S)--[a-z-]+", line)} <= known


def test_make_bench_runs_every_bench():
    there = {path.stem for path in (ROOT / "bench").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    listed = set(re.findall(r'^    "(\w+)": ', (ROOT / "bench" / "all.py").read_text(), re.MULTILINE))
    assert listed == there - {"all", "demo_data"}  # which makes the data that are shipped


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_python_of_the_filter_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"prompt": "Name a colour.", "response": "Blue."}\n' * 2)
    (tmp_path / "eval.jsonl").write_text('{"question": "What is the capital city of the country of France?"}\n')
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "filter.md").read_text(), re.DOTALL):
        exec(compile(block, "docs/filter.md", "exec"), {})
    assert (tmp_path / "out" / "report.html").exists()


TEACHER = "name: t\nprompt: 'Add {{ a }} and {{ b }}.'\nslots: {a: {range: [1, 9]}, b: {range: [1, 9]}}\nsamples: 30\n"


def test_the_python_page_names_every_public_name_and_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "python.md").read_text()
    table = " ".join(line for line in page.splitlines() if line.startswith("|"))
    assert [name for name in gristmill.__all__ if not re.search(rf"`{name}\b", table)] == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher.yaml").write_text(TEACHER)
    (tmp_path / "fake.yaml").write_text("replies: [{regex: '(\\d+) and (\\d+)', reply: '\\1 plus \\2 is their sum'}]\n")
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), {})
    assert "\n120 30 [{'by': 'temperature', 'value': 0.3, " in capsys.readouterr().out
