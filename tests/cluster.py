"""A Ray cluster of two nodes on this machine: `python -m tests.cluster [MIB]` prints its address, and ends with stdin.

Each node is a raylet of its own with one CPU and an object store of MIB MiB (200). Every port is one that was free, the
sockets and logs lie in a temporary directory, and no other cluster of the machine is found, joined or stopped. The
nodes go when stdin is closed, which also happens when the process that asked for them is killed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "DO_NOT_TRACK": "1",
}
"""Of the nodes and of every process that joins them: a token of their own, and nothing told to anyone."""


@contextmanager
def two_nodes(*, mib: int = 200) -> Iterator[str]:
    """The address of a cluster of two nodes that live as long as the block."""
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-m", "tests.cluster", str(mib)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = next((line for line in process.stdout if line.startswith("address ")), None)
            assert address, "Ray did not start"
            yield address.split()[1]
        finally:
            process.stdin.close()
            process.wait(60)


def main() -> None:
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with TemporaryDirectory(prefix="gm-", dir="/tmp", ignore_cleanup_errors=True) as folder:  # a socket's path is short
        os.environ["RAY_TMPDIR"] = folder
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        store = mib << 20
        for _ in range(2):
            cluster.add_node(
                num_cpus=1, object_store_memory=store, include_dashboard=False, dashboard_agent_listen_port=None
            )
        sys.stdout.write(f"address {cluster.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
        cluster.shutdown()


if __name__ == "__main__":
    main()
