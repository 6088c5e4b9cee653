"""Programs a second through the sandbox: `python bench/sandbox_speed.py [RUNS]`; exits 1 if the target is missed.

Each run is a fresh process in fresh namespaces: a small MBPP task, a program that reads and prints, HumanEval's own
solutions. For comparison a bare interpreter a run, without any isolation. All cores; CPU time is that of the workers.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from data import rows, table

from gristmill.score.code import job
from gristmill.score.sandbox import Sandbox
from gristmill.score.sandboxed.runner import Limits
from gristmill.score.score import Item

TARGET = 60
LIMITS = Limits(512 * 2**20, 7, 32, 16 * 2**20)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    tests = json.dumps({"test_list": [f"assert square({n}) == {n * n}" for n in (2, 3, 4)]})
    own = [
        Item(row["canonical_solution"], json.dumps({key: row[key] for key in ("prompt", "test", "entry_point")}))
        for row in rows("humaneval/HumanEval")
    ]
    sets = {
        "three asserts": [Item("def square(x):\n    return x * x", tests)] * count,
        "standard input and output": [Item("print(int(input()) ** 2)", '{"inputs": "3", "outputs": "9"}')] * count,
        "HumanEval's own solutions": own * (count // len(own) + 1),
    }
    lines = [measured(name, len(items), lambda items=items: sandboxed(items)) for name, items in sets.items()]
    bare = measured("a bare interpreter, no isolation", count, lambda: interpreters(count))
    table(
        ["runs of", "runs/s", "CPU ms a run"],
        [(name, f"{rate:.0f}", f"{cpu:.1f}") for name, rate, cpu in [*lines, bare]],
    )
    sys.exit(min(rate for _, rate, _ in lines) < TARGET)


def measured(name: str, count: int, work: Callable[[], None]) -> tuple[str, float, float]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    work()
    rate, after = count / (time.monotonic() - started), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return name, rate, 1000 * cpu / count


def sandboxed(items: list[Item]) -> None:
    sandbox = Sandbox(LIMITS, os.cpu_count() or 1)
    answers = sandbox.run([job(item, 5.0) for item in items])
    sandbox.close()
    assert {word for word, _ in answers} == {"correct"}, sandbox.isolation


def interpreters(count: int) -> None:
    command = [sys.executable, "-I", "-S", "-c", "import typing, math, re, collections"]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda _: subprocess.run(command, check=True), range(count)))


if __name__ == "__main__":
    main()
