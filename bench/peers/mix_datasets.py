"""Peer: datasets.interleave_datasets, `python mix_datasets.py SOURCES OUT SHARES`; prints the seconds of each part.

Map-style data sets (memory-mapped Arrow); the conversion from Parquet is its own part, done once into the cache.
"""

import json
import sys
import time
from pathlib import Path

import datasets

source, out, shares = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
datasets.disable_progress_bars()
start = time.monotonic()
found = [
    datasets.Dataset.from_parquet([str(p) for p in sorted((source / n).glob("*.parquet"))], cache_dir=f"{out}.cache")
    for n in shares
]
loaded = time.monotonic()
mixed = datasets.interleave_datasets(
    found, probabilities=list(shares.values()), seed=7, stopping_strategy="first_exhausted"
)
interleaved = time.monotonic()
mixed.to_parquet(out)
parts = {"load": loaded - start, "interleave": interleaved - loaded, "write": time.monotonic() - interleaved}
print(json.dumps({"rows": len(mixed)} | parts))
