"""Which of Daft's two runners the process uses; one runner a process, chosen before the first table."""

from importlib.util import find_spec

import daft

from gristmill.errors import UsageError


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
