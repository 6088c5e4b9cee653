"""A mock of an OpenAI-compatible chat server, with faults on demand: for tests, benches and users' own trials.

    python -m gristmill.models.mock --latency 0.2 --fault 429=0.05

prints its URL and serves until it is ended; in Python, `with mock_server("--latency", "0.2") as url:`. An answer is
some words drawn by the hash of the request, so equal requests get equal answers, whatever was asked before. Faults are
drawn by the hash of the request and the number of its attempt, so a request that is sent again may pass.

A hand-made protocol, because web frameworks serve fewer requests a second than the client under test sends.

`mock_batch.py` is its batch API.

Not covered: streaming, TLS, log-probabilities.
"""

import argparse
import asyncio
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import orjson

from gristmill.models.mock_batch import BATCH_FAULTS, MockBatches

TEXT = """the one some every river stone light number answer question reason step first then next result shows carries
adds turns keeps finds small large open quick plain true careful early green into over with from and because"""
WORDS = TEXT.split()

FAULTS = {
    "429": (429, {"error": {"message": "Rate limit reached", "type": "rate_limit"}}),
    "429-after": (429, {"error": {"message": "Rate limit reached", "type": "rate_limit"}}),
    "500": (500, {"error": {"message": "Internal error", "type": "server_error"}}),
    "content-filter": (400, {"error": {"message": "Blocked by the content_filter", "code": "content_filter"}}),
    "too-long": (
        400,
        {"error": {"message": "This model's maximum context length is 8 tokens", "code": "context_length_exceeded"}},
    ),
    "unknown-model": (404, {"error": {"message": "The model does not exist", "code": "model_not_found"}}),
    "pinned": (400, {"detail": "Server is pinned to 'mock'; requested 'another'."}),
    "401": (401, {"error": {"message": "Incorrect API key provided: {key}", "code": "invalid_api_key"}}),
    "redirect": (307, {}),
    "empty-choices": (200, {"object": "chat.completion", "choices": []}),
    "html": (200, None),
    "bad-json": (200, None),
    "hang": (0, None),
    "cut": (0, None),
}
"""The faults by name: status and body, None where they are no JSON."""

RETRY_AFTER = 0.2
ELSEWHERE = "http://example.invalid/v1"


