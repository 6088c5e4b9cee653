"""Which of Daft's two runners the process uses, and how much it takes at a time.

One runner a process, chosen before the first table.
"""

import os
from contextlib import AbstractContextManager
from importlib.util import find_spec

import daft

from gristmill.errors import UsageError

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
        daft.set_runner_ray(address or None)
    else:
        raise UsageError(f"--runner {name}: allowed are native, ray and ray:ADDRESS")
