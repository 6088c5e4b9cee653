"""YAML as people mean it, and one line that finds what is wrong in it."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gristmill.errors import UsageError
from gristmill.models.named import entries
from gristmill.yaml_file import checked, read_yaml


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    size: int | list[int] = 1


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["oak", "elm"]
    leaves: list[Leaf] = []
    by_name: dict[str, Leaf] | None = None
    shape: dict[str, int] = Field({}, alias="schema")

    @model_validator(mode="after")
    def _elms_are_bare(self) -> "Tree":
        if self.kind == "elm" and self.leaves:
            raise ValueError("an elm has no leaves")
        return self


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"kind": "ash"}, "kind: Input should be 'oak' or 'elm' (got 'ash')"),
        ({}, "kind: missing in a tree"),
        ({"kind": "elm", "leaves": [{}]}, "the file: an elm has no leaves"),
        ({"kind": "oak", "leafs": []}, "leafs: unknown key; allowed are kind, leaves, by_name, schema"),
        ({"kind": "oak", "leaves": [{}, {"sise": 2}]}, "leaves.1.sise: unknown key; allowed are name, size"),
        ({"kind": "oak", "leaves": [{"name": "a", "hue": 2}]}, "leaves.0 (a).hue: unknown key; allowed are name, size"),
        ({"kind": "oak", "by_name": {"b": {"hue": 2}}}, "by_name.b.hue: unknown key; allowed are name, size"),
        ({"kind": "oak", "by_name": {"b": {"size": "x"}}}, "by_name.b.size: Input should be a valid integer"),
        ({"kind": "oak", "schema": {"x": "y"}}, "schema.x: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_found(content: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as error:
        checked(Tree, content, "t.yaml", "a tree")
    assert str(error.value).startswith(f"t.yaml: {told}")


def test_words_stay_words(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("languages: [en, no]\ndate: 2026-01-02\nat: 12:30\nnumber: 007\non: true\nsize: 1.5")
    assert read_yaml(path, "a file") == {
        "languages": ["en", "no"],
        "date": "2026-01-02",
        "at": "12:30",
        "number": "007",
        "on": True,
        "size": 1.5,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "models: {judge-a: {url: http://h/v1, modell: m}}",
            r"models\.0 \(judge-a\)\.modell: unknown key; allowed are",
        ),
        ("models: {judge-a: http://h/v1}", r"models\.0: .*'http://h/v1'"),
        ("models: 3", r"models: .*list \(got 3\)"),
        ("model: []", r"gristmill init models"),
        ("- alias: a", r"holds a list; it must be models \(see `gristmill init models`\)"),
    ],
)
def test_a_wrong_models_yaml_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        entries(path)


def test_models_may_be_listed_or_stand_under_their_aliases(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("models: [{alias: a, url: http://h/v1}, {alias: b}]")
    listed = entries(path)
    path.write_text("models: {a: {url: http://h/v1}, b: }")
    assert entries(path) == listed and list(listed) == ["a", "b"]
