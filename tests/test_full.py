"""A full disk ends the filter with one line, leaves nothing half-written, and the same command goes on afterwards."""

import errno
import json
import shutil
import subprocess

import pytest

from gristmill.errors import OutOfSpace
from gristmill.filter.pipeline import Settings, filter_files
from gristmill.ledger import Ledger
from tests.started import command, ended, environment, home, left_behind, start, told

SCRIPT = """
mount -t tmpfs -o size=$1 tmpfs disk || exit 99
shift
"$@" > /dev/null 2> first.txt
echo $? > codes.txt
cp -r disk full
mount -o remount,size=64m disk
"$@" > /dev/null 2> second.txt
echo $? >> codes.txt
cp -r disk freed
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = home(tmp_path_factory.mktemp("undisturbed"))
    code, said = ended(start(place, "-o", "out", "--run", "run"))
    assert code == 0, said
    return place


def on_a_small_disk(place, size, *arguments):
    """Run the filter on a disk of `size` bytes, and again once it is large: the first error, the finished steps."""
    (place / "disk").mkdir()
    alone = ["unshare", "-rm", "sh", "-c"]
    probe = [*alone, f"mount -t tmpfs tmpfs {place / 'disk'}"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no user and mount namespaces here, so no small disk to fill")
    whole = [*alone, SCRIPT, "sh", str(size), *command(*arguments)]
    done = subprocess.run(whole, cwd=place, env=environment(place), capture_output=True, timeout=120, check=False)
    said = (place / "first.txt").read_text()
    assert (done.returncode, (place / "codes.txt").read_text().split()) == (0, ["1", "0"]), said
    stages, line = said.splitlines()[:-1], said.splitlines()[-1]
    assert all(" rows " in stage for stage in stages), said  # no traceback, no complaint of the interpreter
    assert left_behind(place / "full") == [] and left_behind(place) == []
    return line


def finished(run):
    return {step.name: step.created for step in Ledger(run).steps()}


def reused(out):
    return {step["name"] for step in json.loads((out / "summary.json").read_text())["lineage"] if step["reused"]}


def test_a_full_disk_under_the_run(tmp_path, undisturbed):
    place = home(tmp_path / "home")
    sizes = {step.name: step.bytes for step in Ledger(undisturbed / "run").steps()}
    line = on_a_small_disk(place, sizes["read"] + sizes["signatures"] // 2 + 250_000, "-o", "out", "--run", "disk/run")
    assert line.startswith(
        f"gristmill: no space left while writing step signatures in {place / 'disk' / 'run'} (or in "
    )
    assert line.endswith("; finished steps are kept: free space, and run the same again")
    before, after = finished(place / "full" / "run"), finished(place / "freed" / "run")
    assert before.items() <= after.items() and before.keys() == {"read", "contamination"} == reused(place / "out")
    assert told(place / "out") == told(undisturbed / "out")


@pytest.mark.parametrize("size", [200_000, 400_000, 900_000])
def test_a_full_disk_under_the_output(tmp_path, undisturbed, size):
    place = home(tmp_path / "home")
    line = on_a_small_disk(place, size, "-o", "disk/out", "--run", "run")
    assert line == (
        f"gristmill: no space left while writing the output in {place / 'disk' / 'out'}; "
        "finished steps are kept: free space, and run the same again"
    )
    assert list((place / "full").iterdir()) == []
    assert reused(place / "freed" / "out") == set(finished(place / "run"))
    assert told(place / "freed" / "out") == told(undisturbed / "out")


def test_without_a_run_nothing_is_said_to_be_kept(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gristmill.filter.pipeline.write_rows", full)
    place = home(tmp_path / "home")
    with pytest.raises(OutOfSpace) as caught:
        filter_files([str(place / "data.jsonl")], tmp_path / "out", Settings(rules=(), near=None))
    assert str(caught.value) == (
        f"no space left while writing the output in {tmp_path / 'out'}; free space, and run the same again"
    )
    assert list(tmp_path.iterdir()) == [place]
