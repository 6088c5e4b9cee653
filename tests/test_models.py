"""Requests, answers, the calls ledger, limits, budgets and structured answers: without a server."""

import asyncio
import sqlite3
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.errors import CallFailed, Refused, UsageError
from gristmill.models.answer import parse_answer, split_thinking
from gristmill.models.budget import Budget, Budgeted, Charged, Prices
from gristmill.models.cache import Cached
from gristmill.models.calls import Calls
from gristmill.models.drive import completions, finished, wait
from gristmill.models.limits import GOES_ON, Limits
from gristmill.models.protocol import Completion, Request
from gristmill.models.request import body, keys
from gristmill.models.retries import Limited
from gristmill.models.structured import ATTEMPTS as ANSWERS
from gristmill.models.structured import Structured


def raw(*texts: str | None, reason: str = "stop", into: int = 3, out: int | None = 5, **message: Any) -> bytes:
    choices = [{"message": {"content": text, **message}, "finish_reason": reason} for text in texts]
    usage = {"prompt_tokens": into} if out is None else {"prompt_tokens": into, "completion_tokens": out}
    return orjson.dumps({"choices": choices, "usage": usage})


def asked(text: str = "hello", sample: int = 0, **sampling: Any) -> Request:
    return Request([{"role": "user", "content": text}], sampling, None, sample)


class Scripted:
    """Answers with what `script` gives for a request: raw bytes or an error."""

    name = identity = "scripted"

    def __init__(self, script: Any, delay: float = 0.0):
        self.script, self.delay, self.requests = script, delay, []

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        await asyncio.sleep(self.delay)
        result = self.script(request)
        if isinstance(result, Exception):
            raise result
        return parse_answer(result)

    async def close(self) -> None:
        pass


def ask(model: Any, *requests: Request) -> list[Completion]:
    return list(completions((model, request) for request in requests))


# Requests and keys


def test_the_key_covers_what_decides_an_answer_and_not_its_limit() -> None:
    same = keys(asked(temperature=0.5, top_p=0.9, max_tokens=10), "m")
    assert same == keys(asked(top_p=0.9, max_tokens=10, temperature=0.5), "m")
    longer = keys(asked(temperature=0.5, top_p=0.9, max_tokens=20), "m")
    assert longer.whole == same.whole and longer.cut != same.cut
    others = [
        keys(asked("hallo", temperature=0.5, top_p=0.9), "m"),
        keys(asked(temperature=0.6, top_p=0.9), "m"),
        keys(asked(temperature=0.5, top_p=0.9, sample=1), "m"),
        keys(asked(temperature=0.5, top_p=0.9), "other"),
        keys(Request(asked().messages, {"temperature": 0.5, "top_p": 0.9}, [{"type": "function"}]), "m"),
    ]
    assert len({each.whole for each in [same, *others]}) == len(others) + 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**30, "\ud800", object()])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="allowed are"):
        keys(asked(odd=value), "m")


def test_the_sample_number_is_not_sent() -> None:
    assert orjson.loads(body(asked(sample=7, n=2), "name")) == {
        "model": "name",
        "messages": [{"role": "user", "content": "hello"}],
        "n": 2,
    }


# Answers


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>\nhm\n</think>\n\nYes.", "hm", "Yes."),
        ("hm\n</think>\nYes.", "hm", "Yes."),  # the template began the block
        ("<think>hm, cut", "hm, cut", ""),
        ("Yes.", None, "Yes."),
        ("A <think> tag.", None, "A <think> tag."),
    ],
)
def test_thinking_is_split_from_the_answer(text: str, thought: str | None, said: str) -> None:
    assert split_thinking(text) == (thought, said)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_fields_are_read(field: str) -> None:
    choice = parse_answer(raw("Yes.", **{field: "hm"})).choices[0]
    assert (choice.reasoning, choice.text) == ("hm", "Yes.")


