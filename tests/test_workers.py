"""Workers: every item has an outcome, in order, whatever it does to the worker, and nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill.score import workers
from gristmill.score.workers import Outcome, Workers

JOBS = "tests.worker_jobs"


@pytest.fixture
def two() -> Iterator[Workers]:
    made = Workers(2)
    yield made
    made.close()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3] if Path("/proc").exists() else True


def wait_for(happened: object, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_outcomes_come_in_the_order_of_the_items(two: Workers) -> None:
    items = [0.2, 0.0, 0.1, 0.0]
    assert two.outcomes(f"{JOBS}:sleep", items) == [Outcome("done", each) for each in items]
    assert two.outcomes(f"{JOBS}:echo", []) == []


def test_a_late_item_is_a_timeout_and_holds_up_no_other(two: Workers) -> None:
    started = time.monotonic()
    got = two.outcomes(f"{JOBS}:power", [1, 9, 1, 1, 1], deadline=1.5)
    assert [each.kind for each in got] == ["done", "timeout", "done", "done", "done"]
    assert time.monotonic() - started < 30
    assert two.outcomes(f"{JOBS}:echo", ["next"])[0].value == "next"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raise", "ValueError: two lines"),
        ("exit", "exit code 3"),
        ("segfault", "SIGSEGV"),
        ("stop", "SystemExit"),
        ("memory", "MemoryError"),
        ("unserialisable", "TypeError"),
    ],
)
def test_a_worker_that_breaks_is_a_crash_with_its_reason(two: Workers, what: str, said: str) -> None:
    got = two.outcomes(f"{JOBS}:do", ["fine", what, "fine"])
    assert [each.kind for each in got] == ["done", "crash", "done"]
    assert said in got[1].value and "\n" not in got[1].value


def test_what_an_item_prints_does_not_garble_the_answers(two: Workers) -> None:
    assert two.outcomes(f"{JOBS}:do", ["print", "fine"]) == [Outcome("done", "print"), Outcome("done", "fine")]


def test_a_function_that_is_not_there_is_a_crash_that_says_so(two: Workers) -> None:
    (got,) = two.outcomes(f"{JOBS}:nothing", [1])
    assert got.kind == "crash" and "cannot load" in got.value
    (got,) = two.outcomes("no.such:module", [1])
    assert got.kind == "crash" and "ModuleNotFoundError" in got.value
    assert two.outcomes(f"{JOBS}:echo", [1]) == [Outcome("done", 1)]


def test_a_function_is_there_again_after_one_that_was_not() -> None:
    one = Workers(1)
    assert one.outcomes(f"{JOBS}:echo", [1]) == [Outcome("done", 1)]
    assert one.outcomes(f"{JOBS}:nothing", [1])[0].kind == "crash"
    assert one.outcomes(f"{JOBS}:echo", [2]) == [Outcome("done", 2)]
    one.close()


def test_a_worker_that_died_while_it_was_idle_is_replaced(two: Workers) -> None:
    pids = {each.value for each in two.outcomes(f"{JOBS}:do", ["pid"] * 20)}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not any(map(is_running, pids)))
    after = two.outcomes(f"{JOBS}:do", ["pid"] * 20)
    assert {each.kind for each in after} == {"done"} and not pids & {each.value for each in after}


def test_items_need_not_be_valid_unicode(two: Workers) -> None:
    assert two.outcomes(f"{JOBS}:echo", ["\ud800\x00"]) == [Outcome("done", "\ud800\x00")]


def test_keys_in_the_environment_stay_with_the_parent(two: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_API_KEY", "secret")
    (got,) = two.outcomes(f"{JOBS}:do", ["environment"])
    assert "GRISTMILL_API_KEY" not in got.value


def test_thirty_two_threads_share_the_workers(two: Workers) -> None:
    results: dict[int, list[Outcome]] = {}
    barrier = threading.Barrier(32)

    def work(number: int) -> None:
        barrier.wait()
        what = f"{JOBS}:echo" if number % 8 else f"{JOBS}:do"
        results[number] = two.outcomes(what, [f"{number}.{n}" for n in range(5)] + (["exit"] if number == 8 else []))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 32
    for number, got in results.items():
        assert [each.value for each in got[:5]] == [f"{number}.{n}" for n in range(5)]
    assert results[8][5].kind == "crash"


def test_they_serve_asyncio_from_threads(two: Workers) -> None:
    async def both() -> list[list[Outcome]]:
        asked = [asyncio.to_thread(two.outcomes, f"{JOBS}:echo", [n]) for n in range(4)]
        return await asyncio.gather(*asked)

    assert asyncio.run(both()) == [[Outcome("done", n)] for n in range(4)]


def test_no_process_is_left_when_they_are_closed_or_killed(two: Workers) -> None:
    pids = {each.value for each in two.outcomes(f"{JOBS}:do", ["pid"] * 20)}
    assert len(pids) <= 2
    assert two.outcomes(f"{JOBS}:do", ["exit", "segfault"])[0].kind == "crash"
    pids |= {each.value for each in two.outcomes(f"{JOBS}:do", ["pid"] * 20)}
    two.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)  # a zombie could still be signalled


def test_a_worker_is_replaced_after_so_many_items(two: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ITEMS_A_WORKER", 3)
    pids = [each.value for each in two.outcomes(f"{JOBS}:do", ["pid"] * 9)]
    assert max(map(pids.count, pids)) <= 3


PARENT = """
import os, sys, threading
from gristmill.score.workers import Workers, outcomes
threading.Thread(target=outcomes, args=("tests.worker_jobs:leave_a_trace", [sys.argv[1]]), kwargs={"deadline": 2.0},
                 daemon=True).start()
idle = Workers(1)
print(idle.outcomes("tests.worker_jobs:do", ["pid"])[0].value, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX")
def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    trace = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(trace)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    assert parent.stdout is not None
    idle = int(parent.stdout.readline())
    assert wait_for(lambda: trace.exists() and trace.read_text())
    busy = int(trace.read_text())
    parent.kill()
    parent.communicate()
    assert wait_for(lambda: not is_running(idle))
    assert wait_for(lambda: not is_running(busy))


def test_a_script_need_not_guard_its_main_and_ends_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from gristmill.score.workers import outcomes
            print([each.value for each in outcomes("tests.worker_jobs:echo", [1, 2])])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_its_own() -> None:
    """As a data loader's worker does that a trainer forks."""
    before = workers.outcomes(f"{JOBS}:do", ["pid"])[0].value
    child = os.fork()
    if not child:
        code = 1
        try:
            mine = workers.outcomes(f"{JOBS}:do", ["pid"])[0].value
            code = 0 if mine != before else 2
        finally:
            workers.close()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert workers.outcomes(f"{JOBS}:do", ["pid"])[0].value == before


def test_shared_workers_that_were_closed_start_again() -> None:
    before = workers.outcomes(f"{JOBS}:do", ["pid"])[0].value
    workers.close()
    assert not is_running(before)
    assert workers.outcomes(f"{JOBS}:do", ["pid"])[0].value != before
