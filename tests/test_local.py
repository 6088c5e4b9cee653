"""Local weights: what shares a batch changes nothing, and transformers' own `generate` is the oracle."""

import asyncio
import importlib.util
import random
import socket
from collections import Counter
from pathlib import Path

import orjson
import pytest
from scipy import stats

from gristmill.errors import CallFailed, UsageError
from gristmill.models.answer import parse_answer
from gristmill.models.cache import Cached
from gristmill.models.calls import Calls
from gristmill.models.local import Local
from gristmill.models.protocol import Completion, Request
from gristmill.models.structured import Structured
from tests import tiny_model

HOT = {"temperature": 8.0, "max_tokens": 24}
GREEDY = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.save(tmp_path_factory.mktemp(request.param), kind=request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.save(tmp_path_factory.mktemp("llama"))


def asked(text: str, sampling: dict | None = None, **more: object) -> Request:
    return Request([{"role": "user", "content": text}], {**(sampling or {}), **more})


def answers(model: Local, *requests: Request) -> list[Completion]:
    """All asked at once; the model is closed after."""

    async def ask() -> list[Completion]:
        try:
            return await asyncio.gather(*map(model.complete, requests))
        finally:
            await model.close()

    return asyncio.run(ask())


def one_by_one(model: Local, *requests: Request) -> list[Completion]:
    async def ask() -> list[Completion]:
        found = [await model.complete(request) for request in requests]
        await model.close()
        return found

    return asyncio.run(ask())


MIXED = [asked("ab" * length, {**HOT, "temperature": heat}) for length in range(1, 7) for heat in (0, 1.0, 8.0)]


def test_an_answer_does_not_depend_on_who_shares_its_batch(tiny: Path) -> None:
    shuffled = random.Random(3).sample(MIXED, len(MIXED))
    together = dict(zip(map(repr, shuffled), answers(Local(str(tiny)), *shuffled), strict=True))
    assert [together[repr(request)].raw for request in MIXED] == [
        answer.raw for answer in one_by_one(Local(str(tiny)), *MIXED)
    ]


def test_greedy_answers_of_a_padded_batch_are_those_of_generate_for_each_prompt_alone(tiny: Path) -> None:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    texts = ["a", "What is 3 + 4?", "é" * 30, "the quick brown fox " * 5]
    expected = []
    for text in texts:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False, return_tensors="pt"
        )
        with torch.no_grad():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
        expected.append(tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True))
    found = answers(Local(str(tiny)), *[asked(text, GREEDY, max_tokens=40) for text in texts])
    assert [answer.choices[0].text for answer in found] == expected
    assert len(set(expected)) == len(texts)


def test_the_seed_the_sample_number_and_the_prompt_each_change_what_is_drawn(llama: Path) -> None:
    first = asked("x", HOT, seed=1)
    again, other_seed, other_sample = (
        asked("x", HOT, seed=1),
        asked("x", HOT, seed=2),
        Request(*_parts(first), sample=1),
    )
    found = answers(Local(str(llama)), first, again, other_seed, other_sample)
    assert found[0].raw == found[1].raw
    assert len({answer.choices[0].text for answer in found}) == 3


def _parts(request: Request) -> tuple:
    return request.messages, request.sampling, request.tools


def test_a_longer_limit_goes_on_from_the_same_beginning(llama: Path) -> None:
    short, long = answers(Local(str(llama)), asked("x", HOT, max_tokens=6), asked("x", HOT, max_tokens=30))
    assert short.choices[0].finish_reason == "length"
    assert (long.choices[0].text or "").encode().startswith((short.choices[0].text or "").rstrip("�").encode())
    assert short.tokens_out == 6 < (long.tokens_out or 0)


