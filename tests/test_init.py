"""`gristmill init`: the examples are what the readers of these files take."""

from pathlib import Path

import pytest
import yaml

from gristmill.cli.init import KINDS
from gristmill.cli.main import run
from gristmill.filter.rules_file import read_rules
from gristmill.generate.op_file import op_of
from gristmill.generate.templates import prompt_source
from gristmill.mix.mix_file import read_mix
from gristmill.score.judge_file import read_judge
from gristmill.score.reward import read_reward


def ran(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        run(list(arguments))
    return ended.value.code


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_of_each_kind_is_commented_yaml(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not ran("init", kind)
    text = Path(f"{kind}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert isinstance(yaml.safe_load(text), dict)


def test_the_template_makes_prompts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert not ran("init", "template", "-o", str(path))
    assert prompt_source(path).count().distinct == 20


def test_the_mix_is_a_mix(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert not ran("init", "mix", "-o", str(path))
    assert read_mix(path).kinds == ["math", "general"]


def test_the_rules_are_rules(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert not ran("init", "rules", "--out", str(path))
    assert {"no_urls", "terse", "secrets"} <= {rule.name for rule in read_rules(path)}


def test_the_judge_and_the_reward_are_read(tmp_path: Path) -> None:
    assert not ran("init", "judge", "-o", str(tmp_path / "judge.yaml"))
    assert read_judge(tmp_path / "judge.yaml").axes["clarity"].scale == (1, 5)
    assert not ran("init", "reward", "-o", str(tmp_path / "reward.yaml"))
    assert [each.score.name for each in read_reward(tmp_path / "reward.yaml").components] == ["exact"]


def test_the_models_hold_names_of_variables_and_no_key(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    assert not ran("init", "models", "-o", str(path))
    entries = yaml.safe_load(path.read_text())["models"]
    assert [entry["alias"] for entry in entries] == ["small", "judge-a"]
    known = {"alias", "url", "model", "key_env", "revision", "prices", "limits", "sampling"}
    assert set().union(*entries) == known
    assert entries[1]["prices"].keys() == {"input", "output", "batch"}
    assert entries[1]["limits"].keys() == {"concurrency", "requests_per_minute", "tokens_per_minute", "timeout"}


def test_a_shipped_template_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert not ran("init", "library:personas", "-o", str(path))
    assert prompt_source(path).name == "personas"


def test_a_shipped_transform_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert not ran("init", "op:restyle", "-o", str(path))
    assert op_of(None, path).name == "restyle"


def test_nothing_is_replaced_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    assert ran("init", "fake", "-o", str(path)) == 2
    assert path.read_text() == "mine"
    assert "exists" in capsys.readouterr().err
    assert not ran("init", "fake", "-o", str(path), "--force")
    assert "replies" in path.read_text()


def test_without_a_kind_everything_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert not ran("init")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(KINDS)]] == list(KINDS)
    assert any(line.startswith("library:self_instruct") and "210,366,000 prompts" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["nonsense"],
            "models, judge, reward, mix, suite, loop, library:NAME and op:NAME",
        ),
        (["library:nonsense"], "no such template; there are"),
        (["fake", "-o", "."], "is a directory"),
        (["fake", "-o", "missing/fake.yaml"], "missing"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ran("init", *arguments) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1
