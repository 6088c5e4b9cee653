"""Gristmill: Parquet to marked Parquet, normalisation and exact verification included. IN.parquet OUT."""

import sys

import daft

from gristmill.filter.near import near

near(daft.read_parquet(sys.argv[1]), 0.8, numbers="merge").table.write_parquet(sys.argv[2])
