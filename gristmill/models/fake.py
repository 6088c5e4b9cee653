r"""The scripted model of `fake:FILE.yaml`: answers that are written down, for tests, demonstrations and dry runs.

    replies:                                                 # the first entry that fits the last user message answers
      - {match: "capital of France", reply: "Paris"}         # it holds this text
      - {exact: "Hello", replies: ["Hi", "Good day"]}        # it is this text; sample 0, 1, 0, ...
      - {regex: '^Add (\d+) and (\d+)', reply: '\1 + \2'}    # `re.search`, the reply with its groups put in
      - {regex: "^Translate", function: "my_module:reply"}   # reply(messages, sampling), my_module.py beside it
      - {default: "I do not know.", delay: 0.01, fail: 0.02}

Every entry may have `reasoning`, `finish_reason`, `delay` (seconds) and `fail` (the share of requests, 0 to 1, that
fail with `server`: the same ones each time, and those too when the share grows). A token is a word.

Not covered: tool calls, logprobs, `stop`, `response_format` (the reply is what the file says). Modules that a
function's module imports are no part of the identity.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Self

import orjson
import pydantic

from gristmill.errors import CallFailed, GristmillError, UsageError
from gristmill.models.answer import parse_answer
from gristmill.models.protocol import Completion, Request
from gristmill.models.request import cap, keys
from gristmill.user_code import user_module
from gristmill.yaml_file import read_as

_WORD = re.compile(r"\s*\S+")
_WHEN = ("match", "exact", "regex", "default")
_WHAT = ("reply", "replies", "function")


class Entry(pydantic.BaseModel):
    """One entry of `replies`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    match: str | None = None
    exact: str | None = None
    regex: str | None = None
    default: str | None = None
    reply: str | None = None
    replies: Annotated[list[str], pydantic.Field(min_length=1)] | None = None
    function: Annotated[str, pydantic.Field(pattern=r"^[\w.]+:\w+$")] | None = None
    reasoning: str | None = None
    delay: float = pydantic.Field(default=0.0, ge=0, allow_inf_nan=False)
    fail: float = pydantic.Field(default=0.0, ge=0, le=1)
    finish_reason: str = "stop"

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Self:
        when = [name for name in _WHEN if getattr(self, name) is not None]
        what = [name for name in _WHAT if getattr(self, name) is not None]
        if len(when) != 1:
            raise ValueError(f"needs one of {', '.join(_WHEN)}; has {' and '.join(when) or 'none'}")
        if self.default is not None and what:
            raise ValueError(f"default is the answer itself; take {what[0]} away")
        if self.default is None and len(what) != 1:
            raise ValueError(f"needs one of {', '.join(_WHAT)}; has {' and '.join(what) or 'none'}")
        if self.regex is not None:
            try:
                re.compile(self.regex)
                empty = re.compile(f"{self.regex}|").search("")  # fits, whatever the pattern: tries the groups out
                if empty:
                    for text in self.texts:
                        empty.expand(text)
            except (re.error, IndexError) as error:
                raise ValueError(f"regex: {error}") from None
        return self

    @property
    def texts(self) -> list[str]:
        """What it may say; empty when a function says it."""
        return self.replies or [text for text in (self.reply, self.default) if text is not None]

    def fits(self, asked: str) -> bool:
        """Whether it answers this message."""
        if self.regex is not None:
            return re.search(self.regex, asked) is not None
        if self.exact is not None:
            return asked == self.exact
        return self.match is None or self.match in asked


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    replies: list[Entry] = pydantic.Field(min_length=1)

    @pydantic.field_validator("replies")
    @classmethod
    def _ends(cls, replies: list[Entry]) -> list[Entry]:
        for i, entry in enumerate(replies[:-1]):
            if entry.default is not None:
                raise ValueError(f"entry {i} is a default, and those after it would never answer; make it the last")
        return replies


