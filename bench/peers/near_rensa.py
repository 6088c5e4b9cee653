"""rensa: R-MinHash in batches and its LSH, a row flagged when an earlier one shares a band. IN.parquet OUT.parquet."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH

table = pq.read_table(sys.argv[1])
shingles = []
for text in table["text"].to_pylist():
    words = text.split(" ")
    shingles.append([" ".join(words[n : n + 5]) for n in range(max(1, len(words) - 4))])
matrix = RMinHash.digest_matrix_from_token_sets(shingles, 96, 42)
flags = RMinHashLSH(0.8, 96, 16).insert_matrix_and_query_duplicate_flags(matrix)
pq.write_table(table.append_column("duplicate", pa.array(flags, pa.bool_())), sys.argv[2])
