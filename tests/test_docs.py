"""The documentation names every flag there is and no other, and its Python runs."""

import re
from pathlib import Path

import pytest
import typer

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
