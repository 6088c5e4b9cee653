"""Rows of the world of the embedded model as a file.

Not covered: what the rows are (`world.py`).
"""

from pathlib import Path

from gristmill.beside import beside
from gristmill.parquet import RowWriter, marked
from gristmill.train.tiny.world import Mix, Part, rows, schema


def write_data(
    out: Path,
    n: int,
    *,
    answers: bool,
    seed: int = 0,
    part: Part = "train",
    mix: Mix = Mix(),  # noqa: B008  frozen
    reasoning: float = 1.0,
    buggy: float = 0.0,
) -> Path:
    """Write `n` rows to the Parquet file `out`, which is returned: samples with `answers` (`reasoning` and `buggy` as
    in `world.rows`), or prompts with their references."""
    made = rows(n, seed=seed, part=part, mix=mix, reasoning=reasoning if answers else None, buggy=buggy)
    with beside(out) as partial:
        with RowWriter(partial / out.name, marked(schema(answers))) as file:
            for number, row in enumerate(made):
                file.write({**row, "source_file": "tiny", "source_row": number})
        (partial / out.name).replace(out)
    return out
