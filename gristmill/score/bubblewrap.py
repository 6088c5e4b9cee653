"""The two processes of a run behind bubblewrap, for machines whose kernel gives namespaces to it alone.

Where ordinary processes may make namespaces of their own, the zygote makes them (`sandboxed/`), which costs a fork and
not the start of two interpreters. https://github.com/containers/bubblewrap; options of version 0.8.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

from gristmill.score.sandboxed.isolation import DEVICES, STDIN, WORK
from gristmill.score.sandboxed.runner import Limits

NAME = "bubblewrap"
PACKAGE = Path(__file__).parent / "sandboxed"
BOOT = "import sys; sys.path.append({!r}); from sandboxed.{} import main; main()"
VISIBLE = "import sys; sys.path.append({!r}); from sandboxed.isolation import visible; print(*visible(), sep='\\n')"
"""Behind the library's own path: `math` and `code` are modules beside `sandboxed` too."""
PYTHON = ("-S", "-s", "-P", "-B", "-c")
"""No site packages, no path of the user's or of the current directory, no compiled files."""


def start(limits: Limits, jobs: socket.socket) -> list[subprocess.Popen[bytes]]:
    """Start a checker that answers one job over `jobs`, and the runner it needs. OSError where there is no bwrap.

    They are killed when the thread that calls this ends.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return [
            started(_inside("checker", limits, jobs, ours), (jobs.fileno(), ours.fileno())),
            started(_inside("runner", limits, theirs), (theirs.fileno(),)),
        ]


def program(module: str, arguments: list[str], *, python: str = sys.executable, package: Path = PACKAGE) -> list[str]:
    """The command that starts a module of the sandbox's."""
    return [python, *PYTHON, BOOT.format(str(package.parent), module), *arguments]


def started(command: list[str], passed: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """A process with these files open and nothing of this one's environment."""
    return subprocess.Popen(
        command,
        pass_fds=passed,
        env={"PYTHONHASHSEED": "0", "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _inside(role: str, limits: Limits, *ends: socket.socket) -> list[str]:
    home = Path("/gristmill/sandboxed")
    arguments = [role, json.dumps(limits), *(str(end.fileno()) for end in ends)]
    return [*_bwrap(limits.disk, str(home)), *program("roles", arguments, python=_python(), package=home)]


@cache
def _bwrap(disk: int, home: str) -> list[str]:
    found = shutil.which("bwrap")
    if found is None:
        raise OSError("no bwrap in PATH")
    shown = subprocess.run(
        [sys.executable, *PYTHON, VISIBLE.format(str(PACKAGE.parent))], capture_output=True, text=True, check=True
    ).stdout.split("\n")[:-1]
    binds = [each for path in [*shown, _python()] for each in ("--ro-bind", path, path)]
    links = [link for link in ("/lib", "/lib64") if Path(link).is_symlink()]
    symlinks = [each for link in links for each in ("--symlink", str(Path(link).readlink()), link)]
    symlinks += ["--symlink", f"{WORK}/{STDIN}", "/dev/stdin"]
    devices = [each for device in DEVICES for each in ("--dev-bind", device, device)]
    return [
        *(found, "--unshare-user", "--unshare-all", "--die-with-parent", "--as-pid-1", "--new-session"),
        *("--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"),
        *(*symlinks, "--ro-bind-try", "/usr/lib64", "/usr/lib64", *binds, *devices),
        *("--ro-bind", str(PACKAGE), home, "--size", str(disk), "--tmpfs", WORK, "--remount-ro", "/"),
        *("--chdir", WORK, "--"),
    ]


def _python() -> str:
    return str(Path(sys.executable).resolve())
