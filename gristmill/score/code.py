"""`code`: whether a Python program does what its tests say. The tests run in a sandbox (`sandbox.py`).

The reference is JSON: {prompt, test, entry_point} as HumanEval has them, {test_list, test_setup_code} as MBPP, or
{inputs, outputs} for programs that read standard input and print. The verdicts are `correct` and `wrong`, which are
numbers, and `unparseable_answer`, `unparseable_gold`, `timeout`, `crash`, which are none. A program that exits, is
killed, or takes more memory than it may is `wrong`; `crash` is said only of the sandbox.

Not covered: other languages, packages, several files.
"""

import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from gristmill.errors import UsageError
from gristmill.score.sandbox import NONE, STRONG, shared
from gristmill.score.sandboxed.runner import Limits
from gristmill.score.score import Item, Score, Verdict, each

FENCE = re.compile(r"^([ \t]*)```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
PYTHON = frozenset({"", "python", "python3", "py", "py3"})
CALLED = re.compile(r"(\w+)\s*\(")
IMPORT = re.compile(r"^(?:import|from)\s.*", re.MULTILINE)
VALUES = {"correct": 1.0, "wrong": 0.0}

VERSION = f"1 on Python {sys.version_info.major}.{sys.version_info.minor}"

THREADS, DISK_MB = 32, 16


def code(*, deadline: float = 5, memory: int = 1024, weak: bool = False, workers: int | None = None) -> Score:
    """Whether a program passes its tests.

    `deadline` in seconds an item, `memory` in MiB of address space; `workers` run at once, by default as many as there
    are processors. With `weak` programs are run with less than a sandbox where there is none. Raises UsageError where
    there is none and that is not allowed, and for a setting that cannot be.
    """
    if not 0 < deadline <= 3600 or not 64 <= memory <= 2**20:
        raise UsageError(f"score code,deadline={deadline},memory={memory}: allowed are 0 to 3600 s, 64 MiB and more")
    limits = Limits(memory * 2**20, int(deadline) + 2, THREADS, DISK_MB * 2**20)
    modes = (*STRONG, NONE) if weak else STRONG
    count = workers or os.cpu_count() or 1
    isolation = shared(limits, count, modes).isolation
    judge = partial(_judge, (limits, count, (isolation,)), deadline)
    parameters = {"deadline": deadline, "memory": memory, "isolation": isolation}
    return Score("code", VERSION, judge, parameters, gold=partial(each, _gold))


def _gold(item: Item) -> Verdict:
    """Whether a reference holds tests; they are not run, for there is no program."""
    try:
        _tests(item.reference)
    except ValueError as error:
        return Verdict(None, "unparseable_gold", str(error))
    return Verdict(1.0, "correct")


def _judge(settings: tuple[Limits, int, tuple[str, ...]], deadline: float, items: Sequence[Item]) -> list[Verdict]:
    jobs = [job(item, deadline) for item in items]
    answers = iter(shared(*settings).run([each for each in jobs if isinstance(each, dict)]))
    return [each if isinstance(each, Verdict) else _verdict(*next(answers)) for each in jobs]


def _verdict(word: str, why: str) -> Verdict:
    return Verdict(VALUES.get(word), word, why)


def job(item: Item, deadline: float) -> dict[str, Any] | Verdict:
    """What a worker is asked for an item, or the verdict where there is nothing to ask."""
    try:
        tests = _tests(item.reference)
    except ValueError as error:
        return Verdict(None, "unparseable_gold", str(error))
    wanted = {tests["entry_point"]} if "test" in tests else set(CALLED.findall("\n".join(tests.get("test_list", ()))))
    found = extract(item.response or "", wanted)
    if not found.strip():
        return Verdict(None, "unparseable_answer", "the response has no code")
    asked: dict[str, Any] = {"deadline": deadline, "program": [found], "imports": ""}
    if "test" in tests:
        prompt, entry = tests["prompt"], tests["entry_point"]
        whole = f"{prompt}\n    pass\n\n{found}" if _defines(found, entry) else prompt + found
        trusted = f"{prompt}\n    pass\n"
        asked |= {"style": "check", "program": [whole, found], "trusted": trusted}
        return asked | {"test": tests["test"], "entry_point": entry}
    if "test_list" in tests:
        setup = "\n".join([*tests["test_imports"], tests["test_setup_code"]])
        imports = "\n".join(IMPORT.findall(setup))
        return asked | {"style": "asserts", "setup": setup, "imports": imports, "test_list": tests["test_list"]}
    return asked | {"style": "stdio", "inputs": tests["inputs"], "outputs": tests["outputs"]}


STYLES: Sequence[Mapping[str, type]] = (
    {"test": str, "entry_point": str, "prompt": str},
    {"test_list": list, "test_setup_code": str, "test_imports": list},
    {"inputs": list, "outputs": list},
)
"""The fields that make each style of reference."""


LEFT_OUT: Mapping[str, Any] = {"prompt": "", "test_setup_code": "", "test_imports": []}


def _tests(reference: str | None) -> dict[str, Any]:
    """The reference, checked. Raises ValueError that says what is wrong with it."""
    try:
        given = orjson.loads(reference or "")
    except orjson.JSONDecodeError:
        raise ValueError("the reference is no JSON") from None
    if not isinstance(given, dict):
        raise ValueError("the reference is no JSON object")
    tests: dict[str, Any] = {**LEFT_OUT, **{name: value for name, value in given.items() if value is not None}}
    if isinstance(tests.get("inputs"), str) and isinstance(tests.get("outputs"), str):
        tests |= {"inputs": [tests["inputs"]], "outputs": [tests["outputs"]]}
    style = next((each for each in STYLES if each.keys() <= tests.keys()), None)
    if style is None:
        raise ValueError("the reference has neither test and entry_point, nor test_list, nor inputs and outputs")
    for name, kind in style.items():
        value = tests[name]
        texts = value if isinstance(value, list) else [value]
        if type(value) is not kind or not all(isinstance(each, str) for each in texts):
            raise ValueError(f"the reference's {name} is {'no text' if kind is str else 'no list of texts'}")
    if not tests.get("test_list", True) or not tests.get("inputs", True):
        raise ValueError("the reference has no test")
    if "inputs" in style and len(tests["inputs"]) != len(tests["outputs"]):
        raise ValueError(f"{len(tests['inputs'])} inputs and {len(tests['outputs'])} outputs")
    return tests


def extract(response: str, wanted: Collection[str] = ()) -> str:
    """The program in a response: the last block fenced as Python, or else as nothing in particular; if functions are
    `wanted`, the last that defines one. The whole response where there is no block.

    What comes before `</think>` is left out; a block that is not closed goes to the end, and one that is indented as a
    whole loses that.
    """
    text = response.rpartition("</think>")[2]
    blocks: dict[bool, list[str]] = {True: [], False: []}
    for indent, language, body in FENCE.findall(text):
        if language.lower() in PYTHON:
            blocks[language != ""].append(re.sub(rf"^[ \t]{{0,{len(indent)}}}", "", body, flags=re.MULTILINE))
    found = blocks[True] or blocks[False] or [text]
    return next((body for body in reversed(found) if any(_defines(body, name) for name in wanted)), found[-1])


def _defines(program: str, name: str) -> bool:
    return bool(
        re.search(rf"^(?:(?:async\s+)?def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", program, re.MULTILINE)
    )
