"""rensa: R-MinHash and its LSH, a row flagged when an earlier kept one shares a band. IN.parquet OUT.parquet."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH

table = pq.read_table(sys.argv[1])
index = RMinHashLSH(threshold=0.8, num_perm=96, num_bands=16)
flags = []
for row, text in enumerate(table["text"].to_pylist()):
    words = text.split(" ")
    sketch = RMinHash(num_perm=96, seed=42)
    sketch.update([" ".join(words[n : n + 5]) for n in range(max(1, len(words) - 4))])
    flags.append(bool(index.query(sketch)))
    if not flags[-1]:
        index.insert(row, sketch)
pq.write_table(table.append_column("duplicate", pa.array(flags, pa.bool_())), sys.argv[2])
