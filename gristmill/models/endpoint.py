"""One attempt at an OpenAI-compatible chat server over aiohttp; retries and limits are `limits.py`.

The key is read from the environment when a request is sent and goes into its header alone: redirects are not
followed, and what a server says in an error or an answer is shown and stored without it. Connections are kept alive for
less than the 5 s after which common servers (uvicorn) close idle ones: a request on one that is closing fails.

Not covered: HTTP/2, proxies, client certificates, providers whose API is not OpenAI's.
"""

import errno
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import orjson
from yarl import URL

from gristmill.errors import CallFailed, GristmillError, Refused, UsageError
from gristmill.models.answer import parse_answer
from gristmill.models.protocol import Completion, Request
from gristmill.models.request import body

KEY_ENV = "GRISTMILL_API_KEY"
"""Where the key of a server is that names no other variable; no header is sent when it is not set."""

TIMEOUT = 600.0
"""Seconds for a whole answer; a long chain of thought on a busy server takes minutes."""
CONNECT_TIMEOUT = 10.0
KEEP_ALIVE = 4.0

HINT = "check the name of the model and that the URL ends in /v1"
"""What to do where a path or a model is not there."""

_TOO_LONG = ("context_length", "context length", "context window", "maximum context", "too long", "too many tokens")
_FILTERED = ("content_filter", "content management policy", "content policy", "safety system")
_NO_MODEL = ("server is pinned to", "model_not_found")
_QUOTA = ("insufficient_quota", "billing", "exceeded your current quota")


class NotThere(UsageError):
    """The server has no such path, model, file or batch (404, 405; 400 from a server of one other model)."""


