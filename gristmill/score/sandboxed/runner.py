"""The runner: first process of the candidate's namespaces. It forks the candidate, and tells how that ended.

It serves one of two requests of the checker. `load` forks a process that executes the program and then answers calls of
what it defined, over the same channel. `run` forks one process an input, each with that input as its standard input,
and answers with what it printed.
"""

import atexit
import builtins
import gc
import os
import resource
import sys
import types
from _sitebuiltins import Quitter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from .channel import Channel, Closed
from .isolation import STDIN, die_with_parent, kill_beneath, limit
from .syscalls import available, refuse
from .values import decode, encode

FILE = "<solution>"
SHOWN = 300
"""Characters of an error's message."""
PRINTED = 4 * 2**20
"""Bytes of output that are looked at."""


class Limits(NamedTuple):
    """What a candidate may use: bytes of memory, processor seconds, threads (with the sandbox's own five), bytes of
    disk. `weak` when no namespaces are around it."""

    memory: int
    seconds: int
    threads: int
    disk: int
    weak: bool = False


def serve(channel: Channel, limits: Limits) -> None:
    """Serve one request. Everything beneath is gone when it returns."""
    with suppress(Closed, ValueError):
        what, *arguments = channel.receive()
        try:
            if what == "load":
                _load(channel, limits, arguments)
            else:
                for text in arguments[1]:
                    channel.send(_ran(arguments[0], text, limits))
        except OSError as error:  # no process, no memory: not the program's doing
            channel.send(["failed", str(error)])


def _load(channel: Channel, limits: Limits, arguments: list[Any]) -> None:
    """The program starts when the checker has been told that it was begun, which only we can do before."""
    wait, begin = os.pipe()

    def work() -> None:
        os.read(wait, 1)
        answer(channel, *arguments)

    child = _forked(work, limits)
    channel.send(["begun"])
    os.write(begin, b".")
    channel.send(["ended", _ended(child)])


def add_exit() -> None:
    """Give programs `exit` and `quit`, which they take for Python's own; they come with site packages."""
    for name in ("exit", "quit"):
        setattr(builtins, name, Quitter(name, "Ctrl-D"))


def confine(limits: Limits) -> None:
    """Bound this process, for good."""
    threads = limits.threads
    if limits.weak:  # threads are counted for the whole machine; what refuses other processes may not be there
        threads = resource.RLIM_INFINITY if available() else 0
    limit(memory=limits.memory, seconds=limits.seconds, threads=threads, disk=limits.disk)
    if available():
        refuse(weak=limits.weak)


def _forked(work: Callable[[], None], limits: Limits) -> int:
    child = os.fork()
    if child:
        return child
    try:
        die_with_parent()
        os.setsid()
        confine(limits)
        work()
    except BaseException:  # noqa: BLE001  whatever the program raised: its status says so
        os._exit(1)
    os._exit(0)


def _ended(child: int) -> int:
    """Wait for the end of a process, and end whatever it has left."""
    status = os.waitpid(child, 0)[1]
    kill_beneath()
    return os.waitstatus_to_exitcode(status)


def _ran(program: list[str], text: str, limits: Limits) -> list[Any]:
    """`["ran", exit code, what was printed, last line of the errors]` or `["unparseable", message]`.

    The code is the negative of a signal's number; what was printed is None where it is more than is looked at.
    """
    given, out, err = _file(), _file(), _file()
    heard, tell = os.pipe()
    data = text.encode("utf-8", "surrogatepass")
    os.write(given, data)
    os.lseek(given, 0, os.SEEK_SET)
    if not limits.weak:
        with suppress(OSError):  # an earlier input's program may have filled the disk
            Path(STDIN).write_bytes(data)

    def work() -> None:
        try:
            code = _compiled(program)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            os.write(tell, _told(error).encode("utf-8", "replace"))
            return
        for file, number in ((given, 0), (out, 1), (err, 2)):
            os.dup2(file, number)
        os.closerange(3, 256)  # the program can tell nothing but by what it prints
        os._exit(_executed(code, _standard_streams()))

    status = _ended(_forked(work, limits))
    os.close(tell)
    unparseable = os.read(heard, 2 * SHOWN).decode("utf-8", "replace")
    size = os.fstat(out).st_size
    printed = os.pread(out, PRINTED, 0).decode("utf-8", "replace") if size <= PRINTED else None
    said = os.pread(err, 2000, max(0, os.fstat(err).st_size - 2000)).decode("utf-8", "replace").strip()
    for file in (given, out, err, heard):
        os.close(file)
    return ["unparseable", unparseable] if unparseable else ["ran", status, printed, said.rpartition("\n")[2][:SHOWN]]


