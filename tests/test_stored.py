"""Tables on disk where the machine that wrote them is not the one that goes on."""

from pathlib import Path
from types import SimpleNamespace

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

    monkeypatch.setattr(daft, "get_or_create_runner", lambda: SimpleNamespace(name="ray"))
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


def test_parts_hold_every_row_once_in_order(monkeypatch, tmp_path):
    monkeypatch.setattr("gristmill.stored.PARTS_BYTES", 1 << 14)
    source = tmp_path / "source.parquet"
    pq.write_table(pa.table({"a": range(20_000)}), source)
    with daft.execution_config_ctx(default_morsel_size=1_000):
        write_parts(daft.read_parquet(str(source)), tmp_path / "rows")
    parts = [pq.read_table(part)["a"].to_pylist() for part in sorted((tmp_path / "rows").iterdir())]
    assert len(parts) > 4
    assert [row for part in parts for row in part] == list(range(20_000))


def test_a_table_without_rows_is_one_part_with_its_columns(tmp_path):
    write_parts(daft.from_arrow(pa.table({"a": pa.array([], pa.int64())})), tmp_path / "rows")
    (part,) = (tmp_path / "rows").iterdir()
    assert pq.read_table(part).to_pydict() == {"a": []}


def test_a_part_that_cannot_be_written_ends_the_writing(monkeypatch, tmp_path):
    def full(*_arguments, **_options):
        raise OSError("no space left on device")

    monkeypatch.setattr("gristmill.stored.PARTS_BYTES", 1)
    monkeypatch.setattr("gristmill.stored.pq.write_table", full)
    with pytest.raises(Exception, match="no space left on device"):
        write_parts(daft.from_pydict({"a": [1, 2, 3]}), tmp_path / "rows")
