"""`transformers serve`, a real OpenAI-compatible server, with a tiny model on this machine's CPU.

It needs `pip install 'transformers[serving]'`, which the extra `train` does not bring. It is up after 3 to 4 seconds.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import tiny_model

MODEL = "tiny"
"""What the server calls the model: the name of its directory, below the one it is started in."""

PATIENCE = 120.0
"""Seconds until it must be up."""


class Server(NamedTuple):
    """A server that is up."""

    url: str
    """Up to /v1."""
    weights: Path
    """The directory of its model."""
    log: Path


@contextmanager
def serving(home: Path, taught: tiny_model.Taught | None = None) -> Iterator[Server]:
    """A server of a tiny model, whose files lie in `home` and which was `taught` these answers; stopped at the end.
    Skips where it is not installed."""
    command = Path(sys.executable).with_name("transformers")
    for module in ("torch", "transformers", "fastapi", "uvicorn", "openai"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'transformers[serving]'")
    weights, log = tiny_model.save(home / MODEL, taught=taught), home / "log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hub"), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            [command, "serve", MODEL, "--host", "127.0.0.1", "--port", "0", "--device", "cpu"],
            cwd=home,
            env=environment,
            stdout=out,
            stderr=out,
        )
    try:
        yield Server(f"{_address(server, log)}/v1", weights, log)
    finally:
        server.terminate()
        server.wait(30)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where it listens, as it says itself."""
    for _ in range(int(PATIENCE * 10)):
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text(errors="replace")):
            return found[1]
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-2_000:]}")
