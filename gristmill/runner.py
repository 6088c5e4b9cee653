"""Which of Daft's two runners the process uses; one runner a process, chosen before the first table."""

import daft

from gristmill.errors import UsageError


def use_runner(name: str) -> None:
    """Run tables here (`native`), or on Ray: `ray` starts or finds a cluster, `ray:ADDRESS` joins that one."""
    kind, _, address = name.partition(":")
    if kind == "native" and not address:
        daft.set_runner_native()
    elif kind == "ray":
        try:
            import ray  # noqa: F401 (only to say what to install)
        except ImportError:
            raise UsageError(f"--runner {name}: Ray is not installed; pip install 'gristmill[ray]'") from None
        daft.set_runner_ray(address or None)
    else:
        raise UsageError(f"--runner {name}: allowed are native, ray and ray:ADDRESS")
