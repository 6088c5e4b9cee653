"""Which of Daft's two runners the process uses, and how much it takes at a time.

One runner a process, chosen before the first table.
"""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec

import daft

from gristmill.errors import BadInput, GristmillError, UsageError
from gristmill.formats import one_line

ANSWERS_WITHIN = 10.0
"""Seconds in which the head of a cluster must answer."""
SHARED = "keep the run (--run DIR) on storage that every machine of the cluster has under the same path"
_GONE = re.compile(r"(/[^\n]+?)(?:: No such file or directory \(os error 2\)| not found$)", re.MULTILINE)
_ON_PURPOSE = {kind.__name__: kind for kind in (BadInput, UsageError)}

BATCH_ROWS = 8_192
"""Rows that pass through a plan at a time. Daft's own 131,072 take three times the memory, and a third more time,
because the arrays of a batch function leave the cache."""


def bounded() -> AbstractContextManager[object]:
    """A context in which Daft runs plans in small batches and reads no more files at once than there are cores."""
    return daft.execution_config_ctx(default_morsel_size=BATCH_ROWS, scantask_max_parallel=os.cpu_count() or 1)


def use_runner(name: str) -> None:
    """Run tables here (`native`), or on Ray: `ray` starts or finds a cluster, `ray:ADDRESS` joins that one."""
    kind, _, address = name.partition(":")
    if kind == "native" and not address:
        daft.set_runner_native()
    elif kind == "ray":
        if find_spec("ray") is None:
            raise UsageError(f"--runner {name}: Ray is not installed; pip install 'gristmill[ray]'")
        _join(name, address)
        daft.set_runner_ray()
    else:
        raise UsageError(f"--runner {name}: allowed are native, ray and ray:ADDRESS")


def _join(name: str, address: str) -> None:
    """Join a cluster; what its workers print stays in its logs, so that stderr is ours."""
    import ray

    if ray.is_initialized():
        return
    try:
        if ":" in address and "://" not in address:  # Ray itself tries for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), ANSWERS_WITHIN).close()
        ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise UsageError(f"--runner {name}: no Ray cluster can be joined there ({one_line(error)})") from error


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise again as itself what Gristmill raised on purpose in a task: engines wrap it and keep its text alone.

    A stored table that another machine does not have becomes a UsageError.
    """
    try:
        yield
    except Exception as error:  # Daft and Ray have many classes for it, Ray even one that derives from ours
        if type(error).__module__ == GristmillError.__module__:
            raise
        if found := re.search(rf"\b({'|'.join(_ON_PURPOSE)}): (.+)", str(error)):
            raise _ON_PURPOSE[found[1]](found[2].strip()) from error
        if found := _GONE.search(str(error)):
            raise UsageError(f"{found[1]}: not seen by a machine that reads it; {SHARED}") from error
        raise
