"""The checker: it alone has the tests and the expected values, runs the tests, and gives the verdict.

Assert styles: the tests are executed here, against stand-ins (`remote.py`) for what the program defined in its own
process. Names that the program defined never replace those of Python or of the trusted prompt, so that `poly` in
HumanEval/32 is the prompt's and `sorted` is Python's.

Not covered: tests that pass functions or objects of their own to the program (`unparseable_gold`); tests whose
expectation is computed by helpers that only the program defines, which are then the program's word.
"""

import ast
import builtins
import importlib
import time
import traceback
from typing import Any

from .channel import Channel
from .remote import Link, Remote, Stop, ended, shown

TESTS = "<tests>"
BUILTIN = frozenset(dir(builtins))
MODULES = (
    *("abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions"),
    *(
        "functools",
        "hashlib",
        "heapq",
        "inspect",
        "itertools",
        "json",
        "math",
        "numbers",
        "operator",
        "queue",
        "random",
    ),
    *("re", "statistics", "string", "sys", "textwrap", "threading", "time", "types", "typing", "unicodedata"),
)
"""Modules that programs and tests often import: a test that forgot to import one gets it."""


def verdict(job: dict[str, Any], channel: Channel, stop: Stop) -> tuple[str, str]:
    """One word and the evidence for a job: `style`, `program`, `deadline` in seconds, and what the style needs.

    It may instead be given to `stop`, which does not return.
    """
    channel.deadline = time.monotonic() + job["deadline"]
    return {"asserts": asserts, "check": check, "stdio": stdio}[job["style"]](job, Link(channel, stop))


def stdio(job: dict[str, Any], link: Link) -> tuple[str, str]:
    """Each input's whole output must be the expected one, and the program must end as one that succeeded."""
    inputs, outputs = job["inputs"], job["outputs"]
    link.send(["run", job["program"], inputs])
    for number, expected in enumerate(outputs, 1):
        link.last = f"test {number} of {len(outputs)}"
        what, *answer = link.receive()  # of the runner, which is nobody's word but ours
        if what == "unparseable":
            return "unparseable_answer", f"the program is no Python: {answer[0]}"
        status, printed, said = answer
        place = f"test {number} of {len(outputs)}: "
        if status != 0:
            return "wrong", f"{place}{ended(status)}: {said}"
        if printed is None:
            return "wrong", f"{place}it printed more than is looked at"
        if lines(printed) != lines(expected):
            return "wrong", f"{place}printed {shown(printed)}, expected {shown(expected)}"
    return "correct", f"{len(outputs)} tests"


def lines(text: str) -> list[str]:
    """Lines without white space at their ends, and without empty lines at the end of all."""
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip().split("\n")


def check(job: dict[str, Any], link: Link) -> tuple[str, str]:
    """HumanEval: `check(candidate)`, which the test defines, must return."""
    tests, entry = job["test"], job["entry_point"]
    try:
        code = compile(tests, TESTS, "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        return "unparseable_gold", f"the test is no Python: {error}"
    space: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(job["trusted"], space)
    except Exception:  # noqa: BLE001  a prompt need not be Python
        space = {"__name__": "tests"}
    defined = _loaded(job, link, space, {entry})
    if entry not in defined:
        return "wrong", f"the program defines no {entry!r}; it defines {', '.join(sorted(defined)) or 'nothing'}"
    if reason := _failure(link, code, space, tests):
        return ("wrong", reason) if link.last else ("unparseable_gold", f"the test itself failed: {reason}")
    if not callable(space.get("check")):
        return "unparseable_gold", "the test defines no check(candidate)"
    call = compile(f"check({entry})", "<call>", "exec")
    reason = _failure(link, call, space, tests)
    return ("wrong", reason) if reason else ("correct", "check passed")


def asserts(job: dict[str, Any], link: Link) -> tuple[str, str]:
    """MBPP: each test of the list, after the set-up, must raise nothing."""
    tests, setup = job["test_list"], job["setup"]
    try:
        codes = [compile(test, TESTS, "exec") for test in tests]
        before = compile(setup, TESTS, "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        return "unparseable_gold", f"a test is no Python: {error}"
    space: dict[str, Any] = {"__name__": "tests"}
    _loaded(job, link, space, _called(tests))
    if reason := _failure(link, before, space, setup):
        return "wrong", f"the tests' set-up failed: {reason}"
    for number, (test, code) in enumerate(zip(tests, codes, strict=True), 1):
        if reason := _failure(link, code, space, test):
            return "wrong", f"test {number} of {len(tests)}: {reason}"
    return "correct", f"{len(tests)} tests"


def _called(tests: list[str]) -> set[str]:
    """The functions that every test calls, but for Python's own where there are others: what is tested."""
    each = [
        {
            node.func.id
            for node in ast.walk(ast.parse(test))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        for test in tests
    ]
    common = set.intersection(*each) if each else set()
    return common - BUILTIN or common


def _loaded(job: dict[str, Any], link: Link, space: dict[str, Any], tested: set[str]) -> set[str]:
    """Have the program executed; put stand-ins for what it defined into `space`, where nothing trusted has the name.

    Modules that it imported are not taken from it: the tests get their own. Returns the names that it defined.
    """
    link.send(["load", job["program"], job["imports"]])
    match link.receive():
        case ["unparseable", str(said)]:
            link.stop("unparseable_answer", f"the program is no Python: {said}")
        case ["compiled"]:
            pass
        case _:
            link.nonsense()
    match link.receive():  # from here on the program can say what it likes
        case ["loaded", dict(found)]:
            defined = found
        case ["raised", _, _, str(said)]:
            link.stop("wrong", f"loading it raised {said}")
        case _:
            link.nonsense()
    for name, what in defined.items():
        if name not in tested and (name in space or name in BUILTIN or name == "check"):
            continue
        match what:
            case ["o", int(number), str()]:
                space[name] = Remote(link, number, name)
            case ["module", str(module)] if module in MODULES:
                space[name] = importlib.import_module(module)
    return set(defined)


def _failure(link: Link, code: Any, space: dict[str, Any], source: str) -> str:
    """Why a piece of the tests failed; empty if it did not."""
    link.last = ""
    try:
        exec(code, space)
    except Exception as error:  # noqa: BLE001  a failed test, of whatever kind
        return _why(error, source, link.last)
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        return f"the test raised {type(error).__name__}"
    return ""


def _why(error: Exception, source: str, last: str) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == TESTS]
    lines = source.splitlines()[(frames[-1].lineno or 1) - 1 : frames[-1].end_lineno] if frames else []
    line = " ".join(" ".join(lines).split())[:300]
    raised = getattr(error, "of_candidate", None)
    if raised:
        return f"{line}: {last} raised {raised}"
    name = type(error).__name__
    said = " ".join(str(error).split())[:200]
    told = f"{name}: {said}" if said and name != "AssertionError" else (said or "")
    return "; ".join(part for part in (line, last, told) if part) or name
