"""What leaves for a model, as bytes, and the keys by which its answer is known.

A key is BLAKE2b-128 of canonical JSON (sorted names, orjson's numbers) of everything that decides an answer: who
answers (`Model.identity`), messages, sampling, tools and the sample's number. Not the URL: a server that moved answers
from the ledger. Not the limit on the answer's length either: see `Keys`.

Not covered: requests that are equal in meaning but not in content (a sampling default that is spelled out).
"""

import math
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from gristmill.errors import UsageError
from gristmill.models.protocol import Request

VERSION = 1
"""Of the form that is hashed; goes up when the form changes."""

CAPS = ("max_tokens", "max_completion_tokens")
"""The limits on the length of an answer."""


class Keys(NamedTuple):
    """A complete answer is stored under `whole`, which leaves the limit of its length out, so that it serves every
    limit it fits; one that was cut is stored under `cut`, and is asked for again when the limit grows."""

    whole: bytes
    cut: bytes


def body(request: Request, model: str) -> bytes:
    """The JSON to send to the model that the server calls `model`.

    Raises UsageError for what JSON cannot hold: numbers that are not finite or longer than 64 bits, lone surrogates.
    """
    sent: dict[str, Any] = {"model": model, "messages": request.messages, **request.sampling}
    if request.tools:
        sent["tools"] = request.tools
    return _json(sent)


def keys(request: Request, identity: str) -> Keys:
    """The keys of a request to a model. Raises UsageError as `body` does."""
    sampling = {name: _finite(name, value) for name, value in request.sampling.items() if name not in CAPS}
    parts = [VERSION, identity, request.messages, sampling, request.tools or None, request.sample]
    whole = blake2b(_json(parts), digest_size=16)
    cut = whole.copy()
    cut.update(str(cap(request)).encode())
    return Keys(whole.digest(), cut.digest())


def cap(request: Request) -> int | None:
    """The most tokens that the answer may have; None for no limit."""
    return next((request.sampling[name] for name in CAPS if request.sampling.get(name) is not None), None)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    except (orjson.JSONEncodeError, TypeError) as error:
        raise UsageError(
            f"a request is not JSON ({error}); allowed are text, finite numbers, lists and objects"
        ) from None


def _finite(name: str, value: Any) -> Any:
    """A value that can be sent as it is: orjson writes NaN as null, and the keys of two requests would be one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"sampling {name}: {value}; allowed are finite numbers")
    return value