def test_half_an_emoji_does_not_lose_the_answer() -> None:
    cut = raw("smile X").replace(b"X", b"\\ud83d")
    text = parse_answer(cut).choices[0].text
    assert text is not None and text.startswith("smile ") and text.encode()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"<html>busy</html>", "bad_answer"),
        (b'{"choices": []}', "bad_answer"),
        (b'{"error": {"message": "no"}}', "bad_answer"),
        (b'{"choices": [{"text": "legacy"}]}', "bad_answer"),
        (b"[]", "bad_answer"),
        (raw(None), "bad_answer"),
        (raw(None, reason="content_filter"), "content_filter"),
    ],
)
def test_what_is_no_answer_says_why(answer: bytes, kind: str) -> None:
    with pytest.raises(CallFailed) as failed:
        parse_answer(answer)
    assert failed.value.kind == kind and "\n" not in str(failed.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_failed_call(answer: bytes) -> None:
    with suppress(CallFailed):
        assert parse_answer(answer).choices


# The ledger


def test_an_answer_is_paid_for_once(tmp_path: Path) -> None:
    model = Scripted(lambda r: raw(r.messages[0]["content"].upper()))
    for hits in ([False, False, False], [True, True, True]):
        cached = Cached(model, Calls(tmp_path))  # as a new process would
        found = ask(cached, asked("a"), asked("b"), asked("a", sample=1))
        assert [each.choices[0].text for each in found] == ["A", "B", "A"]
        assert [each.hit for each in found] == hits
        wait(cached.close())
    assert len(model.requests) == 3
    used = Calls(tmp_path).used()[0]
    assert (used.answers, used.sent, used.hits, used.tokens_in, used.tokens_out) == (3, 3, 3, 9, 15)


def test_equal_requests_in_the_air_are_one(tmp_path: Path) -> None:
    model = Scripted(lambda _: raw("x"), delay=0.05)
    found = ask(Cached(model, Calls(tmp_path)), *[asked() for _ in range(20)])
    assert len(model.requests) == 1 and sum(not each.hit for each in found) == 1


def test_a_cut_answer_is_asked_again_when_the_limit_grows_and_a_complete_one_is_not(tmp_path: Path) -> None:
    def script(request: Request) -> bytes:
        most = request.sampling["max_tokens"]
        return raw("long", reason="length" if most < 50 else "stop", out=min(most, 50))

    model = Scripted(script)
    cached = Cached(model, Calls(tmp_path))
    for most, sent in [(10, 1), (10, 1), (20, 2), (60, 3), (100, 3), (50, 3), (10, 3), (30, 4)]:
        ask(cached, asked(max_tokens=most))
        assert len(model.requests) == sent, most


def test_a_failed_call_is_not_remembered(tmp_path: Path) -> None:
    outcomes = [CallFailed("server", "no"), raw("yes")]
    cached = Cached(Scripted(lambda _: outcomes.pop(0)), Calls(tmp_path))
    assert ask(cached, asked())[0].error == "server: no"
    assert ask(cached, asked())[0].choices[0].text == "yes"


def test_a_ledger_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "calls.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UsageError, match=r"calls\.sqlite"):
        Calls(tmp_path)


# The driver


def test_answers_come_in_the_order_of_the_requests() -> None:
    class Uneven(Scripted):
        async def complete(self, request: Request) -> Completion:
            await asyncio.sleep((request.sample * 7 % 10) / 500)
            return parse_answer(raw(str(request.sample)))

    found = ask(Uneven(None), *[asked(sample=number) for number in range(300)])
    assert [each.choices[0].text for each in found] == [str(number) for number in range(300)]


def test_what_ends_every_call_is_raised_after_the_answers_before_it() -> None:
    model = Scripted(lambda r: UsageError("no such key") if r.sample == 5 else raw("x"))
    found: list[Completion] = []
    with pytest.raises(UsageError, match="no such key"):
        limited = Limited(model, Limits(concurrency=4))
        found.extend(completions((limited, asked(sample=number)) for number in range(1_000)))
    assert len(model.requests) < 20


def test_a_stream_that_is_left_cancels_what_is_in_the_air() -> None:
    model = Scripted(lambda _: raw("x"), delay=30)
    stream = completions((model, asked(sample=number)) for number in range(10))
    stream.close()  # before it began
    assert not model.requests


def test_a_call_that_is_cancelled_gives_its_claim_up(tmp_path: Path) -> None:
    async def run() -> tuple[set[bytes], set[bytes]]:
        calls, others = Calls(tmp_path), Calls(tmp_path)
        model = Cached(Scripted(lambda _: raw("x"), delay=60), calls)
        key = keys(asked(), model.identity).cut
        early, late = (asyncio.ensure_future(model.complete(asked())) for _ in range(2))
        await asyncio.sleep(0.01)
        held = others.claim([key])
        for task in (early, late):
            task.cancel()
        await asyncio.gather(early, late, return_exceptions=True)
        await asyncio.to_thread(calls.flush)
        return held, others.claim([key])

    held, free = asyncio.run(run())
    assert not held and len(free) == 1


def test_claims_of_a_process_elsewhere_stand_until_its_lease_ends(tmp_path: Path) -> None:
    calls = Calls(tmp_path)
    with sqlite3.connect(calls.path) as db:
        for name, left in (("gone", -1), ("there", 60)):
            db.execute("INSERT INTO workers VALUES (?, 'elsewhere', 1, '', ?)", (name, time.time() + left))
            db.execute("INSERT INTO claims VALUES (?, ?)", (name.encode(), name))
    assert calls.claim([b"gone", b"there", b"free"]) == {b"gone", b"free"}
    assert not Calls(tmp_path).claim([b"gone", b"there", b"free"])


def test_what_goes_on_with_begun_work_gets_the_next_slot() -> None:
    model = Scripted(lambda _: raw("x"))
    limited = Limited(model, Limits(concurrency=1))

    async def work(name: str) -> None:
        await limited.complete(asked(f"{name} begins"))
        GOES_ON.set(True)
        await limited.complete(asked(f"{name} goes on"))

    assert list(finished(partial(work, name) for name in "abc")) == [None] * 3
    order = [request.messages[0]["content"] for request in model.requests]
    assert order == ["a begins", "b begins", "a goes on", "b goes on", "c begins", "c goes on"]


# Budgets


def test_a_judges_first_calls_are_not_taken_to_be_like_those_it_judges() -> None:
    budget = Budget(tokens=5_000)

    class Takes:
        name = identity = "some"

        def __init__(self, tokens: int):
            self.tokens = tokens

        async def complete(self, _: Request) -> Completion:
            await asyncio.sleep(0)
            return Completion(tokens_in=self.tokens, tokens_out=0)

        async def close(self) -> None:
            pass

    async def ask(tokens: int, kind: str) -> int:
        model = Charged(Budgeted(Takes(tokens), budget, kind), budget, Prices(), kind)
        calls = [model.complete(Request(({"role": "user", "content": "a"},))) for _ in range(100)]
        return sum(isinstance(each, Completion) for each in await asyncio.gather(*calls, return_exceptions=True))

    assert asyncio.run(ask(8, "answers")) == 100
    assert asyncio.run(ask(150, "verdicts")) == 28  # 800 + 28 x 150 = 5,000
    assert budget.spent["tokens"] == 5_000


def test_a_budget_holds_and_says_what_to_do() -> None:
    budget = Budget(cost=0.001)
    prices = Prices(input=0, output=20)  # 5 tokens: 0.0001
    model = Scripted(lambda _: raw("x"), delay=0.001)
    charged = Charged(Limited(Budgeted(model, budget), Limits(concurrency=4)), budget, prices)
    with pytest.raises(Refused, match="--max-cost"):
        ask(charged, *[asked(sample=number) for number in range(100)])
    assert 10 <= len(model.requests) <= 14


# Structured answers

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


class Person(pydantic.BaseModel):
    age: int = pydantic.Field(ge=0)


@pytest.mark.parametrize("schema", [SCHEMA, Person])
def test_an_answer_not_of_the_schema_is_asked_for_again_with_the_error(schema: Any) -> None:
    answers = [raw('{"age": "x"}'), raw('```json\n{"age": 3}\n```')]
    model = Scripted(lambda _: answers.pop(0))
    found = ask(Structured(model, schema), asked())[0]
    assert found.choices[0].text == '{"age": 3}' and found.tokens_out == 10
    assert model.requests[0].sampling["response_format"]["type"] == "json_schema"
    assert "integer" in model.requests[1].messages[-1]["content"]


def test_answers_that_never_fit_are_a_failed_call() -> None:
    model = Scripted(lambda _: raw('{"age": -1}'))
    assert (ask(Structured(model, Person), asked())[0].error or "").startswith("invalid: ")
    assert len(model.requests) == ANSWERS
