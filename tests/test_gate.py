"""The gate: what is shown passes, what is refuted is rejected, and what is neither is no pass."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.loop.evals import Evals
from gristmill.loop.gate import Terms, gate
from gristmill.loop.looks import Looks, level_of
from gristmill.run import Run
from tests.data_sets import rows

TARGET = Terms(("tags=target",))


def evals(**slices: list[float | None]) -> Evals:
    """An evaluation: the score of each item, by slice."""
    found = [
        {"suite": "s", "item": f"{tag}-{n}", "tags": [tag], "score_x": value}
        for tag, values in slices.items()
        for n, value in enumerate(values)
    ]
    return Evals(found, ("tags",), ("x",))


def some(n: int, right: int) -> list[float | None]:
    return [1.0] * right + [0.0] * (n - right)


def checks(told: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in told["checks"] if check["check"] == kind}


BASE = evals(target=some(100, 40), other=some(600, 400))


def test_better_on_the_target_and_no_worse_elsewhere_is_promoted() -> None:
    told = gate(BASE, evals(target=some(100, 60), other=some(600, 402)), TARGET)
    assert (told["verdict"], told["why"], told["n_needed"]) == ("promote", [], {})
    assert checks(told, "target")["tags=target"]["gained"] == 20
    assert checks(told, "slice").keys() == {"tags=other", "rest"}


def test_a_slice_that_fell_rejects() -> None:
    told = gate(BASE, evals(target=some(100, 60), other=some(600, 340)), TARGET)
    assert told["verdict"] == "reject"
    assert checks(told, "slice")["tags=other"]["verdict"] == "reject"


def test_too_few_items_are_inconclusive_and_say_how_many() -> None:
    few = evals(target=some(100, 40), other=some(40, 20))
    told = gate(few, evals(target=some(100, 60), other=some(40, 20)), TARGET)
    assert told["verdict"] == "inconclusive"
    assert 40 < told["n_needed"]["tags=other"] < 500
    enough = told["n_needed"]["tags=other"]
    bigger = evals(target=some(100, 40), other=some(enough, 20))
    assert gate(bigger, evals(target=some(100, 60), other=some(enough, 20)), TARGET)["verdict"] == "promote"


def test_no_gain_is_rejected_once_a_worthwhile_one_is_excluded() -> None:
    same = evals(target=some(2000, 900), other=some(600, 400))
    assert gate(same, same, TARGET)["verdict"] == "reject"
    few = evals(target=some(40, 20), other=some(600, 400))
    assert gate(few, few, TARGET)["verdict"] == "inconclusive"


def test_nothing_may_be_lost_where_it_is_critical() -> None:
    base = evals(target=some(100, 40), other=some(600, 400), safety=some(100, 90))
    terms = Terms(("tags=target",), ("tags=safety",), sealed=0.0)
    kept = gate(base, evals(target=some(100, 70), other=some(600, 400), safety=some(100, 95)), terms)
    safety = checks(kept, "critical")["tags=safety"]
    assert kept["verdict"] == "promote"
    assert safety["loses_at_most"] == pytest.approx(1 - 0.025 ** (1 / 90))
    assert safety["rule_of_three"] == pytest.approx(3 / 90)
    lost = gate(base, evals(target=some(100, 70), other=some(600, 400), safety=some(100, 89)), terms)
    assert (lost["verdict"], checks(lost, "critical")["tags=safety"]["lost_items"]) == ("reject", ["s safety-89"])


def test_few_critical_items_say_little() -> None:
    base, better = (evals(target=some(100, n), other=some(600, 400), safety=some(20, 20)) for n in (40, 70))
    told = gate(base, better, Terms(("tags=target",), ("tags=safety",)))
    assert told["verdict"] == "inconclusive"
    assert told["n_needed"] == {"tags=safety": 72}  # 0.95^72 < 0.025


def test_the_rule_of_three() -> None:
    base, better = (evals(target=some(100, n), other=some(600, 400), safety=some(300, 300)) for n in (40, 70))
    told = gate(base, better, Terms(("tags=target",), ("tags=safety",)))
    assert checks(told, "critical")["tags=safety"]["rule_of_three"] == pytest.approx(0.01)


def test_flips_have_a_cap() -> None:
    base = evals(target=some(100, 40), other=[1.0, 0.0] * 1000)
    swapped = evals(target=some(100, 70), other=[0.0, 1.0] * 150 + [1.0, 0.0] * 850)
    assert gate(base, swapped, Terms(("tags=target",), max_flips=0.2))["verdict"] == "promote"
    told = gate(base, swapped, Terms(("tags=target",), max_flips=0.05))
    assert (told["verdict"], checks(told, "flips")["negative flips"]["share"]) == ("reject", 150 / 2100)


def test_what_was_not_judged_is_no_pass() -> None:
    better = evals(target=some(100, 70), other=[*some(550, 400), *[None] * 50])
    told = gate(BASE, better, TARGET)
    assert (told["verdict"], checks(told, "unscored")["unscored"]["candidate_unscored"]) == ("inconclusive", 50)
    missing = evals(target=some(100, 70), other=some(500, 400))
    assert gate(BASE, missing, TARGET)["verdict"] == "inconclusive"


def test_several_samples_are_one_outcome() -> None:
    three = evals(target=[0.0], other=[1.0])
    three.rows.extend([{**row, "score_x": 1.0} for row in three.rows for _ in range(2)])
    once = evals(target=[1.0], other=[1.0])
    assert gate(once, three, TARGET)["all"]["n"] == 2
    assert gate(once, three, TARGET)["all"]["lost"] == 0


def test_each_look_at_the_same_items_is_stricter(tmp_path: Path) -> None:
    run = Run(tmp_path)
    candidates = [evals(target=some(100, 50 + n), other=some(600, 400)) for n in range(3)]
    seen = [gate(BASE, each, TARGET, run=run)["look"] for each in [*candidates, candidates[1]]]
    assert [look["number"] for look in seen] == [1, 2, 3, 2]  # the same comparison again is the same look
    assert [look["level"] for look in seen[:3]] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])
    others = Evals([{**row, "item": f"new {row['item']}"} for row in BASE.rows], ("tags",), ("x",))
    assert gate(others, others, TARGET, run=run)["look"]["number"] == 1
    assert gate(BASE, candidates[0], Terms(("tags=target",), margin=0.1), run=run)["look"]["number"] == 4
    assert gate(BASE, candidates[0], Terms(("all",)), run=run, slices=[])["look"]["number"] == 5
    assert gate(BASE, candidates[0], Terms(("all",)), run=run)["look"]["number"] == 6  # by tags, too
    assert all("verdict" in look.told for look in Looks(run).all())


def test_all_looks_together_spend_alpha() -> None:
    assert sum(level_of(0.05, number) for number in range(1, 10_000)) == pytest.approx(0.05, rel=1e-3)


def test_sealed_items_are_looked_at_by_a_release_alone(tmp_path: Path) -> None:
    run = Run(tmp_path)
    better = evals(target=some(100, 80), other=some(600, 400))
    everyday = gate(BASE, better, Terms(("tags=target",), sealed=0.3), run=run)
    release = gate(BASE, better, Terms(("tags=target",), sealed=0.3, release=True), run=run)
    assert everyday["all"]["n"] + release["all"]["n"] == 700
    assert 0.2 < release["all"]["n"] / 700 < 0.4
    assert release["look"]["number"] == 1


def test_llama_against_dart_on_math(tmp_path: Path) -> None:
    found = rows("evaltree_weakness/MATH_results")
    names = {"llama": "Llama-3.1-8B-Instruct", "dart": "dart-math-llama3-8b-uniform"}
    for short, name in names.items():
        lines = [{"item": row["i"], "type": row["type"], "correct": row["real"][name]} for row in found]
        (tmp_path / f"{short}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, told = ran(tmp_path, "llama.jsonl", "dart.jsonl", "--target", "all", "--slice", "type")
    assert (code, told["verdict"]) == (1, "reject")
    assert (told["all"]["lost"], told["all"]["gained"]) == (712, 491)
    assert told["all"]["p"] == pytest.approx(2.01e-10, rel=2e-3)
    assert 100 * told["all"]["difference"] == pytest.approx(-4.42)
    assert [100 * limit for limit in told["all"]["interval"]] == pytest.approx([-5.77, -3.07], abs=0.01)
    assert checks(told, "flips")["negative flips"]["share"] == pytest.approx(0.1424)


def ran(tmp_path: Path, base: str, candidate: str, *flags: str) -> tuple[Any, dict[str, Any]]:
    """The exit code of the command, and what it wrote."""
    out = tmp_path / "verdict.json"
    files = [str(tmp_path / base), str(tmp_path / candidate)]
    with pytest.raises(SystemExit) as ended:
        command(["gate", *files, "-o", str(out), "--run", str(tmp_path / "run"), *flags])
    return ended.value.code, json.loads(out.read_text()) if out.exists() else {}


def written(path: Path, found: Evals) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found.rows))


def test_the_command_exits_1_unless_it_promotes_and_tells_ci(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "base.jsonl", BASE)
    written(tmp_path / "good.jsonl", evals(target=some(100, 60), other=some(600, 402)))
    written(tmp_path / "bad.jsonl", evals(target=some(100, 60), other=some(600, 340)))
    junit = tmp_path / "reports" / "gate.xml"  # the directory is made
    assert ran(tmp_path, "base.jsonl", "good.jsonl", "--target", "tags=target", "--junit", str(junit))[0] in (0, None)
    assert Xml.parse(junit).getroot().get("failures") == "0"
    assert capsys.readouterr().out.startswith("PROMOTE")
    code, told = ran(tmp_path, "base.jsonl", "bad.jsonl", "--target", "tags=target", "--junit", str(junit))
    assert (code, told["verdict"], told["look"]["number"]) == (1, "reject", 2)
    failed = {case.get("name") for case in Xml.parse(junit).getroot() if case.find("failure") is not None}
    assert failed == {"tags=other", "rest"}


def test_a_file_of_others_is_not_replaced_and_costs_no_look(tmp_path: Path) -> None:
    written(tmp_path / "base.jsonl", BASE)
    (tmp_path / "verdict.json").write_text('["mine"]')
    assert ran(tmp_path, "base.jsonl", "base.jsonl", "--target", "tags=target") == (2, ["mine"])
    (tmp_path / "verdict.json").unlink()
    assert ran(tmp_path, "base.jsonl", "base.jsonl", "--target", "all", "--junit", str(tmp_path)) == (2, {})
    assert not (tmp_path / "run" / "looks.sqlite").exists()


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"targets": ("tags=nope",)}, "no item of both is in that slice; allowed: all, tags=other, tags=target"),
        ({"targets": ()}, "no target"),
        ({"targets": ("all",), "margin": 2.0}, "--margin 2"),
        ({"targets": ("all",), "critical": ("all",)}, "a target already"),
        ({"targets": ("all",), "release": True}, "--release without --sealed"),
    ],
)
def test_what_cannot_be_asked(terms: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        gate(BASE, BASE, Terms(**terms))


def test_a_slice_that_no_item_has_is_no_check_that_passes() -> None:
    with pytest.raises(UsageError, match="--slice typo: no item of both has it"):
        gate(BASE, BASE, Terms(("all",)), slices=["tags", "typo"])


def test_models_that_answered_nothing_in_common() -> None:
    with pytest.raises(UsageError, match="no item in common"):
        gate(BASE, Evals([{"suite": "s", "item": "z", "score_x": 1.0}], (), ("x",)), TARGET)
