"""A scripted model, `fake:FILE.yaml`: for tests, documents and dry runs.

    replies:
      - {match: "capital of France", reply: "Paris"}          # match: part of the last user message; exact: all of it
      - {regex: "(\\d+) plus (\\d+)", function: "sums:answer"}   # called with messages and sampling
      - {regex: "^Say (.+)", reply: "\\1!"}
      - {default: "I do not know.", delay: 0.01, fail: 0.02}

The first reply that fits answers. `replies` in place of `reply` are taken in turn, by the number of the sample. The
tokens of an answer are its words; `fail` is the share of requests that fail, chosen by their content.

Not covered: log-probabilities, calls of tools.
"""

import asyncio
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pydantic
import yaml

from gristmill.errors import CallFailed, UsageError
from gristmill.models.answer import parse_answer
from gristmill.models.protocol import Completion, Request
from gristmill.models.request import cap, keys

Function = Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any]], str]


class _Reply(pydantic.BaseModel):
    """One entry: when it answers, what, and how."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    match: str | None = None
    exact: str | None = None
    regex: re.Pattern[str] | None = None
    default: str | None = None
    reply: str | None = None
    replies: list[str] | None = pydantic.Field(None, min_length=1)
    function: str | None = None
    reasoning: str | None = None
    finish_reason: str = "stop"
    delay: float = pydantic.Field(0.0, ge=0)
    fail: float = pydantic.Field(0.0, ge=0, le=1)

    @pydantic.model_validator(mode="after")
    def _whole(self) -> "_Reply":
        if sum(each is not None for each in (self.match, self.exact, self.regex, self.default)) != 1:
            raise ValueError("needs one of match, exact, regex and default")
        answers = sum(each is not None for each in (self.default, self.reply, self.replies, self.function))
        if answers != 1:
            raise ValueError("needs one of reply, replies and function (default is its own reply)")
        return self

    def fits(self, text: str) -> bool:
        """Whether it answers a user message."""
        if self.regex is not None:
            return self.regex.search(text) is not None
        return self.default is not None or self.exact == text or (self.match is not None and self.match in text)


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    replies: list[_Reply] = pydantic.Field(min_length=1)


class Fake:
    """The scripted model of a YAML file. Raises UsageError naming file, entry and field."""

    def __init__(self, path: Path):
        self.path = path
        try:
            content = path.read_bytes()
            self._replies = _File.model_validate(yaml.safe_load(content)).replies
        except OSError as error:
            raise UsageError(f"fake:{path}: {error.strerror}; name a YAML file (gristmill init fake)") from None
        except yaml.YAMLError as error:
            raise UsageError(f"fake:{path}: not YAML ({' '.join(str(error).split())})") from None
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(f"fake:{path}: {place}: {first['msg']}; see gristmill init fake") from None
        self._functions = {each.function: _imported(path, each.function) for each in self._replies if each.function}
        code = "".join(map(inspect.getsource, self._functions.values()))
        self.name = f"fake:{path.stem}"
        self.identity = f"fake:{blake2b(content + code.encode(), digest_size=16).hexdigest()}"

    async def complete(self, request: Request) -> Completion:
        """The scripted answer. Raises CallFailed: `server` where the script says so, `bad_request` where no entry
        fits."""
        text = next((str(m["content"]) for m in reversed(request.messages) if m["role"] == "user"), "")
        entry = next((each for each in self._replies if each.fits(text)), None)
        if entry is None:
            raise CallFailed("bad_request", f"no reply in {self.path} fits {text[:60]!r}; add a default")
        if entry.delay:
            await asyncio.sleep(entry.delay)
        if entry.fail and int.from_bytes(keys(request, self.identity).whole[:4]) < entry.fail * 2**32:
            raise CallFailed("server", f"as {self.path} says", again=True)
        count = request.sampling.get("n") or 1
        answers = [self._answer(entry, text, request, request.sample + number) for number in range(count)]
        return parse_answer(_raw(answers, entry, request))

    async def close(self) -> None:
        """Nothing to let go of."""

    def _answer(self, entry: _Reply, text: str, request: Request, number: int) -> str:
        if entry.function:
            return str(self._functions[entry.function](request.messages, request.sampling))
        if entry.replies:
            return entry.replies[number % len(entry.replies)]
        if entry.regex and entry.reply is not None and (found := entry.regex.search(text)):
            return found.expand(entry.reply)
        return entry.default if entry.reply is None else entry.reply  # type: ignore[return-value]  # one is given


def _raw(answers: Sequence[str], entry: _Reply, request: Request) -> bytes:
    """The JSON that a server would send."""
    limit, choices, tokens = cap(request), [], 0
    for number, answer in enumerate(answers):
        words = answer.split()
        is_cut = limit is not None and len(words) > limit
        content = " ".join(words[:limit]) if is_cut else answer
        tokens += min(len(words), limit or len(words))
        message = {"role": "assistant", "content": content}
        if entry.reasoning:
            message["reasoning_content"] = entry.reasoning
        reason = "length" if is_cut else entry.finish_reason
        choices.append({"index": number, "message": message, "finish_reason": reason})
    into = sum(len(str(m["content"]).split()) for m in request.messages)
    usage = {"prompt_tokens": into, "completion_tokens": tokens, "total_tokens": into + tokens}
    return orjson.dumps({"object": "chat.completion", "choices": choices, "usage": usage})


def _imported(path: Path, name: str) -> Function:
    """The function `module:name` from beside the YAML file, else from where Python looks."""
    module, _, function = name.partition(":")
    file = path.parent / f"{module}.py"
    try:
        if file.is_file():
            spec = importlib.util.spec_from_file_location(f"_fake_{module}", file)
            assert spec and spec.loader
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
        else:
            loaded = sys.modules.get(module) or importlib.import_module(module)
        found: Function = getattr(loaded, function)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UsageError(f"fake:{path}: function {name}: {error}; write module:function") from None
    return found