class Endpoint:
    """The model that the server at `url` (up to `/v1`) calls `model`.

    `identity` is what its answers are known by, `name` by default its name there. `key_env` names the variable with the
    key. Raises UsageError for a URL that is not http(s).
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        name: str | None = None,
        identity: str | None = None,
        key_env: str = KEY_ENV,
        timeout: float = TIMEOUT,
    ):
        where = URL(url)
        if where.scheme not in ("http", "https") or not where.host or not model:
            raise UsageError(f"model {where.with_user(None)}#{model}: write http://HOST:PORT/v1#NAME")
        self.model, self.name = model, name or model
        self.identity = identity or f"{where.host}#{model}"
        self.key_env, self.timeout = key_env, timeout
        self._login = aiohttp.BasicAuth(where.user, where.password or "") if where.user else None
        bare = where.with_user(None).with_query(None).with_fragment(None)
        self.base = str(bare)
        self._chat = bare / "chat/completions"
        self._session: aiohttp.ClientSession | None = None
        self._answered = False

    def __repr__(self) -> str:
        return f"Endpoint({self.base!r}, {self.model!r})"

    async def complete(self, request: Request) -> Completion:
        """The answer to a request, asked for once.

        Raises CallFailed for what concerns this call (`again` says whether another attempt may help), UsageError for
        what concerns all: no such host, path or model, a key that is not accepted; Refused where the quota is spent.
        """
        return parse_answer(await self.ask("POST", "chat/completions", body(request, self.model)))

    async def ask(
        self, method: str, path: str, data: bytes | aiohttp.FormData | None = None, *, hint: str = HINT
    ) -> bytes:
        """What the server answers on a path below the URL, asked once; `hint` says what to do where there is none.

        Raises as `complete` does.
        """
        key, headers = self._headers(data)
        more: dict[str, Any] = {"timeout": self._patience()} if isinstance(data, aiohttp.FormData) else {}
        with self._said_plainly(key):
            session = self._session or self._opened()
            where = self._chat if path == "chat/completions" else self._below(path)
            sent = session.request(method, where, data=data, headers=headers, allow_redirects=False, **more)
            async with sent as answer:
                raw = await answer.read()
                status, got = answer.status, answer.headers
        raw = _hidden(key, raw)
        if not 200 <= status < 300:
            raise self.failure(status, got, raw, hint)
        self._answered = True
        return raw

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a file below the URL as they arrive, however long it and they are. Raises as `complete` does."""
        key, headers = self._headers(None)
        with self._said_plainly(key):
            session = self._session or self._opened()
            where = self._below(path)
            async with session.get(where, headers=headers, timeout=self._patience(), allow_redirects=False) as answer:
                if answer.status != 200:
                    raise self.failure(answer.status, answer.headers, _hidden(key, await answer.read()))
                rest: list[bytes] = []
                async for chunk in answer.content.iter_any():
                    first, *more = chunk.split(b"\n")
                    rest.append(first)
                    for begun in more:
                        yield _hidden(key, b"".join(rest))
                        rest = [begun]
                if any(rest):
                    yield _hidden(key, b"".join(rest))

    def _patience(self) -> aiohttp.ClientTimeout:
        """For large files: a limit to silence, none to the whole."""
        return aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT, sock_read=self.timeout)

    def _below(self, path: str) -> URL:
        return URL(f"{self.base.rstrip('/')}/{path}")

    def _headers(self, data: object) -> tuple[str | None, dict[str, str]]:
        """The key, and the headers of a request; the key is read here, each time."""
        key = os.environ.get(self.key_env)
        headers = {"Content-Type": "application/json"} if isinstance(data, bytes) else {}
        if key and not self._login:
            headers["Authorization"] = f"Bearer {key}"
        return key, headers

    @contextmanager
    def _said_plainly(self, key: str | None) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise CallFailed("timeout", f"no answer within {self.timeout:g} s", again=True) from None
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise CallFailed("disconnected", _without(key, str(error) or type(error).__name__), again=True) from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        """A session of the running loop. Its connections are descriptors, so their number must not be the limit."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            with suppress(ValueError, OSError):  # macOS: "unlimited" is more than it grants
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=CONNECT_TIMEOUT),
            auth=self._login,
        )
        return self._session

    def _unreachable(self, error: aiohttp.ClientConnectorError) -> GristmillError:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return UsageError("too many open connections for this machine; raise `ulimit -n`, or lower --concurrency")
        why = error.os_error.strerror or str(error.os_error)
        if self._answered:
            return CallFailed("disconnected", f"{self.base}: {why}", again=True)
        return UsageError(f"model {self.name}: {self.base} cannot be reached ({why}); start the server, or fix the URL")

    def failure(self, status: int, headers: Any, raw: bytes, hint: str = HINT) -> GristmillError:
        """What an answer other than 200 means, for this call or for all."""
        said = _said(raw)
        lower = said.lower()
        where = f"model {self.name} at {self.base}"
        if 300 <= status < 400:
            to = URL(headers.get("Location", "")).with_user(None).with_query(None)
            return UsageError(f"{where}: redirects ({status}) to {to}; keys are not sent on: name that URL")
        if status in (401, 403):
            state = "is not accepted" if os.environ.get(self.key_env) else "is not set"
            return UsageError(f"{where}: {status} {said}; the key in ${self.key_env} {state}")
        if status in (404, 405) or (status == 400 and any(sign in lower for sign in _NO_MODEL)):
            return NotThere(f"{where}: {status} {said}; {hint}")
        if status == 429:
            if any(sign in lower for sign in _QUOTA):
                return Refused(f"{where}: {said}; what was answered is kept: start again when there is quota")
            return CallFailed("rate_limited", said, again=True, after=_after(headers))
        if status == 413 or (status in (400, 422) and any(sign in lower for sign in _TOO_LONG)):
            return CallFailed("too_long", said)
        if status == 400 and any(sign in lower for sign in _FILTERED):
            return CallFailed("content_filter", said)
        if status >= 500 or status in (408, 409, 425):
            return CallFailed("server", f"{status} {said}", again=True, after=_after(headers))
        return CallFailed("bad_request", f"{status} {said}")


def _said(raw: bytes) -> str:
    """The message of an error's body, on one line: OpenAI's {error: {message, code}}, FastAPI's {detail}, or a page."""
    text = raw.decode(errors="replace")
    with suppress(orjson.JSONDecodeError, AttributeError):
        found = orjson.loads(raw)
        error = found.get("error", found)
        if isinstance(error, dict):
            message = error.get("message") or error.get("detail") or error
            code = error.get("code") or error.get("type")
            text = f"{message} ({code})" if code and str(code) not in str(message) else str(message)
        else:
            text = str(error)
    return " ".join(text.split())[:300] or "(no message)"


def _after(headers: Any) -> float | None:
    """Seconds from Retry-After: a number, or a date (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after)."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    return None


def _hidden(key: str | None, raw: bytes) -> bytes:
    return raw.replace(key.encode(), b"***") if key else raw


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "***") if key else text
