"""Trials on the embedded model: real trainings, suites asked in this process, verdicts and curves from both."""

import json
from pathlib import Path
from typing import Any

import pytest

from gristmill.cli.main import run as command
from gristmill.errors import UsageError
from gristmill.loop.evals import read_evals
from gristmill.loop.evaluate import evaluate
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.named import ready
from gristmill.models.weights import load
from gristmill.plan.asked import asked, graded, held, slices, views
from gristmill.plan.subsets import rows_of
from gristmill.plan.trainer import Tiny
from gristmill.plan.trial import trial
from gristmill.run import Run
from gristmill.train.tiny.make import Recipe, make, save, trained

for _module in ("torch", "transformers"):
    pytest.importorskip(_module, reason=f"{_module} is not installed: pip install -e '.[train]', or make test-train")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("trl")]

SUITE = "name: manners\nitems: items.jsonl\nscores: [exact]\nslices: [slot_size]\nsampling: {max_tokens: 4}\n"
STEPS = 15
"""Enough to learn which of two words is the answer, which is all there is to learn here."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of which a source answers rightly, another as well, and a large third wrongly."""
    monkeypatch.chdir(tmp_path)
    answers = [*[("good", "yes")] * 24, *[("fine", "yes")] * 24, *[("bad", "no")] * 96]
    rows = [{"prompt": f"Is it {n}?", "response": word, "source": name} for n, (name, word) in enumerate(answers)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = [
        {"prompt": f"Is it {200 + n}?", "reference": "yes", "slot_size": "low" if n < 32 else "high"} for n in range(64)
    ]
    Path("items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    Path("suite.yaml").write_text(SUITE)
    return tmp_path


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        command(list(arguments))
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


@pytest.mark.usefixtures("place")
def test_a_source_of_wrong_answers_hurts_and_no_trial_is_run_twice(capsys: pytest.CaptureFixture[str]) -> None:
    verb = ["ablate", "rows.jsonl", "--suite", "suite.yaml", "--steps", str(STEPS), "--seeds", "2"]
    flags = ["--equal", "rows", "--part", "source=bad", "--json"]
    code, out, err = cli(capsys, *verb, *flags)
    assert code == 0, err
    told = json.loads(out)
    said = {each["capability"]: each for each in told["rows"]}
    assert set(said) == {"overall", "slot_size=low", "slot_size=high"} and told["trials"] == 4
    assert {each["verdict"] for each in said.values()} == {"hurts"}
    assert said["overall"]["without"] == 1 and said["overall"]["with_it"] < 0.5
    ran = Run("gristmill-run").ledger.steps()
    assert json.loads(cli(capsys, *verb, *flags)[1]) == told
    assert Run("gristmill-run").ledger.steps() == ran
    code, out, err = cli(capsys, *verb[:2], *verb[4:], "--equal", "rows", "--part", "source=bad")
    assert code == 0 and "source=bad" in out and "hurts" in out, err  # the suite is registered now


@pytest.mark.usefixtures("place")
def test_a_curve_of_trained_models(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--steps", str(STEPS), "--seeds", "1", "--sizes", "3,6,12,24", "--by", "source", "-o", "points.jsonl"]
    lines = Path("rows.jsonl").read_text().splitlines(keepends=True)
    Path("good.jsonl").write_text("".join(line for line in lines if "bad" not in line))
    code, out, err = cli(capsys, "curve", "good.jsonl", "--suite", "suite.yaml", *flags)
    assert code == 0, err
    points = [json.loads(line) for line in Path("points.jsonl").read_text().splitlines()]
    names = {"manners", "slot_size=low", "slot_size=high"}
    assert {each["curve"] for each in points} == {f"source={of}: {name}" for of in ("good", "fine") for name in names}
    assert [each["n"] for each in points if each["curve"] == "source=fine: manners"] == [3, 6, 12, 24]
    assert {each["items"] for each in points if each["curve"] == "source=fine: manners"} == {64}
    assert points[-1]["score"] == 1 and out.count("at 24 rows") == 6


def test_answers_are_those_of_an_evaluation_and_of_the_directory_that_a_trainer_leaves(place: Path) -> None:
    weights = trained([row for row in rows_of("rows.jsonl") if row["response"] == "yes"], steps=STEPS)
    save(weights.model, weights.tokenizer, place / "yes", {})
    # It says yes to everything, and so is right about some.
    items = [{"prompt": f"Is it {300 + n}?", "reference": "no" if n % 3 else "yes"} for n in range(20)]
    (place / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    (place / "suite.yaml").write_text("name: some\nitems: items.jsonl\nscores: [exact]\nsampling: {max_tokens: 4}\n")
    run = Run(place / "run")
    suites = asked(run, [place / "suite.yaml"])
    found = graded(load(place / "yes", "yes"), suites)["some"]
    assert found == [float(item["reference"] == "yes") for item in items]
    model = ready(f"hf:{place / 'yes'}", calls=Calls(run.path))
    sampling = {"max_tokens": 4, "temperature": 0}
    try:
        evaluate(suites[0].suite, model, place / "evals.parquet", run=run, sampling=sampling, seed=None)
    finally:
        wait(model.close())
    assert found == [row["score_exact"] for row in read_evals(str(place / "evals.parquet")).rows]
    (place / "copy.py").write_text(
        "import shutil, sys\n\n\n"
        f"def train(data, seed):\n    return {str(place / 'yes')!r}\n\n\n"
        f"if __name__ == '__main__':\n    shutil.copytree({str(place / 'yes')!r}, sys.argv[2])\n"
    )
    rows = rows_of("rows.jsonl")
    for trainer in ("copy.py:train", "python copy.py {data} {out}"):
        assert trial(run, rows, trainer, 0, place / "trials", suites=suites) == {"some": found}
    for trainer, said in {
        "python copy.py {data}": "must write the model to {out}",
        "true {data} {out}.none": "no config.json",  # and not the model that another command left there
    }.items():
        with pytest.raises(UsageError, match=said):
            trial(run, rows, trainer, 0, place / "trials", suites=suites)
    assert not [path for path in (place / "trials").iterdir() if path.is_dir()]


def test_a_trial_is_known_by_its_rows_steps_seed_base_and_items(place: Path) -> None:
    run = Run(place / "run")
    suites, rows = asked(run, ["suite.yaml"]), rows_of("rows.jsonl")[:12]
    make(place / "base", Recipe(steps=2, rows=32))

    def tried(trainer: Tiny, seed: int = 0, of: Any = suites) -> int:
        trial(run, rows, trainer, seed, place / "trials", suites=of)
        return len(run.ledger.steps())

    count = tried(Tiny(2))
    assert tried(Tiny(2)) == count
    assert [tried(Tiny(3)), tried(Tiny(2), 1), tried(Tiny(2, place / "base"))] == [count + 1, count + 2, count + 3]
    (place / "moved").symlink_to(place / "base")
    assert tried(Tiny(2, place / "moved")) == count + 3
    make(place / "base", Recipe(steps=2, rows=32, seed=1))
    assert tried(Tiny(2, place / "base")) == count + 4
    (place / "suite.yaml").write_text(SUITE.replace("max_tokens: 4", "max_tokens: 3"))
    assert tried(Tiny(2), 0, asked(run, ["suite.yaml"])) == count + 5
    with pytest.raises(UsageError, match="it evaluates on suites"):
        tried(Tiny(4), 0, [])


@pytest.mark.usefixtures("place")
def test_items_by_slice_and_rows_that_hold_one() -> None:
    run = Run("run")
    one = asked(run, ["suite.yaml"])
    assert {name: len(places) for name, places in slices(one).items()} == {"slot_size=high": 32, "slot_size=low": 32}
    Path("other.yaml").write_text(SUITE.replace("manners", "other"))
    two = asked(run, ["suite.yaml", "other.yaml"])
    assert slices(two)["other: slot_size=low"] == list(range(64, 96))
    results = {"manners": [0.0] * 64, "other": [1.0] * 64}
    assert {name: sum(v or 0 for v in values) for name, values in views(results, two).items()} == {
        **{"manners": 0, "other": 64, "manners: slot_size=low": 0, "manners: slot_size=high": 0},
        **{"other: slot_size=low": 32, "other: slot_size=high": 32},
    }
    with pytest.raises(UsageError, match="manners: named twice"):
        asked(run, ["suite.yaml", "suite.yaml"])
    Path("odd.yaml").write_text(SUITE.replace("max_tokens: 4", "max_tokens: many"))
    with pytest.raises(UsageError, match="max_tokens 'many'; allowed are whole numbers"):
        asked(run, ["odd.yaml"])
    rows = rows_of("rows.jsonl")
    Path("leaked.jsonl").write_text('{"prompt": "Is it 203?", "response": "yes"}\n')
    assert held(rows, one) == 0 and held([*rows, *rows_of("leaked.jsonl")], one) == 1
