"""What a model is: something that answers a request. Everything else about models wraps this.

A `Request` is what leaves: chat messages, sampling by OpenAI's names (https://platform.openai.com/docs/api-reference/chat),
tools and the number of the sample. A `Completion` is what came back, read from the raw answer, which is the JSON of an
OpenAI chat completion whatever model gave it; the calls ledger stores raw answers, so reading them anew is free.

A call that fails raises `CallFailed`; the driver (`drive.py`) turns it into a completion with an `error`. Errors that
no other call would survive (a wrong key, a host that is not there) are UsageError, an endpoint that stopped answering
is Refused.

Not covered: audio and images, the `completions` and `responses` routes, streaming.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `sampling` holds the other fields of the request by OpenAI's names: `temperature`, `top_p`,
    `max_tokens`, `stop`, `seed`, `n`, `logprobs`, `response_format`, and whatever else a server takes.

    `sample` tells apart calls that are otherwise equal; it is part of a call's key and is not sent.
    """

    messages: Sequence[Mapping[str, Any]]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] | None = None
    sample: int = 0


class Choice(NamedTuple):
    """One of the answers to a request (there are `n`)."""

    text: str | None
    reasoning: str | None = None
    """What the model thought before: the field `reasoning_content` or `reasoning`, or a leading `<think>` block."""
    finish_reason: str | None = None
    """`stop`, `length`, `tool_calls`, `content_filter`."""
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    logprobs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a request, or why there is none."""

    choices: tuple[Choice, ...] = ()
    tokens_in: int | None = None
    """Tokens of the prompt; None where the server does not tell."""
    tokens_out: int | None = None
    """Tokens of all choices, reasoning included."""
    raw: bytes = b""
    """The JSON this was read from; empty for a failure."""
    error: str | None = None
    """Why there is no answer, as `KIND: MESSAGE`; None if there is one."""
    hit: bool = False
    """It came from the calls ledger: nothing was sent."""


class Model(Protocol):
    """Something that answers requests."""

    @property
    def name(self) -> str:
        """How people call it; what the column `model` holds."""

    @property
    def identity(self) -> str:
        """What it is: part of the key of every call. Alias and revision of an endpoint, the hash of local weights."""

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises CallFailed, UsageError, Refused."""

    async def close(self) -> None:
        """Let go of connections, processes and memory."""
