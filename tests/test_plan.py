"""Plans: golden answers for described situations, every figure traced to what it is and where it is from."""

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.plan.efficiency import efficiency
from gristmill.plan.plan import Figure, Wish, figures, plan, size_of
from gristmill.run import Run


def found(**wish: Any) -> dict[str, Figure]:
    return {each.name: each for each in plan(Wish(**{"size": 7e9, **wish}))}


SITUATIONS: list[tuple[dict[str, Any], str, tuple[float | None, float | None]]] = [
    ({"goal": "format"}, "rows to train on", (20, 50)),
    ({"goal": "format"}, "candidates to generate", (100, 500)),
    ({"goal": "behaviour"}, "rows to train on", (100, 1_000)),
    ({"goal": "domain"}, "rows to train on", (300, 3_000)),
    ({"goal": "assistant"}, "rows to train on", (1_000, 5_000)),
    ({"goal": "assistant"}, "candidates to generate", (5_000, 50_000)),
    ({"goal": "assistant", "yielded": 0.25}, "candidates to generate", (4_000, 20_000)),
    ({"goal": "general"}, "rows to train on", (10_000, 100_000)),
    ({"goal": "new-domain"}, "rows to train on", (100_000, None)),
    ({"goal": "general", "method": "rl", "rl_scale": "probe"}, "prompts", (1_000, 10_000)),
    ({"goal": "general", "method": "rl"}, "prompts", (10_000, 20_000)),
    ({"goal": "general", "method": "rl", "rl_scale": "frontier"}, "prompts", (100_000, 1_000_000)),
    ({"goal": "general", "method": "rl"}, "outputs", (80_000, 160_000)),
    ({"goal": "assistant", "size": 7e9}, "Chinchilla", (140e9, 140e9)),
    ({"goal": "format", "method": "lora"}, "LoRA rank to begin with", (8, 8)),
    ({"goal": "assistant", "method": "lora"}, "LoRA rank to begin with", (8, 16)),
    ({"goal": "new-domain", "method": "lora"}, "LoRA rank to begin with", (32, 64)),
    ({"goal": "assistant", "tokens_in": 400, "tokens_out": 600}, "tokens of generating", (5e6, 50e6)),
    ({"goal": "assistant", "price_in": 1, "price_out": 2}, "money of generating", (6.5, 65)),
    ({"goal": "assistant", "budget": 65, "price_in": 1, "price_out": 2}, "rows the budget buys", (5_000, 10_000)),
    ({"goal": "assistant", "budget": 65, "cost_per_kept": 0.01}, "rows the budget buys", (6_500, 6_500)),
    ({"goal": "assistant", "method": "dpo", "epochs": 1}, "tokens of training", (1.6e6, 8e6)),
]


@pytest.mark.parametrize(("wish", "name", "expected"), SITUATIONS)
def test_golden_answers(wish: dict[str, Any], name: str, expected: tuple[float | None, float | None]) -> None:
    figure = found(**wish)[name]
    assert (figure.low, figure.high) == (pytest.approx(expected[0]), expected[1] and pytest.approx(expected[1]))


@pytest.mark.parametrize("wish", [wish for wish, _, _ in SITUATIONS])
def test_every_figure_says_what_it_is_and_where_it_is_from(wish: dict[str, Any]) -> None:
    sources = set(figures()["sources"].values())
    for figure in found(**wish).values():
        assert figure.kind in ("heuristic", "published", "measured", "given", "computed")
        if figure.kind in ("heuristic", "published"):
            assert figure.source in sources, figure
        else:
            assert figure.source


def test_hours_follow_the_stated_formula() -> None:
    hours = found(goal="assistant", method="sft", epochs=1)["GPU-hours of training"]
    assert hours.low == pytest.approx(6 * 7e9 * 1_000 * 800 / (989e12 * 0.4) / 3600)
    lora = found(goal="assistant", method="lora", epochs=1)["GPU-hours of training"]
    assert lora.low == pytest.approx(hours.low * 4 / 6 if hours.low else 0)
    served = found(goal="assistant", teacher=70e9)["GPU-hours of generating"]
    assert served.low == pytest.approx(2 * 70e9 * 5_000 * 800 / (989e12 * 0.2) / 3600)


def test_the_chapters_sum() -> None:
    told = efficiency(1_600, 8_000, 50, 44)
    assert told.yielded == 0.2 and told.ratio == pytest.approx(5.68, abs=0.01) and told.gain == 6
    assert told.per_example == (50 / 1_600, 44 / 8_000)
    more = efficiency(1_600, 8_000, 50, 44, base=40, cost=80)
    assert more.per_thousand == (6.25, 0.5) and more.cost_per_kept == 0.05 and more.gain_per_money == 0.125


@pytest.mark.parametrize(("text", "size"), [("7B", 7e9), ("0.5b", 5e8), ("350M", 3.5e8), ("1.2e9", 1.2e9)])
def test_sizes(text: str, size: float) -> None:
    assert size_of(text) == pytest.approx(size)


@pytest.mark.parametrize("text", ["", "B", "-7B", "seven"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="write parameters as"):
        size_of(text)


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        command(list(arguments))
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def test_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cli(capsys, "plan", "--goal", "assistant", "--size", "7B", "--method", "lora")
    assert code == 0 and "1,000 to 5,000" in out and "140,000,000,000" in out and "against: s1" in out
    code, out, _ = cli(capsys, "plan", "--goal", "format", "--size", "7B", "--method", "sft", "--json")
    told = json.loads(out)
    assert told["figures"][0]["low"] == 20 and told["heuristics"][0]["against"]
    code, out, _ = cli(
        capsys, "efficiency", "--kept", "1600", "--all", "8000", "--score-kept", "50", "--score-all", "44"
    )
    assert code == 0 and "20%" in out and "5.7x" in out


def test_a_person_is_asked_again_until_the_answer_can_be_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["fame", "assistant", "big", "7B", "lore", "lora"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    code, out, err = cli(capsys, "plan")
    assert code == 0 and "1,000 to 5,000" in out
    for said in ("goal fame: allowed are format", "size big", "method lore: allowed are lora"):
        assert said in err


def test_a_runs_own_figures_take_the_place_of_heuristics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"q{n}", "response": f"An answer of some length, number {n} of them."} for n in range(8)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *rows]))
    filter_files(["rows.jsonl"], "out", Settings(near=None), run=Run("gristmill-run"))
    arguments = ["plan", "--goal", "assistant", "--size", "7B", "--method", "lora", "--from-run", "gristmill-run"]
    code, out, err = cli(capsys, *arguments, "--json")
    assert code == 0, err
    share = next(each for each in json.loads(out)["figures"] if each["name"] == "yield")
    assert share["kind"] == "measured" and share["low"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--goal", "fame", "--size", "7B", "--method", "lora"], "allowed are format"),
        (["plan", "--goal", "format", "--size", "7B", "--method", "ppo"], "allowed are sft"),
        (["plan", "--goal", "format", "--size", "big", "--method", "sft"], "size big"),
        (["plan", "--goal", "format", "--size", "7B", "--method", "sft", "--price", "1"], "write IN,OUT"),
        (["plan", "--goal", "format", "--size", "7B", "--method", "sft", "--from-run", "nowhere"], "no run there"),
        (["plan", "--size", "7B"], "no --goal"),
        (["efficiency", "--kept", "9", "--all", "8", "--score-kept", "1", "--score-all", "1"], "kept 9 of 8"),
    ],
)
def test_bad_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, _, err = cli(capsys, *arguments)
    assert code == 2 and said in err and err.count("\n") == 1
