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
from gristmill.run import Run

NAMES = ("filtering", "countering")


def tried(out: Path, seed: int) -> dict[str, Row]:
    """What `filtering` and `countering` found with a seed, by these names; steps are told on stderr as they begin.

    All that was in `out` is deleted first: the figures are those of the day.
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