class Mock:
    """What the server's connections share."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.faults = dict(_fault(each) for each in options.fault)
        self.attempts: Counter[bytes] = Counter()
        self.answered: Counter[bytes] = Counter()
        self.met: Counter[str] = Counter()
        self.in_flight = self.most = 0
        self.busy = 0  # slots in use
        self.queue: deque[Any] = deque()
        self.batches = MockBatches(options, self.served)
        self.log: IO[bytes] | None = None
        if options.log:
            self.log = Path(options.log).open("ab", buffering=0)  # noqa: SIM115  open as long as the server serves

    def fault(self, digest: bytes) -> str | None:
        """The fault that an attempt meets; each attempt draws anew."""
        self.attempts[digest] += 1
        if not self.faults:
            return None
        draw = blake2b(digest, salt=self.attempts[digest].to_bytes(4), digest_size=8).digest()
        left = int.from_bytes(draw) / 2**64
        for name, rate in self.faults.items():
            if left < rate:
                self.met[name] += 1
                return name
            left -= rate
        return None

    def seconds(self, digest: bytes) -> float:
        """How long an answer takes to make."""
        options = self.options
        if not options.jitter:
            return float(options.latency)
        spread = random.Random(digest).lognormvariate(-(options.jitter**2) / 2, options.jitter)
        return float(options.latency * spread)

    def served(self, body: dict[str, Any]) -> bytes:
        """The answer to a request in a batch: the same as to one that is sent by itself."""
        digest = blake2b(orjson.dumps(body), digest_size=16).digest()
        self.answered[digest] += 1
        return answer(body, digest, self.options)

    def stats(self) -> dict[str, Any]:
        """What was counted, as JSON."""
        return {
            "requests": self.attempts.total(),
            "distinct": len(self.attempts),
            "answered": self.answered.total(),
            "answered_twice": sum(count > 1 for count in self.answered.values()),
            "max_in_flight": self.most,
            "faults": dict(self.met),
            "batches": self.batches.stats(),
        }


def answer(body: dict[str, Any], digest: bytes, options: argparse.Namespace) -> bytes:
    """The JSON of a chat completion."""
    draw = random.Random(digest)
    cap = body.get("max_tokens") or body.get("max_completion_tokens")
    shape = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    choices, tokens = [], 0
    for index in range(options.choices or body.get("n") or 1):
        words = (options.reply or " ".join(draw.choices(WORDS, k=draw.randint(20, 60)))).split(" ")
        text = json.dumps(instance(shape)) if shape else " ".join(words[:cap])
        is_cut = not shape and cap is not None and len(words) > cap
        tokens += len(words[:cap])
        message = {"role": "assistant", "content": text}
        choices.append({"index": index, "message": message, "finish_reason": "length" if is_cut else "stop"})
    into = sum(len(str(message.get("content")).split()) for message in body.get("messages", []))
    usage = {"prompt_tokens": into, "completion_tokens": tokens, "total_tokens": into + tokens}
    found = {"id": digest.hex(), "object": "chat.completion", "model": body.get("model"), "choices": choices}
    return orjson.dumps({**found, "usage": usage})


def instance(schema: dict[str, Any]) -> Any:
    """The smallest value of a JSON schema, as far as its plain keywords go."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            required = schema.get("required", schema.get("properties", {}))
            return {name: instance(schema.get("properties", {}).get(name, {})) for name in required}
        case "array":
            return [instance(schema.get("items", {}))] * schema.get("minItems", 1)
        case "integer" | "number":
            return math.ceil(schema.get("minimum", 1))
        case "boolean":
            return True
        case "null":
            return None
    return "words"


