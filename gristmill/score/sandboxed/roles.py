"""The two processes of a run, once they are where they belong: the checker and the runner.

Under the zygote both are forked from it; where bubblewrap makes the namespaces each is an interpreter of its own, for
one run, started as `python … -c "from sandboxed.roles import main; main()" ROLE LIMITS FD...`.
"""

import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from . import isolation, runner
from .channel import Channel, Closed
from .checker import verdict


def main() -> None:
    """Be the role that the command line names. Never returns."""
    role, bounds, *files = sys.argv[1:]
    limits, ends = runner.Limits(*json.loads(bounds)), [socket.socket(fileno=int(file)) for file in files]
    prepare()
    isolation.hide()
    if role == "runner":
        run(limits, ends[0])
    check(limits, Channel(ends[0]), ends[1], first=True)


def prepare() -> None:
    """Leave no trace of how this interpreter was started."""
    package = str(Path(__file__).parent.parent)
    sys.path[:] = [each for each in sys.path if each != package]
    sys.argv[:], sys.orig_argv[:] = [runner.FILE], []
    runner.add_exit()
    os.environ.clear()


def check(limits: runner.Limits, jobs: Channel, candidate: socket.socket, *, first: bool) -> NoReturn:
    """Be the checker: have one job, answer it, and end. The exit code is 1 when there is none.

    The `first` says that it is ready, which is that everything a run needs could be had.
    """
    if not limits.weak:
        isolation.drop()
    runner.confine(limits)
    link = Channel(candidate)
    try:
        link.receive()  # the runner is up
        if first:
            jobs.send(["ready"])
        job = jobs.receive()
    except Closed:
        os._exit(1)

    def stop(word: str, why: str) -> NoReturn:
        with suppress(Closed):
            jobs.send([word, why])
        os._exit(0)

    stop(*verdict(job, link, stop))


def run(limits: runner.Limits, checker: socket.socket) -> NoReturn:
    """Be the runner: have nothing open but the way to the checker, serve one request, and end."""
    try:
        os.closerange(3, checker.fileno())
        os.closerange(checker.fileno() + 1, 256)
        isolation.adopt()
        if not limits.weak:
            isolation.drop()
        channel = Channel(checker)
        channel.send(["up"])
        runner.serve(channel, limits)
    finally:
        os._exit(0)
