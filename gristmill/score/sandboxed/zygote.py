"""The keeper and the zygote: `python -S -s -P -c "from sandboxed.zygote import main; main()" LIMITS JOBS LIFE PLACE`.

The keeper builds the sandbox, says over JOBS whether it could, forks the zygote and waits: for the end of LIFE, a pipe
whose other end only the parent has, or for the zygote's. Either way all processes beneath it are killed. The zygote
forks one run after the other, each ready before there is work for it: its checker waits for a job, its runner for the
checker. PLACE is the directory to work in where no sandbox is wanted, and empty otherwise.
"""

import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from . import isolation, roles, runner
from .channel import Channel
from .checker import MODULES

COSTLY = {"queue", "random", "statistics", "threading"}
"""Left to the programs that want them: each, or what it imports, does more after every fork than the fork costs."""


def main() -> None:
    """Keep a sandbox until the parent is gone."""
    bounds, place = json.loads(sys.argv[1]), sys.argv[4]
    limits, jobs, life = runner.Limits(*bounds)._replace(weak=bool(place)), int(sys.argv[2]), int(sys.argv[3])
    channel = Channel(socket.socket(fileno=jobs))
    for name in set(MODULES) - (set() if limits.weak else COSTLY):  # weak: `nobody` may not be able to read the library
        importlib.import_module(name)
    roles.prepare()
    try:
        if limits.weak:
            _weak(place)
        else:
            isolation.enter()
    except OSError as error:
        channel.send(["refused", str(error)])
        return
    isolation.hide()
    isolation.adopt()
    zygote = os.fork()
    if zygote == 0:
        isolation.die_with_parent()
        os.close(life)
        _zygote(limits, channel, place)
        os._exit(0)
    channel.end.close()
    _wait(life, zygote)
    with suppress(ProcessLookupError):
        os.kill(zygote, signal.SIGKILL)
    isolation.kill_beneath()
    if place:
        os.chdir("/")
        shutil.rmtree(place, ignore_errors=True)


def _weak(place: str) -> None:
    """No sandbox: a directory of its own, and nobody's rights where we have root's."""
    os.chdir(place)
    if os.getuid() == 0:
        isolation.become_nobody(place)


def _wait(life: int, zygote: int) -> None:
    poll = select.poll()
    poll.register(life, select.POLLIN)
    while not poll.poll(1000):
        if os.waitpid(zygote, os.WNOHANG)[0]:
            return


def _zygote(limits: runner.Limits, channel: Channel, place: str) -> None:
    isolation.adopt()
    gc.freeze()
    first = True
    while True:
        checker = os.fork()
        if checker == 0:
            try:
                _run(limits, channel, first)
            finally:
                os._exit(1)
        first = False
        status = os.waitpid(checker, 0)[1]
        isolation.kill_beneath()
        if limits.weak:
            _empty(place)
        if status:
            return


def _empty(place: str) -> None:
    for each in Path(place).iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)


def _run(limits: runner.Limits, channel: Channel, first: bool) -> None:
    """Fork the runner, then be the checker. The exit code is 1 when no more jobs will come."""
    isolation.die_with_parent()
    if not limits.weak:
        try:
            isolation.fresh(limits.disk)
        except OSError as error:
            channel.send(["refused", str(error)])
            raise
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        isolation.die_with_parent()
        roles.run(limits, theirs)
    theirs.close()
    roles.check(limits, channel, ours, first=first)
