"""Gristmill: Parquet to marked Parquet, normalisation and exact verification included. IN.parquet OUT."""

import sys
from pathlib import Path

import daft

from gristmill.filter.near import near
from gristmill.runner import bounded
from gristmill.stored import write_parts

files = sorted(map(str, Path(sys.argv[1]).glob("*.parquet")))  # sorted: Daft reads a directory in an order of its own
with bounded():
    write_parts(near(daft.read_parquet(files), 0.8, numbers="merge").table, Path(sys.argv[2]))
