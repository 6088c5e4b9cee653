"""The templates that come with Gristmill."""

import re
from itertools import islice
from pathlib import Path

import pytest

from gristmill.errors import UsageError
from gristmill.generate.library import library, library_names, library_path
from gristmill.generate.templates import Template, count, prompt_source


@pytest.mark.parametrize("name", library_names())
def test_every_template_makes_its_prompts_and_says_where_it_comes_from(name: str) -> None:
    template = Template.load(library_path(name))
    assert template.name == name
    assert template.description
    assert re.search(r"arXiv:\d{4}\.\d{5}", template.source)
    assert template.sampling["max_tokens"] > 0
    told = count(template)
    assert told.distinct == template.samples
    for row in islice(prompt_source(f"library:{name}"), 200):
        assert row["source_file"] == f"library:{name}"  # wherever it is installed
        text = "\n".join(turn["content"] for turn in row["prompt"])
        assert not re.search(r"[{}]|\bNone\b|\n{3}|\n$|  +\S", text), text


@pytest.mark.parametrize("name", library_names())
def test_every_value_of_every_slot_comes_up(name: str) -> None:
    template = Template.load(library_path(name))
    rows = list(prompt_source(f"library:{name}", samples=min(2_000, count(template).allowed)))
    for slot, entry in template.slots.items():
        lists = [entry.values] if isinstance(entry.values, list) else list((entry.values or {}).values())
        shown = "\n".join(row[f"slot_{slot}"].replace('\\"', '"') for row in rows)  # a sample is JSON
        assert [value for each in lists for value in each if str(value) not in shown] == []


def test_the_number_of_prompts_is_told() -> None:
    sizes = {name: size for name, size, _ in library()}
    assert sizes.keys() == set(library_names())
    assert sizes["personas"] == count(Template.load(library_path("personas"))).allowed


def test_the_page_of_templates_tells_the_same_numbers() -> None:
    page = (Path(__file__).parent.parent / "docs" / "templates.md").read_text(encoding="utf-8")
    shown = {name: int(size.replace(",", "")) for name, size in re.findall(r"\| `(\w+)` \| ([\d,]+) \|", page)}
    assert shown == {name: size for name, size, _ in library()}


def test_a_name_that_is_none_is_told_the_others() -> None:
    with pytest.raises(UsageError, match=r"library:teachers: no such template; there are code_tests, .*personas"):
        prompt_source("library:teachers")


def test_templates_need_no_file_beside_them(tmp_path: Path) -> None:
    for name in library_names():
        copied = tmp_path / f"{name}.yaml"
        copied.write_text(library_path(name).read_text(encoding="utf-8"), encoding="utf-8")
        assert prompt_source(copied).count().distinct