def test_first_tokens_are_drawn_from_the_softmax_of_the_logits(llama: Path) -> None:
    """Chi-square against probabilities that the model itself gives, over 2,000 samples with fixed seeds."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    model = transformers.AutoModelForCausalLM.from_pretrained(llama)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q"}], add_generation_prompt=True, return_dict=False, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(ids).logits[0, -1] / 3.0
    for limits in ({}, {"top_k": 20}, {"top_p": 0.6}, {"top_k": 40, "top_p": 0.7}):
        kept = logits.clone()[None]
        if "top_k" in limits:
            kept = transformers.TopKLogitsWarper(limits["top_k"])(None, kept)
        if "top_p" in limits:
            kept = transformers.TopPLogitsWarper(limits["top_p"])(None, kept)
        shares = kept[0].double().softmax(-1).numpy()
        request = asked("q", temperature=3.0, max_tokens=1, n=2_000, logprobs=True, **limits)
        [answer] = answers(Local(str(llama)), request)
        drawn = Counter(
            tokenizer.convert_tokens_to_ids(choice.logprobs["content"][0]["token"]) for choice in answer.choices
        )
        assert all(shares[token] > 0 for token in drawn)
        common = [token for token in range(len(shares)) if shares[token] * 2_000 >= 5]
        seen = [drawn[token] for token in common]
        due = [shares[token] * 2_000 for token in common]
        rest_seen, rest_due = 2_000 - sum(seen), 2_000 - sum(due)
        if rest_due > 1:
            seen, due = [*seen, rest_seen], [*due, rest_due]
        assert stats.chisquare(seen, [each * sum(seen) / sum(due) for each in due]).pvalue > 1e-4


def test_log_probabilities_are_those_of_the_model(llama: Path) -> None:
    import torch
    import transformers

    [answer] = answers(Local(str(llama)), asked("q", GREEDY, max_tokens=1, logprobs=True))
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    model = transformers.AutoModelForCausalLM.from_pretrained(llama)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q"}], add_generation_prompt=True, return_dict=False, return_tensors="pt"
    )
    with torch.no_grad():
        best = model(ids).logits[0, -1].log_softmax(-1).max().item()
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs["content"][0]["logprob"] == pytest.approx(best, abs=1e-4)


def test_text_ends_before_the_first_stop_string(llama: Path) -> None:
    [whole] = answers(Local(str(llama)), asked("x", GREEDY, max_tokens=60))
    text = whole.choices[0].text or ""
    for stop in (text[5], text[8:10], ["never there", text[4:7], text[9]]):
        [cut] = answers(Local(str(llama)), asked("x", GREEDY, max_tokens=60, stop=stop))
        stops = [stop] if isinstance(stop, str) else stop
        assert cut.choices[0].text == text[: min(at for each in stops if (at := text.find(each)) >= 0)]
        assert cut.choices[0].finish_reason == "stop"
        assert (cut.tokens_out or 0) < (whole.tokens_out or 0)


def test_the_end_token_stops_and_is_counted_but_is_no_text(llama: Path) -> None:
    [answer] = answers(Local(str(llama)), asked("Hello", GREEDY, max_tokens=200))
    assert answer.choices[0].finish_reason == "stop"
    assert "<|end|>" not in (answer.choices[0].text or "")
    [limited] = answers(Local(str(llama)), asked("Hello", GREEDY, max_tokens=(answer.tokens_out or 0) - 1))
    assert limited.choices[0].finish_reason == "length"
    assert limited.choices[0].text == answer.choices[0].text


def test_n_answers_differ_and_are_counted_together(llama: Path) -> None:
    [answer] = answers(Local(str(llama)), asked("x", HOT, n=5))
    assert len({choice.text for choice in answer.choices}) == 5
    assert answer.tokens_in == 4
    assert 5 < (answer.tokens_out or 0) <= 5 * 24
    assert parse_answer(answer.raw) == answer
    usage = orjson.loads(answer.raw)["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_prompt_that_fills_the_context_fails_and_its_neighbours_do_not(llama: Path) -> None:
    async def ask() -> list:
        model = Local(str(llama))
        texts = ["x" * (tiny_model.CONTEXT - 3), "x" * (tiny_model.CONTEXT - 4), "x"]
        found = await asyncio.gather(*[model.complete(asked(text, GREEDY)) for text in texts], return_exceptions=True)
        await model.close()
        return found

    full, nearly, short = asyncio.run(ask())
    assert isinstance(full, CallFailed)
    assert str(full) == "too_long: a prompt of 512 tokens; prompt and answer have 512"
    assert (nearly.tokens_in, nearly.tokens_out, nearly.choices[0].finish_reason) == (511, 1, "length")
    assert short.tokens_out == 24


def test_what_the_template_refuses_fails_with_its_words(llama: Path) -> None:
    request = Request([{"role": "wizard", "content": "x"}], GREEDY)
    with pytest.raises(CallFailed, match="bad_request: chat template: Only the roles system, user and assistant"):
        answers(Local(str(llama)), request)


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (
            {"presence_penalty": 1.0},
            "presence_penalty=1.0: local weights do not know it; allowed are temperature, top_p",
        ),
        ({"n": 0}, "n=0: Input should be greater than or equal to 1"),
        ({"temperature": float("nan")}, "temperature=nan: Input should be a finite number"),
        ({"top_p": 0}, "top_p=0: Input should be greater than 0"),
        ({"max_tokens": 0}, "max_tokens=0: Input should be greater than or equal to 1"),
    ],
)
def test_sampling_that_is_not_known_is_refused_in_one_line(llama: Path, sampling: dict, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        answers(Local(str(llama)), asked("x", sampling))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_null_fields_and_a_response_format_are_taken(llama: Path) -> None:
    request = asked("x", GREEDY, stop=None, seed=None, response_format={"type": "json_schema"})
    assert answers(Local(str(llama)), request)[0].tokens_out == 24


def test_tools_are_refused(llama: Path) -> None:
    with pytest.raises(UsageError, match="take no tools"):
        answers(Local(str(llama)), Request(asked("x").messages, tools=[{"type": "function"}]))


def test_identity_is_the_content_and_not_the_place(tmp_path: Path) -> None:
    first, moved = tiny_model.save(tmp_path / "a"), tiny_model.save(tmp_path / "b")
    (moved / "README.md").write_text("another text")
    (moved / "trainer_state.json").write_text("{}")
    assert Local(str(first)).identity == Local(str(moved)).identity
    identities = {Local(str(tiny_model.save(tmp_path / "c", seed=1))).identity}
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        changed = moved / name
        before = changed.read_text()
        changed.write_text(before + " ")
        identities.add(Local(str(moved)).identity)
        changed.write_text(before)
    assert len(identities | {Local(str(first)).identity}) == 6


def test_nothing_is_looked_for_on_the_network(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert answers(Local(str(llama)), asked("x", GREEDY))[0].tokens_out == 24


def test_directories_that_hold_no_usable_weights(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(UsageError, match="no such directory, and not in the Hugging Face cache; fetch it with"):
        Local("nobody/nothing-at-all")
    with pytest.raises(UsageError, match=r"no config\.json there"):
        Local(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="an adapter; merge it"):
        Local(str(tmp_path))
    with pytest.raises(UsageError, match="no chat template"):
        answers(Local(str(tiny_model.save(tmp_path / "bare", template=None))), asked("x"))
    cut = tiny_model.save(tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UsageError, match="does not load") as refused:
        answers(Local(str(cut)), asked("x"))
    assert "\n" not in str(refused.value)


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path, llama: Path) -> None:
    """transformers would draw the missing ones at random."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(llama / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    directory = tiny_model.save(tmp_path / "half")
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"weights are missing, among them model\.layers\.1\.mlp\.up_proj"):
        answers(Local(str(directory)), asked("x"))


