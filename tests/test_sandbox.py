"""The sandbox: whatever a program tries, its verdict is the tests', it harms nothing, and nothing of it is left."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gristmill.errors import UsageError
from gristmill.score.sandbox import BUBBLEWRAP, NAMESPACES, NONE, Refused, Sandbox, Worker
from gristmill.score.sandboxed.runner import Limits

LIMITS = Limits(512 * 2**20, 4, 32, 16 * 2**20)
SECRET = 918273645
MODES = [NAMESPACES, *([BUBBLEWRAP] if shutil.which("bwrap") else []), NONE]


def _sandbox(mode: str) -> Sandbox:
    try:
        return Sandbox(LIMITS, 2, [mode])
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def strong() -> Sandbox:
    return _sandbox(NAMESPACES)


@pytest.fixture(scope="module", params=MODES)
def either(request: pytest.FixtureRequest) -> Sandbox:
    return _sandbox(request.param)


def job(program: str, *tests: str, deadline: float = 2.0) -> dict[str, Any]:
    listed = list(tests or [f"assert f(3) == {SECRET}"])
    text = textwrap.dedent(program)
    return {
        "style": "asserts",
        "program": [text],
        "deadline": deadline,
        "setup": "",
        "imports": "",
        "test_list": listed,
    }


def stdio(program: str, inputs: list[str], outputs: list[str], deadline: float = 2.0) -> dict[str, Any]:
    text = textwrap.dedent(program)
    return {"style": "stdio", "program": [text], "deadline": deadline, "inputs": inputs, "outputs": outputs}


CHEATS = {
    "exits before the tests": ("import sys; sys.exit(0)", "SystemExit"),
    "exits in the test": ("import sys\ndef f(x): sys.exit(0)", "SystemExit"),
    "ends its process": ("import os\ndef f(x): os._exit(0)", "exited with 0"),
    "ends its process while loaded": ("import os; os._exit(0)", "exited with 0"),
    "prints the marker": ("def f(x): print('correct', 'PASSED', 'OK'); return 0", "= 0"),
    "equals everything": (
        """
        class Any(int):
            __eq__ = lambda self, other: True
            __hash__ = int.__hash__
        def f(x): return Any(0)
        """,
        "f(3) = 0",
    ),
    "an object that equals everything": (
        """
        class Any:
            __eq__ = __ne__ = __lt__ = __contains__ = lambda self, other: True
        def f(x): return Any()
        """,
        "f(3) = an object of its own",
    ),
    "patches assert": (
        """
        import builtins
        class Never(BaseException): pass
        builtins.AssertionError = Never
        def f(x): return 0
        """,
        "f(3) = 0",
    ),
    "patches the comparison": (
        """
        import ctypes, sys, operator
        operator.eq = lambda a, b: True
        sys.modules['unittest'] = sys.modules['pytest'] = None
        def f(x): return 0
        """,
        "f(3) = 0",
    ),
    "looks for the tests in its memory": (
        """
        import gc, sys
        def f(x):
            frame = sys._getframe()
            while frame:
                for value in frame.f_locals.values():
                    if 'assert' in str(value): return int(str(value).split('==')[1])
                frame = frame.f_back
            for thing in gc.get_objects():
                try:
                    if isinstance(thing, (list, dict, tuple)) and 'assert f' in repr(thing)[:10000]:
                        return int(repr(thing).split('==')[1][:11])
                except Exception: pass
            return 0
        """,
        "f(3) =",
    ),
    "writes a verdict to every file it has open": (
        """
        import json, os
        def f(x):
            told = json.dumps(["correct", "3 tests"]).encode()
            for number in range(64):
                try: os.write(number, len(told).to_bytes(4, "big") + told)
                except OSError: pass
            os._exit(0)
        """,
        "what is no value",
    ),
    "speaks out of turn": (
        """
        import sys
        def f(x):
            frame = sys._getframe()
            while 'channel' not in frame.f_locals: frame = frame.f_back
            channel = frame.f_locals['channel']
            channel.send(["ended", 0])
            channel.send(["correct", ""])
        """,
        "exited with 0",
    ),
    "says that it is no program": (
        """
        import sys
        frame = sys._getframe()
        while 'channel' not in frame.f_locals: frame = frame.f_back
        frame.f_locals['channel'].send(["unparseable", "x"])
        """,
        "what is no value",
    ),
    "says that it could not be started": (
        """
        import sys
        frame = sys._getframe()
        while 'channel' not in frame.f_locals: frame = frame.f_back
        frame.f_locals['channel'].send(["failed", "x"])
        """,
        "what is no value",
    ),
    "says that it defines what cannot be": (
        """
        import sys
        frame = sys._getframe()
        while 'channel' not in frame.f_locals: frame = frame.f_back
        frame.f_locals['channel'].send(["loaded", {"f": ["o", None], "g": 5, "h": ["module", "nothing"]}])
        """,
        "NameError",
    ),
    "answers with nests": (
        """
        import sys
        def f(x):
            frame = sys._getframe()
            while 'channel' not in frame.f_locals: frame = frame.f_back
            nest = b'[' * 10**6 + b']' * 10**6
            frame.f_locals['channel'].end.sendall(len(nest).to_bytes(4, "big") + nest)
        """,
        "",
    ),
    "answers with a huge number": ("def f(x): return 1 << 10**7", ""),
    "raises at the end of the world": (
        """
        import atexit, os
        atexit.register(lambda: os.write(1, b'correct'))
        def f(x):
            try: return 0
            finally: raise SystemExit(0)
        """,
        "SystemExit",
    ),
    "breaks memory": ("import ctypes\ndef f(x): ctypes.string_at(1)", "signal 11"),
    "recurses without end": ("def f(x): return f(x)", "RecursionError"),
    "fills memory": ("def f(x):\n    return len(bytearray(2**32))", "MemoryError"),
    "fills memory slowly": ("def f(x):\n    kept = []\n    while True: kept.append(bytearray(2**24))", "MemoryError"),
}


@pytest.mark.parametrize("name", CHEATS)
def test_no_trick_makes_a_wrong_program_right(either: Sandbox, name: str) -> None:
    program, said = CHEATS[name]
    (verdict,) = either.run([job(program)])
    assert verdict[0] == "wrong", verdict
    assert said in verdict[1]


REACHES = {
    "fills the disk": "open('big', 'wb').write(bytes(2**25))",
    "fills the disk with many": "[open(str(n), 'wb').write(bytes(2**22)) for n in range(20)]",
    "opens a socket": "__import__('socket').create_connection(('127.0.0.1', 80), 1)",
    "asks the network cards": "__import__('socket').socket(16, 3, 0)",
    "reads processes": "open('/proc/1/environ', 'rb').read()",
    "reads its own memory": "open('/proc/self/mem', 'rb').read(1)",
    "reads passwords": "open('/etc/passwd').read()",
    "finds where we are": f"open({str(Path(__file__))!r}).read()",
    "starts a shell": "__import__('subprocess').run(['/bin/sh', '-c', 'true'], check=True)",
    "changes the library": "open(__import__('os').__file__, 'a').write('')",
    "makes a directory outside": "__import__('os').mkdir('/owned')",
    "writes where others look": "open('/tmp/owned', 'w').write('')",
    "becomes root": "__import__('os').setuid(0)",
    "kills its parent": "__import__('os').kill(__import__('os').getppid() or 10**6, 9) or 1 / 0",
    "kills another": "__import__('os').kill(2**22 - 1, 9)",
    "makes namespaces": "libc.unshare(0x10000000) == 0 or 1 / 0",
    "mounts": "libc.mount(b'none', b'/work', b'tmpfs', 0, 0) == 0 or 1 / 0",
    "changes its root": "__import__('os').chroot('/work')",
    "traces": "libc.ptrace(16, 1, 0, 0) == 0 or 1 / 0",
    "takes shared memory": "libc.shmget(1, 4096, 0o1777) >= 0 or 1 / 0",
    "takes nameless memory": "__import__('os').memfd_create('x')",
    "raises a limit": "__import__('resource').setrlimit(7, (10**5, 10**5))",
    "forks": "__import__('os').fork() or __import__('time').sleep(600)",
    "spawns": "__import__('os').posix_spawn('/work', ['x'], {})",
    "makes threads without end": (
        "[__import__('threading').Thread(target=lambda: __import__('time').sleep(9)).start() for _ in range(99)]"
    ),
    "sees the environment": "1 / len(__import__('os').environ)",
}


@pytest.mark.parametrize("name", REACHES)
def test_no_program_reaches_beyond_its_own_place(strong: Sandbox, name: str) -> None:
    program = f"import ctypes\nlibc = ctypes.CDLL(None)\ndef f(x):\n    {REACHES[name]}\n    return {SECRET}\n"
    verdict, why = strong.run([job(program)])[0]
    assert verdict == "wrong" and "raised" in why, (verdict, why)
    assert strong.run([job(f"def f(x): return {SECRET}")])[0][0] == "correct"


STALLS = {
    "sleeps": "__import__('time').sleep(60)",
    "spins": "exec('while True: pass')",
    "stops itself": "__import__('os').kill(__import__('os').getpid(), 19)",
    "one long operation": "9**9**9",
    "sleeps where nothing is heard": (
        "[__import__('signal').signal(n, 1) for n in (1, 2, 3, 15)] and __import__('time').sleep(60)"
    ),
}


@pytest.mark.parametrize("name", STALLS)
def test_no_program_outlives_its_deadline(strong: Sandbox, name: str) -> None:
    began = time.monotonic()
    answers = strong.run([job(f"def f(x): {STALLS[name]}", deadline=0.5), job(f"def f(x): return {SECRET}")])
    assert [word for word, _ in answers] == ["timeout", "correct"]
    assert time.monotonic() - began < 20


def test_a_test_that_hangs_is_ended_from_outside(strong: Sandbox) -> None:
    answers = strong.run([job("def f(x): return 1", "while True: pass", deadline=0.3)])
    assert answers[0][0] == "timeout"
    assert strong.run([job("def f(x): return 1", "assert f(1)")])[0][0] == "correct"


def test_a_test_that_catches_everything_still_ends(strong: Sandbox) -> None:
    test = "for _ in range(10**9):\n    try:\n        f(1)\n    except:\n        pass"
    assert strong.run([job("import os\ndef f(x): os._exit(0)", test)])[0][0] == "wrong"


def test_printing_without_end_costs_nothing(either: Sandbox) -> None:
    assert either.run([job(f"def f(x):\n    print('x' * 10**7)\n    return {SECRET}")])[0][0] == "correct"


def test_what_one_run_leaves_no_other_finds(either: Sandbox) -> None:
    writes = "open('left', 'w').write('1')\nimport random\nrandom.seen = 1\ndef f(x): return 1"
    reads = "import os, random\ndef f(x): return (os.listdir('.'), hasattr(random, 'seen'))"
    for _ in range(3):
        assert either.run([job(writes, "assert f(1)")])[0][0] == "correct"
        assert either.run([job(reads, "assert f(1) == ([], False)")])[0] == ("correct", "1 tests")


def test_programs_may_use_threads(either: Sandbox) -> None:
    program = """
        import threading
        def f(x):
            found = []
            threads = [threading.Thread(target=found.append, args=(n,)) for n in range(8)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            return len(found)
    """
    assert either.run([job(program, "assert f(1) == 8")])[0] == ("correct", "1 tests")


def test_threads_share_a_sandbox(either: Sandbox) -> None:
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        jobs = [job(f"def f(x): return x + {number}", f"assert f({n}) == {n + 1}") for n in range(6)]
        found[number] = [word for word, _ in either.run(jobs)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: ["correct" if n == 1 else "wrong"] * 6 for n in range(8)}


def test_a_worker_that_was_killed_is_replaced(either: Sandbox) -> None:
    either.run([job("def f(x): return 1")] * 4)
    for process in _beneath(os.getpid()):
        with suppress(ProcessLookupError):  # they end with each other
            os.kill(process, signal.SIGKILL)
    assert either.run([job("def f(x): return 1", "assert f(1)")] * 4) == [("correct", "1 tests")] * 4


KEEPS = """
import sys
from gristmill.score.sandbox import Sandbox
from gristmill.score.sandboxed.runner import Limits
box = Sandbox(Limits(512 * 2**20, 60, 32, 2**24), 2, [sys.argv[1]])
job = {"style": "asserts", "program": ["import time\\ndef f(x): time.sleep(x)"], "deadline": 60.0, "setup": "",
       "imports": "", "test_list": ["f(0)", "f(50)"]}
print("up", flush=True)
box.run([job, job])
"""


@pytest.mark.parametrize("mode", MODES)
def test_nothing_outlives_a_parent_that_is_killed(mode: str) -> None:
    _sandbox(mode).close()
    before = set(Path("/tmp").glob("gristmill-weak-*"))
    parent = subprocess.Popen([sys.executable, "-c", KEEPS, mode], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
    while len(beneath := _beneath(parent.pid)) < 8:
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    waited = time.monotonic() + 20
    while alive := [each for each in beneath if _runs(each)]:
        assert time.monotonic() < waited, alive
        time.sleep(0.02)
    assert set(Path("/tmp").glob("gristmill-weak-*")) <= before


def test_no_sandbox_is_one_line_that_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Refused("unshare 0x10000000: Operation not permitted")

    monkeypatch.setattr(Worker, "__init__", refuse)
    with pytest.raises(UsageError, match=r"not permitted.*--allow-weak-sandbox") as error:
        Sandbox(LIMITS, 1, [NAMESPACES])
    assert "\n" not in str(error.value)


def _beneath(pid: int) -> list[int]:
    """The processes that descend from one, nearest first."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, thread.read_text().split()):
            found += [child, *_beneath(child)]
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


GREETS = "name = input()\nprint('hello', name)\nprint('bye')"


@pytest.mark.parametrize(
    ("program", "expected", "word", "said"),
    [
        (GREETS, "hello you\nbye\n", "correct", ""),
        (GREETS, "hello you  \nbye\n\n", "correct", ""),
        (GREETS, "hello you\n", "wrong", "expected 'hello you"),
        (GREETS, "hello you\nbye\nmore", "wrong", "expected"),
        (GREETS, "hello  you\nbye", "wrong", ""),
        ("print('hello you')", "hello you\nbye", "wrong", "printed 'hello you"),
        ("print('hello you\\nbye'); raise SystemExit(3)", "hello you\nbye", "wrong", "exited with 3"),
        ("print('hello you\\nbye'); exit()", "hello you\nbye", "correct", ""),
        ("if __name__ == '__main__':\n    print('1')", "1", "correct", ""),
        ("import sys\nprint(sum(map(ord, sys.stdin.read())))", "349", "correct", ""),
        ("import os\nos.write(1, open(0).read().encode())", "you", "correct", ""),
        ("print(open('/dev/stdin').read())", "you", "correct", ""),
        ("import threading\nthreading.Thread(target=lambda: print('you')).start()", "you", "correct", ""),
        (
            "import io, sys\nout, sys.stdout = sys.stdout, io.StringIO()\nprint('x')\nout.write('you')",
            "you",
            "correct",
            "",
        ),
        ("out = open(1, 'w')\nout.write('you')", "you", "correct", ""),
        ("import atexit\natexit.register(print, 'you')\n1 / 0", "you", "wrong", "exited with 1: ZeroDivisionError"),
        (
            "import sys\nsys.stderr.write('SyntaxError: no')\nsys.exit(1)",
            "x",
            "wrong",
            "exited with 1: SyntaxError: no",
        ),
        ("raise SystemExit('sorry')", "", "wrong", "exited with 1: sorry"),
        ("print('x' * 10**7)", "x", "wrong", "more than is looked at"),
        ("while True: print('x' * 10**6)", "x", "wrong", ""),
        ("1 / 0", "x", "wrong", "ZeroDivisionError: division by zero (line 1)"),
        ("print(1", "x", "unparseable_answer", "never closed"),
        ("print(1)\nimport os\nos.kill(os.getpid(), 11)", "1", "wrong", "signal 11"),
        ("import sys\nsys.stdout.buffer.write(b'\\xff')", "\ufffd", "correct", ""),
        ("import sys\nsys.stdout.write('1'); sys.stdout.close()", "1", "correct", ""),
    ],
)
def test_the_whole_output_is_compared(strong: Sandbox, program: str, expected: str, word: str, said: str) -> None:
    verdict, why = strong.run([stdio(program, ["you"], [expected])])[0]
    assert verdict == word and said in why, (verdict, why)


def test_each_input_has_a_process_and_the_first_failure_is_named(strong: Sandbox) -> None:
    program = "try:\n    open('seen').read(); print('again')\nexcept OSError:\n    open('seen', 'w')\nprint(input())"
    assert strong.run([stdio("print(input())", ["1", "2"], ["1", "2"])])[0] == ("correct", "2 tests")
    verdict, why = strong.run([stdio("print(1)", ["1", "2"], ["1", "2"])])[0]
    assert verdict == "wrong" and why.startswith("test 2 of 2: printed '1\\n'")
    assert strong.run([stdio(program, ["1"], ["1"])])[0][0] == "correct"
