"""datasketch: MinHash and MinHashLSH, a row flagged when an earlier one shares a band. IN.parquet OUT.parquet."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

table = pq.read_table(sys.argv[1])
index = MinHashLSH(num_perm=96, params=(16, 6))
flags = []
for row, text in enumerate(table["text"].to_pylist()):
    words = text.split(" ")
    sketch = MinHash(num_perm=96)
    sketch.update_batch([" ".join(words[n : n + 5]).encode() for n in range(max(1, len(words) - 4))])
    flags.append(bool(index.query(sketch)))
    if not flags[-1]:
        index.insert(row, sketch)
pq.write_table(table.append_column("duplicate", pa.array(flags, pa.bool_())), sys.argv[2])
