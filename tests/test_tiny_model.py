"""The embedded model: its tokenizer, its template, its weights from a seed, and that it learns and answers."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.errors import UsageError
from gristmill.models.drive import completions, wait
from gristmill.models.named import ready
from gristmill.models.protocol import Request
from gristmill.score.named import score
from gristmill.score.score import Item
from gristmill.train.tiny.make import Recipe, make, taught_on, tiny
from gristmill.train.tiny.world import FORMS, Mix, Task, rows, tasks

for _module in ("torch", "transformers"):
    pytest.importorskip(_module, reason=f"{_module} is not installed: pip install -e '.[train]', or make test-train")

from gristmill.train.tiny.fit import fit, taught  # noqa: E402  they import torch
from gristmill.train.tiny.model import new_model, new_tokenizer  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("trl")]

TOKENIZER = new_tokenizer()
PLAIN = Mix(forms={"hash": 1.0})


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@given(st.text(max_size=40).filter(lambda text: "<|" not in text))
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_the_tokenizer_is_the_same_every_time_and_keeps_digits_apart() -> None:
    assert new_tokenizer().get_vocab() == TOKENIZER.get_vocab()
    assert [token for token in TOKENIZER.tokenize("1234+5=#### 678") if any(c.isdigit() for c in token)] == [
        *"12345678"
    ]
    for task in tasks(50, mix=Mix(forms=dict.fromkeys(FORMS, 1.0))):
        assert len(TOKENIZER.tokenize(task.prompt)) < 40


def test_the_template_marks_what_the_assistant_says_and_a_prompt_begins_its_conversation() -> None:
    task = Task("add", 47, 38, "bare", "sign")
    turns = [*asked(task.prompt), {"role": "assistant", "content": task.solution()}]
    made = TOKENIZER.apply_chat_template(turns, return_assistant_tokens_mask=True, return_dict=True)
    said = [token for token, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert TOKENIZER.decode(said) == task.solution() + "<|end|>"
    prompt = TOKENIZER.apply_chat_template(asked(task.prompt), add_generation_prompt=True, return_dict=False)
    assert made["input_ids"][: len(prompt)] == prompt
    (row,) = taught([{"prompt": asked(task.prompt), "response": task.solution()}], TOKENIZER)
    assert (row.tokens, row.begin) == (made["input_ids"], len(prompt))


def test_it_is_small_and_a_seed_decides_its_weights() -> None:
    import torch

    def fitted(seed: int) -> torch.Tensor:
        model = new_model(TOKENIZER, seed=seed)
        fit(model, TOKENIZER, rows(64, seed=seed, reasoning=1.0), steps=3, seed=seed)
        return torch.cat([weight.flatten() for weight in model.parameters()])

    state = torch.random.get_rng_state()
    one, same, other = fitted(0), fitted(0), fitted(1)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(state, torch.random.get_rng_state())
    assert 200_000 < len(one) < 1_000_000
    assert torch.get_num_threads() >= 1


def test_rows_without_an_answer_are_refused() -> None:
    with pytest.raises(UsageError, match="no response"):
        taught([{"id": "g1:0", "prompt": asked("1 + 1 = ?"), "response": None}], TOKENIZER)
    with pytest.raises(UsageError, match="at least one"):
        taught([], TOKENIZER)


def test_it_learns_sums_that_it_never_saw(tmp_path: Path) -> None:
    """Additions of two digits without a carry, held out from training; half the steps of `tiny`, and no other task."""
    mix = Mix(operations={"add": 1}, wordings={"bare": 1}, digits={2: 1}, forms={"hash": 1}, only={"carry": "no"})
    losses = make(tmp_path / "model", Recipe(steps=240, rows=2_000, mix=mix))
    assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
    held_out = list(tasks(60, part="test", mix=mix))
    model = ready(f"hf:{tmp_path / 'model'}")
    requests = [Request(asked(task.prompt), {"temperature": 0, "max_tokens": 24}) for task in held_out]
    answers = [found.choices[0].text for found in completions((model, request) for request in requests)]
    wait(model.close())
    seen = [Item(text, str(task.answer)) for text, task in zip(answers, held_out, strict=True)]
    right = sum(verdict.value or 0 for verdict in score("tiny")(seen)) / len(held_out)
    assert right > 0.5  # a guess among 80 sums is 0.01


def test_a_trained_model_is_taught_more(tmp_path: Path) -> None:
    data = list(rows(64, mix=PLAIN, reasoning=1.0))
    make(tmp_path / "base", Recipe(steps=10, rows=64, mix=PLAIN))
    once, again = (taught_on(tmp_path / "base", data, tmp_path / name, steps=12) for name in ("more", "same"))
    assert once == again
    assert once[-1] < once[0]
    assert (tmp_path / "more" / "model.safetensors").read_bytes() == (
        tmp_path / "same" / "model.safetensors"
    ).read_bytes()


def test_the_command_makes_a_model_that_answers_and_replaces_its_own(tmp_path: Path) -> None:
    out = tmp_path / "model"
    for seed in ("1", "2"):
        arguments = ["tiny", "-o", str(out), "--steps", "2", "--rows", "50", "--seed", seed]
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    model = ready(f"hf:{out}")

    async def ask() -> str:
        found = await model.complete(Request(asked("1 + 1 = ?"), {"max_tokens": 3, "temperature": 0}))
        await model.close()
        return found.choices[0].finish_reason or ""

    assert asyncio.run(ask()) in ("length", "stop")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    refused = CliRunner().invoke(app, ["tiny", "-o", str(tmp_path / "notes"), "--steps", "2"])
    assert isinstance(refused.exception, UsageError)


def test_tiny_is_trained_once_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe = Recipe(steps=1, rows=40)
    directory = tiny(recipe)
    weights = (directory / "model.safetensors").stat().st_mtime_ns
    assert tiny(recipe) == directory
    assert (directory / "model.safetensors").stat().st_mtime_ns == weights
    assert tiny(Recipe(steps=1, rows=40, seed=1)) != directory
    assert directory.is_relative_to(tmp_path)
