"""datatrove: its four MinHash stages on two local processes. IN.parquet OUT.parquet (kept rows only)."""

import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=6)
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        folder = Path(name)
        table = pq.read_table(source)
        (folder / "in").mkdir()
        half = len(table) // 2
        pq.write_table(table.slice(0, half), folder / "in" / "0.parquet")
        pq.write_table(table.slice(half), folder / "in" / "1.parquet")

        def run(name: str, pipeline: list[object], tasks: int) -> None:
            # Spawned workers are children of this process, so that their CPU time is counted.
            logs = str(folder / "log" / name)
            LocalPipelineExecutor(
                pipeline=pipeline, tasks=tasks, workers=2, logging_dir=logs, start_method="spawn"
            ).run()

        reader = ParquetReader(str(folder / "in"), text_key="text", id_key="id")
        run("sign", [reader, MinhashDedupSignature(str(folder / "sign"), config=config)], 2)
        run("bucket", [MinhashDedupBuckets(str(folder / "sign"), str(folder / "bucket"), config=config)], 16)
        run("cluster", [MinhashDedupCluster(str(folder / "bucket"), str(folder / "gone"), config=config)], 1)
        run("filter", [reader, MinhashDedupFilter(str(folder / "gone")), ParquetWriter(str(out))], 2)


if __name__ == "__main__":
    main()
