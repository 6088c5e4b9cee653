"""Ctrl-C, sent to a real process: one line, exit code 130, and the next start goes on."""

import signal
import subprocess
import sys

import pytest

from tests.started import ended, home, left_behind, reached, start


@pytest.mark.parametrize("moment", ["read", "near", "write"])
def test_an_interrupted_filter_says_so_in_one_line_and_can_go_on(tmp_path, moment):
    place = home(tmp_path / "home")
    (place / f"hold-{moment}").touch()
    process = start(place, "-o", "out", "--run", "run")
    reached(place, process, f"at-{moment}")
    process.send_signal(signal.SIGINT)
    (place / f"hold-{moment}").unlink()
    code, said = ended(process)
    assert code == 130, said
    assert said.splitlines()[-1] == "gristmill: interrupted"
    assert "Traceback" not in said and "FATAL" not in said
    assert not (place / "out").exists()
    code, said = ended(start(place, "-o", "out", "--run", "run"))
    assert code == 0, said
    assert left_behind(place) == []


def test_what_is_registered_for_the_end_of_the_process_is_done():
    program = """
import atexit
from gristmill.cli.main import app, run
@app.command("wait")
def wait():
    atexit.register(print, "put away")
    raise KeyboardInterrupt
run(["wait"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "put away\n", "gristmill: interrupted\n")
