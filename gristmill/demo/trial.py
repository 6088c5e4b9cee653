"""Both claims tried at once, each in a process of its own: the embedded model computes on one core.

Not covered: more cores than two.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree

from gristmill.demo.arms import Row
from gristmill.errors import UsageError
from gristmill.ledger import FILE as LEDGER
from gristmill.run import Run

NAMES = ("filtering", "countering")


def check_out(out: Path, *, force: bool = False) -> None:
    """Raise UsageError for what is no directory that a demo wrote, since all that is in it is deleted."""
    if out.is_file():
        raise UsageError(f"{out}: a file, where the demo wants a directory; name another -o")
    if not force and out.is_dir() and any(out.iterdir()) and not (out / "run" / LEDGER).is_file():
        raise UsageError(f"{out}: holds files that the demo did not write; name another -o, or add --force")


def tried(out: Path, seed: int) -> dict[str, Row]:
    """What `filtering` and `countering` found with a seed, by these names; steps are told on stderr as they begin.

    All that was in `out` is deleted first (see `check_out`): the figures are those of the day.
    """
    rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    Run(out / "run")
    spawned = get_context("spawn")  # threads, which torch has, do not survive a fork
    with ProcessPoolExecutor(len(NAMES), mp_context=spawned) as pool:
        begun = [pool.submit(_tried, name, out, seed, time.time()) for name in NAMES]
        return {name: each.result() for name, each in zip(NAMES, begun, strict=True)}


def _tried(name: str, out: Path, seed: int, started: float) -> Row:
    from gristmill.demo.countering import countering  # these import torch
    from gristmill.demo.filtering import filtering

    def say(what: str) -> None:
        print(f"{time.time() - started:>4.0f} s  {what}", file=sys.stderr, flush=True)  # noqa: T201  beside the other

    place = out / name
    place.mkdir()
    trial = {"filtering": filtering, "countering": countering}[name]
    return trial(place, run=Run(out / "run"), seed=seed, say=say)