def _executed(code: types.CodeType, streams: list[IO[str]]) -> int:
    """Execute a program as an interpreter does, to the end of its threads and objects. Returns the exit code."""
    status, space = 0, _module("__main__").__dict__
    try:
        exec(code, space)
    except SystemExit as end:
        status = end.code & 255 if isinstance(end.code, int) else int(end.code is not None)
        if status and not isinstance(end.code, int):
            os.write(2, f"{end.code}\n".encode("utf-8", "replace"))
    except BaseException as error:  # noqa: BLE001  the program may raise anything
        status = 1
        os.write(2, _told(error).encode("utf-8", "replace"))
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, *streams):
        with suppress(Exception):  # the program may have closed or replaced it
            stream.flush()
    space.clear()  # files that it left open write what they hold
    gc.collect()
    return status


def _file() -> int:
    """A nameless file: the candidate writes there what it prints, so that no pipe can fill or stay open."""
    if sys.platform == "linux":
        return os.memfd_create("stream")
    number = os.open(".stream", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    Path(".stream").unlink()
    return number


def _standard_streams() -> list[IO[str]]:
    streams: list[IO[str]] = []
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        stream = os.fdopen(number, mode, encoding="utf-8", errors="surrogateescape", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        streams.append(stream)
    return streams[1:]


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def _compiled(program: list[str]) -> types.CodeType:
    """The first of the texts that is Python. Raises the SyntaxError (or its like) of the first where none is."""
    for text in program:
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            return compile(text, FILE, "exec", dont_inherit=True)
    return compile(program[0], FILE, "exec", dont_inherit=True)


def _text(error: BaseException) -> str:
    try:
        return str(str(error))[:SHOWN]
    except BaseException:  # noqa: BLE001  a method of the program's
        return ""


def _told(error: BaseException) -> str:
    text = " ".join(_text(error).split())
    line = None
    trace = error.__traceback__
    while trace:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == FILE else line
        trace = trace.tb_next
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")


def answer(channel: Channel, program: list[str], before: str) -> None:
    """Execute the program, tell what it defined, then do what is asked, until the other side closes.

    Says `["compiled"]` or `["unparseable", message]`, then `["loaded", {name: what}]`; the answer to a request is
    `["value", result, arguments that changed]`. An error is `["raised", names of its types, its message, evidence]`.
    """
    objects: list[Any] = []

    def other(value: Any) -> list[Any]:
        objects.append(value)
        return ["o", len(objects) - 1, type(value).__name__]

    def known(tag: str, number: Any) -> Any:
        if tag != "o":
            raise ValueError(f"no value is tagged {tag!r}")
        return objects[number]

    space = _module("solution").__dict__
    try:
        code = _compiled(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        channel.send(["unparseable", _told(error)])
        return
    channel.send(["compiled"])
    try:
        with suppress(Exception):  # imports of the tests, which the tests will miss themselves
            exec(before, space)
        exec(code, space)
    except BaseException as error:  # noqa: BLE001  the program may raise anything
        channel.send(["raised", [], "", _told(error)])
        return
    defined = {name: _module_name(value) or other(value) for name, value in space.items() if not name.startswith("__")}
    channel.send(["loaded", defined])
    while True:
        what, arguments, named = channel.receive()
        values = [decode(each, known) for each in arguments]
        try:
            result = encode(
                OPERATIONS[what](*values, **{key: decode(each, known) for key, each in named.items()}), other
            )
            after = [_after(value, sent, other) for value, sent in zip(values, arguments, strict=True)]
            channel.send(["value", result, after])
        except Closed:
            return
        except BaseException as error:  # noqa: BLE001  the program may raise anything
            names = [each.__name__ for each in type(error).__mro__ if getattr(builtins, each.__name__, None) is each]
            channel.send(["raised", names, _text(error), _told(error)])


def _module_name(value: Any) -> list[Any] | None:
    return ["module", value.__name__] if isinstance(value, types.ModuleType) else None


def _after(value: Any, sent: Any, other: Callable[[Any], list[Any]]) -> Any:
    """An argument that a call has changed, as it is now; else None."""
    if not isinstance(value, list | dict | set | bytearray):
        return None
    now = encode(value, other)
    return now if now != sent else None


OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda target, *given, **named: target(*given, **named),
    "getattr": getattr,
    "setattr": setattr,
    "getitem": lambda target, key: target[key],
    "iter": iter,
    "next": next,
    "len": len,
    "str": str,
    "repr": repr,
    "bool": bool,
}
"""What a test may do with an object that only the candidate has. Comparing is not among them: an object that says it
equals everything would pass every test."""
