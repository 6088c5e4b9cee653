"""A batch that has ended, brought in: answers into the calls ledger, a reason for every request without one.

A provider's files are fetched whole, then read a line at a time (the form of a line:
https://platform.openai.com/docs/api-reference/batch/request-output). What was answered is on disk before the batch
counts as ended, so a harvest that is cut short is begun again; what it had stored is then not counted twice.

Not covered: what to do with requests that are to be asked again (`batch.py`).
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from gristmill.errors import CallFailed, Refused
from gristmill.models.answer import loaded, parse_answer
from gristmill.models.batch_api import BatchApi
from gristmill.models.batch_ledger import BatchLedger, Failure, Left, Record, cut_of
from gristmill.models.cache import fits
from gristmill.models.calls import Calls
from gristmill.models.endpoint import Endpoint, NotThere
from gristmill.models.protocol import Completion

ATTEMPTS = 3
"""Batches that may end with an error of the server for a request, before that counts as failed."""

CHUNK = 1_000

Line = tuple[bytes, dict[str, Any]]
"""The key of a request, and what the batch says of it."""


@dataclass
class Harvest:
    """What a batch gave for its `requests`, by their keys."""

    requests: dict[bytes, Left]
    answered: set[bytes] = field(default_factory=set)
    failed: dict[bytes, Failure] = field(default_factory=dict)
    said: str = ""
    """What the provider has against the batch as a whole."""
    queue_full: bool = False
    """That is only that it has no room for it yet."""

    @property
    def final(self) -> int:
        """Requests that are not to be asked again."""
        return sum(failure.final for failure in self.failed.values())


async def harvest(api: BatchApi, ledger: BatchLedger, calls: Calls, record: Record, state: dict[str, Any]) -> Harvest:
    """Bring in a batch that the provider says has ended (`state`), and write that down.

    Raises what `BatchApi.fetch` does, and OutOfSpace.
    """
    found = Harvest(ledger.requests(record.number))
    for name in ("output_file_id", "error_file_id"):
        if state.get(name):
            with suppress(NotThere):  # deleted, by hand or by its age: what it had is asked for again
                await _file(api, ledger, calls, record, str(state[name]), found)
    status = str(state["status"])
    for cut in found.requests.keys() - found.answered - found.failed.keys():
        found.failed[cut] = Failure(f"server: the batch {status} without a line for it", counts=status == "completed")
    _judge(state, found)
    for cut, failure in found.failed.items():
        if failure.counts and not failure.final and found.requests[cut].attempts + 1 >= ATTEMPTS:
            found.failed[cut] = failure._replace(error=f"{failure.error} (in {ATTEMPTS} batches)", final=True)
    await asyncio.to_thread(calls.flush)
    ledger.ended(record, status, found.answered, found.failed)
    return found


def _judge(state: dict[str, Any], found: Harvest) -> None:
    """Read what the provider has against the batch. A line that is named as wrong has failed; the others have not."""
    errors = (state.get("errors") or {}).get("data") or []
    cuts = {left.line: cut for cut, left in found.requests.items()}
    for error in errors:
        if (cut := cuts.get(error.get("line"))) and cut in found.failed:
            said = _plain(error.get("message") or error.get("code"))
            found.failed[cut] = Failure(f"bad_request: {said}", final=True)
    found.said = _plain(errors[0].get("message") or errors[0].get("code")) if errors else ""
    found.queue_full = bool(errors) and all(error.get("code") == "token_limit_exceeded" for error in errors)


async def _file(api: BatchApi, ledger: BatchLedger, calls: Calls, record: Record, file: str, found: Harvest) -> None:
    """Bring in a file of answers or errors."""
    local = ledger.directory / f"{record.number}.partial"
    await api.fetch(file, local)
    lines: list[Line] = []
    with local.open("rb") as content:
        for text in content:
            with suppress(CallFailed):  # no JSON, as at the end of a file that was cut: nobody answered that request
                line = loaded(text)
                cut = cut_of(line.get("custom_id")) if isinstance(line, dict) else b""
                if cut in found.requests and cut not in found.answered:
                    lines.append((cut, line))
            if len(lines) == CHUNK:
                await _store(api.endpoint, calls, record.model, lines, found)
                lines = []
    await _store(api.endpoint, calls, record.model, lines, found)
    local.unlink()


async def _store(endpoint: Endpoint, calls: Calls, model: int, lines: list[Line], found: Harvest) -> None:
    """Put the answers among some lines into the ledger."""
    answers: dict[bytes, tuple[bytes, Completion]] = {}
    for cut, line in lines:
        try:
            completion = parse_answer(_answer(endpoint, line))
        except CallFailed as error:
            late = (line.get("error") or {}).get("code") in ("batch_expired", "batch_cancelled")
            found.failed[cut] = Failure(str(error), not error.again, counts=not late)
            continue
        asked = found.requests[cut]
        answers[cut] = (asked.whole if fits(completion, asked.cap) else cut, completion)
    while calls.behind():
        await asyncio.sleep(0.01)
    stored = calls.find([key for key, _ in answers.values()])  # by a harvest that was cut short
    for cut, (key, completion) in answers.items():
        found.answered.add(cut)
        found.failed.pop(cut, None)
        if key not in stored:
            calls.add(key, completion.raw, model, completion.tokens_in, completion.tokens_out)


def _answer(endpoint: Endpoint, line: dict[str, Any]) -> bytes:
    """The raw answer in a line of a batch's output. Raises CallFailed for what is none, with what the line says."""
    if error := line.get("error"):
        raise CallFailed("server", _plain(f"{error.get('code')}: {error.get('message')}"), again=True)
    response = line.get("response") or {}
    status, raw = response.get("status_code") or 0, orjson.dumps(response.get("body"))
    if status == 200:
        return raw
    failure = endpoint.failure(status, {}, raw)
    if isinstance(failure, CallFailed):
        failure.again |= status < 100  # providers have lines without a status: nobody answered them
        raise failure
    raise CallFailed("bad_request", _plain(str(failure)), again=isinstance(failure, Refused))


def _plain(text: object) -> str:
    return " ".join(str(text).split())[:300]
