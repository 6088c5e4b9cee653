"""Peers in environments of their own, below `.bench/`."""

import subprocess
import venv
from collections.abc import Sequence

from data import ROOT

PLACE = ROOT / ".bench"


def python_of(name: str, packages: Sequence[str]) -> str:
    """The interpreter of the environment `name`, made on first use.

    Raises subprocess.CalledProcessError where pip cannot install the packages.
    """
    folder = PLACE / name
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
        (folder / "installed").touch()
    return str(folder / "bin" / "python")