class Fake:
    """The Model of a script. Its identity is the hash of the script and of the modules its functions are in.

    Raises UsageError naming file, entry (counted from 0) and field.
    """

    def __init__(self, path: Path):
        self.path = path
        self.entries = read_as(_File, path, "a script: replies (see `gristmill init fake`)").replies
        digest = blake2b(path.read_bytes(), digest_size=16)
        self._functions: dict[str, Callable[..., Any]] = {}
        for i, entry in enumerate(self.entries):
            if entry.function and entry.function not in self._functions:
                function, source = _function(path, f"replies.{i}.function", entry.function)
                self._functions[entry.function] = function
                digest.update(source)
        self.name, self.identity = f"fake:{path.stem}", f"fake:{digest.hexdigest()}"

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises CallFailed `server` as often as the entry says, `bad_request` when no entry fits, and
        what a function raises of Gristmill's errors; UsageError for a function that fails otherwise."""
        asked = next((_text(m) for m in reversed(request.messages) if m.get("role") == "user"), "")
        entry = next((entry for entry in self.entries if entry.fits(asked)), None)
        if entry is None:
            shown = " ".join(asked.split())[:60]
            raise CallFailed("bad_request", f"no reply of {self.path} matches {shown!r}; add one, or a default")
        await asyncio.sleep(entry.delay)
        if _share(request) < entry.fail:
            raise CallFailed("server", f"{self.path} lets {entry.fail:g} of these requests fail")
        count = request.sampling.get("n") or 1
        choices = [self._choice(entry, asked, request, i) for i in range(count)]
        messages = [choice["message"] for choice in choices]
        usage = {
            "prompt_tokens": sum(_words(_text(message)) for message in request.messages),
            "completion_tokens": sum(_words(m["content"]) + _words(m.get("reasoning_content", "")) for m in messages),
        }
        return parse_answer(
            orjson.dumps({"object": "chat.completion", "model": self.name, "choices": choices, "usage": usage})
        )

    async def close(self) -> None:
        """Nothing is held."""

    def _choice(self, entry: Entry, asked: str, request: Request, index: int) -> dict[str, Any]:
        text = (
            self._called(entry.function, request) if entry.function else _picked(entry, asked, request.sample + index)
        )
        message, finish, left = {"role": "assistant"}, entry.finish_reason, cap(request)
        for field, said in (("reasoning_content", entry.reasoning), ("content", text)):
            if said is None:
                continue
            words = _WORD.findall(said)
            if left is not None and len(words) > left:
                said, finish = "".join(words[:left]), "length"
            left = None if left is None else max(left - len(words), 0)
            message[field] = said
        return {"index": index, "message": message, "finish_reason": finish}

    def _called(self, name: str, request: Request) -> str:
        try:
            text = self._functions[name](list(request.messages), dict(request.sampling))
        except GristmillError:
            raise
        except Exception as error:  # of the user's code, which may raise anything
            raise UsageError(
                f"{self.path}: {name} raised {type(error).__name__}: {' '.join(str(error).split())}; mend it"
            ) from error
        if not isinstance(text, str):
            raise UsageError(f"{self.path}: {name} returned {type(text).__name__}; it must return text")
        return text.encode("utf-8", "replace").decode()


def _function(path: Path, place: str, name: str) -> tuple[Callable[..., Any], bytes]:
    """The function called `MODULE:NAME`, and the source of its module."""
    module_name, _, attribute = name.partition(":")
    try:
        module = user_module(path.parent / f"{module_name.replace('.', '/')}.py", module_name)
    except Exception as error:  # of the user's module, which may raise anything
        raise UsageError(f"{path}: {place}: {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UsageError(f"{path}: {place}: {name}: no function {attribute!r} in {module_name}")
    source = Path(module.__file__).read_bytes() if module.__file__ else name.encode()
    return function, source


def _picked(entry: Entry, asked: str, sample: int) -> str:
    text = entry.texts[sample % len(entry.texts)]
    found = re.search(entry.regex, asked) if entry.regex is not None else None
    return found.expand(text) if found else text


def _share(request: Request) -> float:
    """A number in [0, 1) that is the same whenever the request is, and evenly spread over requests."""
    return int.from_bytes(keys(request, "fail").whole[:6]) / 2**48


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def _words(text: str) -> int:
    return len(text.split())
