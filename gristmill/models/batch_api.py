"""A provider's batch API: OpenAI's files and batches (https://platform.openai.com/docs/api-reference/batch).

A file of requests is uploaded (POST /files, purpose `batch`), a batch made of it (POST /batches), looked at (GET
/batches/ID) until it has ended, and its files of answers and errors fetched (GET /files/ID/content). What fails is
tried again; but a file or a batch is made anew only when a look at the provider's lists says that it is not there: its
answer may have been lost. A file is known by its name, a batch by `metadata` or, where a provider does not keep that,
by its file.

Not covered: providers whose batch API is another (Anthropic, Gemini); deleting files at the provider.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson

from gristmill.errors import CallFailed, Refused, UsageError
from gristmill.models.answer import loaded
from gristmill.models.endpoint import Endpoint

T = TypeVar("T")

ATTEMPTS = 10
BACKOFF, BACKOFF_MOST = 0.5, 60.0
"""Tries of one request, and seconds between them: random in 0.5 to 1 of BACKOFF x 2^n; together over four minutes."""

LOOKS = 70
"""Tries of a look at a batch: over an hour, for a network that is away while one waits."""

ENDED = ("completed", "failed", "expired", "cancelled")

PAGE = 100
HINT = "it seems to have no batch API: leave out --batch"


class BatchApi:
    """The batch API behind an endpoint. Its methods raise UsageError and Refused as the endpoint does, and Refused when
    all tries failed."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint

    async def upload(self, file: Path, *, look: bool) -> str:
        """The id of an uploaded file; with `look` (and after a failure) the one that is there, if it is."""

        async def attempt(again: bool) -> str:
            if (look or again) and (found := await self._find("files", f"purpose=batch&limit={PAGE}", _named(file))):
                return str(found["id"])
            with file.open("rb") as content:
                form = aiohttp.FormData({"purpose": "batch"})
                form.add_field("file", content, filename=file.name, content_type="application/jsonl")
                return str((await self._asked("POST", "files", form))["id"])

        return await self._patiently(attempt, "uploading a file")

    async def make(self, file: str, token: str, *, look: bool) -> str:
        """The id of the batch of an uploaded file; with `look` (and after a failure) one that is there."""
        wanted = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"gristmill": token},
        }

        def ours(batch: dict[str, Any]) -> bool:
            return batch.get("input_file_id") == file or (batch.get("metadata") or {}).get("gristmill") == token

        async def attempt(again: bool) -> str:
            if (look or again) and (found := await self._find("batches", f"limit={PAGE}", ours)):
                return str(found["id"])
            try:
                return str((await self._asked("POST", "batches", orjson.dumps(wanted)))["id"])
            except CallFailed as error:
                if "file" in str(error):  # providers may need a while to find what was just uploaded
                    error.again = True
                raise

        return await self._patiently(attempt, "making a batch")

    async def state(self, batch: str) -> dict[str, Any]:
        """A batch as the provider describes it."""
        hint = f"{batch} was made with another key or is deleted: set that key, or see gristmill calls --forget-batches"
        return await self._patiently(
            lambda _: self._asked("GET", f"batches/{batch}", hint=hint), f"asking for {batch}", LOOKS
        )

    async def fetch(self, file: str, to: Path) -> None:
        """Write the content of a file at the provider to `to`. Raises NotThere where it is deleted."""

        async def attempt(_: bool) -> None:
            with to.open("wb") as written:
                async for line in self.endpoint.lines(f"files/{file}/content"):
                    written.write(line + b"\n")

        await self._patiently(attempt, f"fetching {file}")

    async def _asked(
        self, method: str, path: str, data: bytes | aiohttp.FormData | None = None, *, hint: str = HINT
    ) -> dict[str, Any]:
        raw = await self.endpoint.ask(method, path, data, hint=hint)
        found = loaded(raw)
        if not isinstance(found, dict) or not (found.get("id") or "data" in found):
            raise CallFailed("bad_answer", f"{path}: no object with an id: {raw[:200]!r}", again=True)
        return found

    async def _find(self, path: str, query: str, ours: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """The first of a list for which `ours` is true."""
        async for each in self._listed(path, query):
            if ours(each):
                return each
        return None

    async def _listed(self, path: str, query: str) -> AsyncIterator[dict[str, Any]]:
        after = ""
        while True:
            page = await self._asked("GET", f"{path}?{query}{after}")
            for each in page["data"]:
                yield each
            if not page.get("has_more") or not page["data"]:
                return
            after = f"&after={page['data'][-1]['id']}"

    async def _patiently(self, attempt: Callable[[bool], Awaitable[T]], what: str, most: int = ATTEMPTS) -> T:
        """What `attempt` gives, tried again while that may help; it is told whether it was tried before."""
        for tried in range(most):
            try:
                return await attempt(tried > 0)
            except CallFailed as error:
                last = error
                if not error.again:
                    break
            pause = min(BACKOFF * 2 ** min(tried, 10), BACKOFF_MOST) * random.uniform(0.5, 1)
            await asyncio.sleep(pause if last.after is None else last.after * random.uniform(1, 1.25))
        where = f"model {self.endpoint.name} at {self.endpoint.base}"
        if last.again:
            raise Refused(f"{where}: {what} failed {most} times ({last}); start again when it is back")
        raise UsageError(f"{where}: {what}: {last}; if it stays so, gristmill calls --forget-batches asks anew")


def _named(file: Path) -> Callable[[dict[str, Any]], bool]:
    return lambda each: each.get("filename") == file.name
