"""The candidate's functions and objects as a test sees them: a stand-in sends each call to the candidate's process.

What comes back is data. A list that the call has changed in place is changed here too. An object that is no data stays
there and is stood in for; it can be called, asked for attributes, indexed, iterated, measured, made text; but it equals
only itself, since what it says of its own equality would be the candidate's word.
"""

import builtins
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from .channel import Channel, Closed, Late
from .values import decode, encode

SHOWN = 200
"""Characters of a value in evidence."""


class Raised(Exception):
    """The candidate raised an error that is none of Python's own."""


Stop = Callable[[str, str], NoReturn]


class Link:
    """The way to the candidate's process. `last` is the latest call and what came of it, for evidence.

    `stop` gives a verdict and does not return: an exception might be caught by the test.
    """

    def __init__(self, channel: Channel, stop: Stop):
        self.channel, self.stop = channel, stop
        self.last, self.begun = "", False

    def ask(self, what: str, *arguments: Any, **named: Any) -> Any:
        """Have an operation done, and give its result or raise its error."""
        sent = [encode(each, self._number) for each in arguments]
        self.send([what, sent, {key: encode(each, self._number) for key, each in named.items()}])
        answer = self.receive()
        try:
            return self._done(answer, arguments)
        except (ValueError, TypeError, IndexError, KeyError, RecursionError, MemoryError) as error:
            if getattr(error, "of_candidate", False):
                raise
            self.nonsense()

    def send(self, message: list[Any]) -> None:
        """Send a request."""
        try:
            self.channel.send(message)
        except (ValueError, RecursionError) as error:
            self.stop("unparseable_gold", f"the test passes what cannot be sent: {error}")
        except Late:
            self.stop("timeout", self.late())
        except Closed:
            pass  # what the other side said at its end may still be there

    def receive(self) -> Any:
        """The next message, if there is one more."""
        try:
            answer = self.channel.receive()
        except Closed:
            self.stop("wrong", "the program ended without an answer")
        except Late:
            self.stop("timeout", self.late())
        if not isinstance(answer, list):
            self.nonsense()
        if not self.begun and answer[:1] == ["failed"]:
            self.stop("crash", f"the program could not be started: {answer[1]}")
        if not self.begun and answer[:1] == ["begun"]:
            self.begun = True
            return self.receive()
        if answer[:1] == ["ended"]:
            self.stop("wrong", f"{ended(answer[1])}{f' in {self.last}' if self.last else ' while it was loaded'}")
        return answer

    def nonsense(self) -> NoReturn:
        """End with the verdict for an answer that no answer can be."""
        self.stop("wrong", "it answered with what is no value")

    def late(self) -> str:
        """Where the time went."""
        return f"no end of {self.last}" if self.last else "no end of loading the program"

    def _done(self, answer: list[Any], arguments: tuple[Any, ...]) -> Any:
        kind, *rest = answer
        if kind == "raised":
            names, message, told = rest
            raise _error(names, str(message), str(told))
        if kind != "value":
            raise ValueError(kind)
        result, after = decode(rest[0], self._known), rest[1]
        for argument, now in zip(arguments, after, strict=True):
            if now is not None:
                _change(argument, decode(now, self._known))
        return result

    def _number(self, value: Any) -> list[Any]:
        if type(value) is not Remote:
            self.stop("unparseable_gold", f"the test passes a {type(value).__name__}, which is no data")
        return ["o", object.__getattribute__(value, "_number")]

    def _known(self, tag: str, number: Any) -> Any:
        if tag != "o" or type(number) is not int:
            raise ValueError(f"no value is tagged {tag!r}")
        return Remote(self, number, "object")


class Remote:
    """Stands in for something of the candidate's."""

    __slots__ = ("_link", "_name", "_number")

    def __init__(self, link: Link, number: int, name: str):
        for key, value in (("_link", link), ("_number", number), ("_name", name)):
            object.__setattr__(self, key, value)

    def __call__(self, *given: Any, **named: Any) -> Any:
        link, name = self._link, self._name
        link.last = f"{name}({_shown(given, named)})"
        result = link.ask("call", self, *given, **named)
        link.last += f" = {shown(result)}"
        return result

    def __getattr__(self, name: str) -> Any:
        found = self._link.ask("getattr", self, name)
        if type(found) is Remote:
            object.__setattr__(found, "_name", f"{self._name}.{name}")
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("getitem", self, key)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._link.ask("iter", self)
        return iter(iterator) if type(iterator) is not Remote else _Iterator(self._link, iterator)

    def __next__(self) -> Any:
        return self._link.ask("next", self)

    def __len__(self) -> int:
        return self._link.ask("len", self)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return self._link.ask("str", self)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return self._link.ask("repr", self)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self._link.ask("bool", self)  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return type(other) is Remote and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


class _Iterator:
    def __init__(self, link: Link, remote: Remote):
        self.link, self.remote = link, remote

    def __iter__(self) -> "_Iterator":
        return self

    def __next__(self) -> Any:
        return self.link.ask("next", self.remote)


def _error(names: list[str], message: str, told: str) -> Exception:
    """The nearest of Python's own errors; one that ends processes or generators is none to a test."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                error = kind(message)
            except TypeError:
                continue
            break
    else:
        error = Raised(message)
    error.of_candidate = told  # type: ignore[attr-defined]
    return error


def _change(argument: Any, now: Any) -> None:
    if isinstance(argument, list | bytearray) and isinstance(now, list | bytearray):
        argument[:] = now
    elif isinstance(argument, dict | set) and isinstance(now, dict | set):
        argument.clear()
        argument.update(now)


def ended(status: Any) -> str:
    """How a process ended, from its exit code (the negative of a signal's number)."""
    if isinstance(status, int) and status < 0:
        return f"the program was killed by signal {-status}"
    return f"the program exited with {status}"


def shown(value: Any) -> str:
    """A value for evidence, cut."""
    if type(value) is Remote:
        return "an object of its own"
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  a value within it is the candidate's, and so is its text
        text = f"<{type(error).__name__}>"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _shown(given: tuple[Any, ...], named: dict[str, Any]) -> str:
    return ", ".join([*map(shown, given), *[f"{key}={shown(value)}" for key, value in named.items()]])
