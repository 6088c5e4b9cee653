"""What a real server sends, and does not: `transformers serve`, asked over plain aiohttp.

`data/transformers_serve.json` holds raw answers of one version, so that tests without the server know their shapes.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from gristmill.models.answer import parse_answer
from gristmill.models.local import Local
from gristmill.models.protocol import Request
from tests import tiny_model
from tests.real_server import MODEL, Server, serving

RECORDED = json.loads((Path(__file__).parent / "data" / "transformers_serve.json").read_text())["answers"]

HELLO = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
LONG = [{"role": "user", "content": "x" * (4 * tiny_model.CONTEXT)}]
ASKED: dict[str, dict[str, Any]] = {
    "answer": HELLO,
    "unknown_model": {**HELLO, "model": "nobody/nothing"},
    "unknown_field": {**HELLO, "top_k": 5},
    "unknown_role": {**HELLO, "messages": [{"role": "wizard", "content": "x"}]},
    "no_json": {},
}


class Answer(NamedTuple):
    status: int
    content_type: str
    raw: bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as started:
        yield started


def ask(server: Server, *bodies: dict[str, Any] | bytes) -> list[Answer]:
    """Each asked after the other."""

    async def post(session: aiohttp.ClientSession, body: dict[str, Any] | bytes) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{server.url}/chat/completions", data=raw, headers=headers) as answer:
            return Answer(answer.status, answer.headers["Content-Type"], await answer.read())

    async def all_of_them() -> list[Answer]:
        async with aiohttp.ClientSession() as session:
            return [await post(session, body) for body in bodies]

    return asyncio.run(all_of_them())


def shape(value: Any) -> Any:
    """A JSON value with types in the place of its numbers and texts."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in sorted(value.items())}
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("case", ASKED)
def test_answers_have_the_shape_that_is_written_down(server: Server, case: str) -> None:
    [answer] = ask(server, ASKED[case] or b"{not json")
    recorded = RECORDED[case]
    assert (answer.status, answer.content_type) == (recorded["status"], recorded["content_type"])
    if answer.content_type == "application/json":
        assert shape(json.loads(answer.raw)) == shape(json.loads(recorded["body"]))
    else:
        assert answer.raw.decode() == recorded["body"]


def test_the_recorded_answer_is_read() -> None:
    completion = parse_answer(RECORDED["answer"]["body"].encode())
    assert (completion.tokens_in, completion.tokens_out) == (8, 8)
    assert completion.choices[0].finish_reason == "length"


def test_the_server_and_the_same_weights_read_here_write_the_same(server: Server) -> None:
    """Greedy, cut by the limit and by the end token."""
    short, long = (parse_answer(a.raw) for a in ask(server, HELLO, {**HELLO, "max_tokens": 200, "temperature": 0}))

    async def here() -> list[Any]:
        model = Local(str(server.weights))
        sampling = [{"temperature": 0, "max_tokens": most} for most in (8, 200)]
        found = await asyncio.gather(*[model.complete(Request(HELLO["messages"], each)) for each in sampling])
        await model.close()
        return list(found)

    for served, local in zip((short, long), asyncio.run(here()), strict=True):
        assert served.choices[0].text == local.choices[0].text
        assert served.choices[0].finish_reason == local.choices[0].finish_reason
        assert (served.tokens_in, served.tokens_out) == (local.tokens_in, local.tokens_out)


def test_what_the_server_ignores_without_a_word(server: Server) -> None:
    """n, response_format, logprobs, a temperature (these weights name no sampling of their own) and the context."""
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}
    asked = {"n": 3, "temperature": 9.0, "seed": 1, "response_format": schema, "logprobs": True}
    plain, ignored, long = ask(server, HELLO, {**HELLO, **asked}, {**HELLO, "messages": LONG})
    assert parse_answer(ignored.raw).choices == parse_answer(plain.raw).choices
    assert long.status == 200
    assert (parse_answer(long.raw).tokens_in or 0) > tiny_model.CONTEXT


def test_the_stop_string_stays_in_the_text(server: Server) -> None:
    [whole] = ask(server, {**HELLO, "max_tokens": 60})
    text = parse_answer(whole.raw).choices[0].text or ""
    stop = next(letter for letter in text[10:] if letter.isascii() and letter.isprintable())
    [cut] = ask(server, {**HELLO, "max_tokens": 60, "stop": [stop]})
    choice = parse_answer(cut.raw).choices[0]
    assert choice.finish_reason == "stop"
    assert (choice.text or "").count(stop) == 1
    assert (choice.text or "").endswith(stop)
