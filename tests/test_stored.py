"""Tables on disk where the machine that wrote them is not the one that goes on."""

from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gristmill.errors import UsageError
from gristmill.run import Run
from gristmill.stored import write_parts


def test_a_part_that_another_machine_wrote_to_its_own_disk_is_said_in_one_line(monkeypatch, tmp_path):
    def elsewhere(_table, directory, **_options):
        return daft.from_pydict({"path": [f"{directory}/there.parquet"]})

    monkeypatch.setattr(daft.DataFrame, "write_parquet", elsewhere)
    with pytest.raises(UsageError, match=r"there\.parquet: written by another machine .* \(--run DIR\)"):
        write_parts(daft.from_pydict({"a": [1]}), tmp_path / "rows")


def lost(path):
    table = daft.read_parquet(str(path))
    Path(path).unlink()
    return table


def test_a_table_that_a_machine_does_not_have_is_said_in_one_line(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(UsageError, match=r"a\.parquet: not seen by a machine that reads it; .*\(--run DIR\)"):
        Run(tmp_path / "run").step(lost, path)