class Connection(asyncio.Protocol):
    """One connection: requests of HTTP/1.1 with Content-Length, one after the other."""

    def __init__(self, mock: Mock):
        self.mock, self.buffer = mock, b""

    def connection_made(self, transport: Any) -> None:
        """Asyncio's: a client connected."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes came."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            found = head.lower().find(b"content-length:")
            size = int(head[found + 15 :].split(b"\r\n", 1)[0]) if found >= 0 else 0
            if len(self.buffer) < end + 4 + size:
                return
            content, self.buffer = self.buffer[end + 4 : end + 4 + size], self.buffer[end + 4 + size :]
            method, path, _ = head.split(b" ", 2)
            self.route(method, path, head, content)

    def route(self, method: bytes, path: bytes, head: bytes, content: bytes) -> None:
        """Answer a request."""
        if path == b"/stats":
            self.send(200, orjson.dumps(self.mock.stats()))
        elif path == b"/v1/models":
            self.send(200, b'{"object": "list", "data": [{"id": "mock", "object": "model"}]}')
        elif method == b"POST" and path == b"/v1/chat/completions":
            self.chat(head, content)
        elif path.startswith((b"/v1/files", b"/v1/batches")) and not self.mock.options.no_batches:
            self.batch(method, path, head, content)
        else:
            self.send(404, b'{"detail": "Not Found"}')

    def chat(self, head: bytes, content: bytes) -> None:
        """Answer a chat request, at its time, or fail it."""
        mock, options = self.mock, self.mock.options
        digest = blake2b(content, digest_size=16).digest()
        key = head.partition(b"Bearer ")[2].split(b"\r\n", 1)[0].decode()
        fault = mock.fault(digest)
        if options.require_key and key != options.require_key:
            fault = "401"
        if fault is None and options.reject_above and mock.in_flight >= options.reject_above:
            fault = "429"
            mock.met[fault] += 1
        if fault:
            self.fail(fault, key)
            return
        mock.in_flight += 1
        mock.most = max(mock.most, mock.in_flight)
        received = time.time()
        loop = asyncio.get_running_loop()

        def begin() -> None:
            mock.busy += 1
            loop.call_later(mock.seconds(digest), done)

        def done() -> None:
            mock.busy -= 1
            mock.in_flight -= 1
            if mock.queue:
                mock.queue.popleft()()
            if self.transport.is_closing():
                return
            mock.answered[digest] += 1
            self.send(200, answer(orjson.loads(content), digest, options))
            if mock.log:
                line = {"request": digest.hex(), "received": received, "answered": time.time()}
                mock.log.write(orjson.dumps(line) + b"\n")

        if options.slots and mock.busy >= options.slots:
            mock.queue.append(begin)
        else:
            begin()

    def batch(self, method: bytes, path: bytes, head: bytes, content: bytes) -> None:
        """Answer a request to the batch API, or fail it, perhaps after it has done its work."""
        key = head.partition(b"Bearer ")[2].split(b"\r\n", 1)[0].decode()
        fault = self.mock.batches.fault("429", "500")
        if self.mock.options.require_key not in (None, key):
            fault = "401"
        if fault:
            self.fail(fault, key)
            return
        status, found = self.mock.batches.answer(method.decode(), path.decode(), content)
        if method == b"POST" and self.mock.batches.fault("lost"):
            self.transport.close()
        else:
            self.send(status, found)

    def fail(self, fault: str, key: str) -> None:
        """Meet a fault."""
        status, found = FAULTS[fault]
        if fault == "hang":
            return
        if fault == "cut":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
            self.transport.close()
        elif fault == "html":
            self.send(200, b"<html><body>One moment please</body></html>", "text/html")
        elif fault == "bad-json":
            self.send(200, b'{"choices": [{"mess')
        else:
            body = orjson.dumps(found).replace(b"{key}", key.encode())
            more = {"429-after": f"Retry-After: {RETRY_AFTER}\r\n", "redirect": f"Location: {ELSEWHERE}\r\n"}
            self.send(status, body, more=more.get(fault, ""))

    def send(self, status: int, body: bytes, kind: str = "application/json", more: str = "") -> None:
        """Write a response."""
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.transport.write(head.encode() + body)


def _fault(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    if name not in FAULTS:
        raise SystemExit(f"--fault {text}: allowed are {', '.join(FAULTS)}")
    return name, float(rate or 1)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m gristmill.models.mock", description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds an answer takes")
    parser.add_argument("--jitter", type=float, default=0.0, help="sigma of the lognormal spread of the latency")
    parser.add_argument("--slots", type=int, help="answers that are made at once; the rest queue")
    parser.add_argument("--reject-above", type=int, help="429 when more requests are in flight")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=RATE", help=", ".join(FAULTS))
    parser.add_argument("--batch-seconds", type=float, default=0.0, help="seconds a batch takes")
    parser.add_argument(
        "--batch-fault", action="append", default=[], metavar="NAME=COUNT", help=", ".join(BATCH_FAULTS)
    )
    parser.add_argument("--batch-hold", metavar="FILE", type=Path, help="no batch ends while this file is there")
    parser.add_argument("--no-batches", action="store_true", help="no batch API")
    parser.add_argument("--reply", help="the text of every answer")
    parser.add_argument("--choices", type=int, help="how many an answer has, whatever `n` asks for")
    parser.add_argument("--require-key", help="401 for every other key")
    parser.add_argument("--log", metavar="FILE", help="a JSON line for every answer")
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Serve until cancelled; prints the URL when it listens."""
    mock = Mock(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(mock), "127.0.0.1", options.port, backlog=4_096)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


@contextmanager
def mock_server(*options: str) -> Iterator[str]:
    """The URL of a mock server in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "gristmill.models.mock", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(_options(None)))