def test_a_batch_without_memory_is_halved_until_it_fits(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from gristmill.models import decoding

    expected = [answer.raw for answer in answers(Local(str(llama)), *MIXED)]
    decode, sizes = decoding.decode, []

    def scarce(weights: decoding.Weights, rows: list[decoding.Row]) -> None:
        sizes.append(len(rows))
        if len(rows) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        decode(weights, rows)

    monkeypatch.setattr(decoding, "decode", scarce)
    assert [answer.raw for answer in answers(Local(str(llama)), *MIXED)] == expected
    assert max(sizes) > 4 >= min(sizes)


def test_a_row_that_never_fits_fails_alone(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from gristmill.models import decoding

    decode = decoding.decode

    def scarce(weights: decoding.Weights, rows: list[decoding.Row]) -> None:
        if max(len(row.prompt) for row in rows) > 50:
            raise torch.OutOfMemoryError("CUDA out of memory")
        decode(weights, rows)

    async def ask() -> list:
        model = Local(str(llama))
        requests = [asked("x" * 80, HOT, n=3), *MIXED]
        found = await asyncio.gather(*map(model.complete, requests), return_exceptions=True)
        await model.close()
        return found

    monkeypatch.setattr(decoding, "decode", scarce)
    large, *others = asyncio.run(ask())
    assert isinstance(large, CallFailed)
    assert str(large) == "too_long: no memory for 107 tokens at once; lower max_tokens, or serve it"
    assert all(isinstance(other, Completion) for other in others)


def test_a_cancelled_call_leaves_the_others_alone(llama: Path) -> None:
    async def ask() -> tuple[list, Completion]:
        model = Local(str(llama))
        await model.complete(asked("warm", GREEDY))
        tasks = [asyncio.create_task(model.complete(request)) for request in MIXED]
        await asyncio.sleep(0.001)
        tasks[0].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        after = await model.complete(MIXED[0])
        await model.close()
        return found, after

    found, after = asyncio.run(ask())
    assert isinstance(found[0], asyncio.CancelledError)
    assert [each.raw for each in [after, *found[1:]]] == [each.raw for each in answers(Local(str(llama)), *MIXED)]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"needs torch and transformers: pip install 'gristmill\[train\]'"):
        Local(str(tmp_path))


def test_structured_output_from_weights_that_know_the_answer(tmp_path: Path) -> None:
    taught = {"Two and five?": '{"answer": 7}', "A colour?": '{"answer": "blue"}'}
    directory = tiny_model.save(tmp_path / "taught", taught=taught)
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}

    async def ask() -> tuple[Completion, object]:
        model = Local(str(directory))
        asker = Structured(model, schema)
        right, wrong = await asyncio.gather(
            *[asker.complete(asked(question, temperature=0, max_tokens=30)) for question in taught],
            return_exceptions=True,
        )
        await model.close()
        assert isinstance(right, Completion)
        return right, wrong

    right, wrong = asyncio.run(ask())
    assert right.choices[0].text == '{"answer": 7}'
    assert isinstance(wrong, CallFailed)
    assert wrong.kind == "invalid"


def test_weights_that_moved_are_not_asked_again_and_other_weights_are(tmp_path: Path) -> None:
    def asked_of(directory: Path) -> list[Completion]:
        calls = Calls(tmp_path / "run")

        async def ask() -> list[Completion]:
            model = Cached(Local(str(directory)), calls)
            try:
                return await asyncio.gather(*map(model.complete, MIXED))
            finally:
                await model.close()

        return asyncio.run(ask())

    first = asked_of(tiny_model.save(tmp_path / "a"))
    moved = asked_of((tmp_path / "a").rename(tmp_path / "b"))
    trained = asked_of(tiny_model.save(tmp_path / "b", seed=1))
    assert [each.hit for each in first + moved + trained] == [False] * 18 + [True] * 18 + [False] * 18
    assert [each.raw for each in moved] == [each.raw for each in first]


def test_the_python_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_model.save(tmp_path / "runs" / "sft-3", taught={"Two and five?": "Seven.", "A colour?": "Blue."})
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text().partition("## Local weights")[2]
    code = page.partition("```python\n")[2].partition("```")[0]
    exec(compile(code.replace("0.7", "0.0"), "docs/models.md", "exec"), {})
    assert capsys.readouterr().out == "Seven.\nBlue.\n"
