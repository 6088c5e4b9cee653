"""Gristmill against a real server, `transformers serve`, with a model that was taught some answers: generate from a
template, answers of a schema, a kill in the middle, a judge."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow.parquet as pq
import pytest

from gristmill.score.judge_file import JudgeFile
from gristmill.score.judge_prompt import rubric_messages
from gristmill.score.score import Item
from tests.real_server import MODEL, serving
from tests.tiny_model import Taught
from tests.witness import Witness, watching

TEMPLATE = "{name: capitals, prompt: 'Capital of {{ place }}?', slots: {place: [Peru, Chile, Japan]}}"
CAPITALS = {"Peru": "Lima", "Chile": "Santiago", "Japan": "Tokyo"}
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
JUDGE = {"kind": "rubric", "axes": {"clarity": {"ask": "Clear?"}}, "sampling": {"max_tokens": 60}}
VERDICTS = {"Lima": "A name.\nclarity: 5", "Well, ...": "It wavers.\nclarity: 2", "Yes": "Clear enough."}


def _asked_again(question: str, said: str) -> tuple[tuple[str, str], ...]:
    """The conversation in which an answer that is no JSON goes back."""
    try:
        orjson.loads(said)
    except orjson.JSONDecodeError as error:
        wrong = f"That is not valid: no JSON: {error}. Answer again, with the JSON alone."
    return (("user", question), ("assistant", said), ("user", wrong))


def _judged(response: str) -> tuple[tuple[str, str], ...]:
    item = Item(response, prompt=[{"role": "user", "content": "Say it."}])
    messages = rubric_messages(JudgeFile.model_validate({**JUDGE, "model": "m"}), item)
    return tuple((turn["role"], turn["content"]) for turn in messages)


TAUGHT: Taught = {
    **{f"Capital of {place}?": capital for place, capital in CAPITALS.items()},
    "Two and five?": '{"answer": 7}',
    "Four and five?": "nine",
    _asked_again("Four and five?", "nine"): '{"answer": 9}',
    **{_judged(response): said for response, said in VERDICTS.items()},
}


class Place(NamedTuple):
    """The server, seen through a witness, and where files go."""

    home: Path
    witness: Witness

    def command(self, *arguments: str) -> list[str]:
        """Gristmill, with the run of this place."""
        return [sys.executable, "-m", "gristmill", *arguments, "--run", str(self.home / "run")]

    def generate(self, source: Path, name: str, *arguments: str) -> list[str]:
        """Generate from `source` into `name`, answers of at most 24 tokens."""
        asked = ["-m", f"{self.witness.url}#{MODEL}", "--max-tokens", "24", *arguments]
        return self.command("generate", str(source), *asked, "-o", str(self.home / name))

    def table(self, name: str, rows: Sequence[dict[str, Any]]) -> Path:
        """A file of rows."""
        (self.home / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.home / name

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of an output."""
        found: list[dict[str, Any]] = pq.read_table(self.home / name).to_pylist()
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("served"), TAUGHT) as server:
        yield server.url


@pytest.fixture
def place(served: str, tmp_path: Path) -> Iterator[Place]:
    with watching(served) as witness:
        yield Place(tmp_path, witness)


def run(command: Sequence[str]) -> dict[str, Any]:
    """The summary of a command that succeeds."""
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_template_is_answered_and_not_asked_again(place: Place) -> None:
    template = place.home / "capitals.yaml"
    template.write_text(TEMPLATE)
    summary = run(place.generate(template, "rows.parquet"))
    rows = place.rows("rows.parquet")
    answers = {row["prompt"][0]["content"]: row["response"] for row in rows}
    assert answers == {f"Capital of {place}?": capital for place, capital in CAPITALS.items()}
    assert {row["finish_reason"] for row in rows} == {"stop"}
    assert all(row["tokens_in"] == len(row["prompt"][0]["content"]) + 3 for row in rows)  # bytes, role, end, role
    assert (summary["calls"], len(place.witness.asked)) == (3, 3)
    assert run(place.generate(template, "again.parquet"))["hits"] == 3
    assert len(place.witness.asked) == 3
    assert place.rows("again.parquet") == rows


def test_answers_of_a_schema_at_once_and_after_the_error(place: Place) -> None:
    (place.home / "schema.json").write_text(json.dumps(SCHEMA))
    source = place.table("sums.jsonl", [{"prompt": "Two and five?"}, {"prompt": "Four and five?"}])
    run(place.generate(source, "sums.parquet", "--schema", str(place.home / "schema.json")))
    assert [row["response"] for row in place.rows("sums.parquet")] == ['{"answer": 7}', '{"answer": 9}']
    assert len(place.witness.asked) == 3
    assert all(body["response_format"]["json_schema"]["schema"] == SCHEMA for body in place.witness.asked)


def test_killed_and_started_again_nothing_is_sent_twice(place: Place) -> None:
    source = place.table("prompts.jsonl", [{"prompt": f"Tell me about {number}."} for number in range(40)])
    place.witness.most = 25
    killed = subprocess.Popen(place.generate(source, "rows.parquet", "--concurrency", "4"), start_new_session=True)
    while place.witness.answered < 25:
        assert killed.poll() is None
        time.sleep(0.02)
    time.sleep(1.0)  # an answer that came so long ago must not be lost
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before, place.witness.most = len(place.witness.asked), None
    assert run(place.generate(source, "rows.parquet", "--concurrency", "4"))["hits"] == 25
    assert len(place.witness.asked) - before == 15
    (place.home / "run").rename(place.home / "first_run")
    assert run(place.generate(source, "whole.parquet", "--concurrency", "4"))["hits"] == 0
    assert place.rows("rows.parquet") == place.rows("whole.parquet")


def test_a_judge_is_asked_and_read(place: Place) -> None:
    judge = place.home / "clear.yaml"
    judge.write_text(json.dumps({**JUDGE, "model": f"{place.witness.url}#{MODEL}"}))
    source = place.table("said.jsonl", [{"prompt": "Say it.", "response": response} for response in VERDICTS])
    score = ["score", str(source), "--with", f"judge:{judge}", "-o", str(place.home / "judged.parquet")]
    run(place.command(*score))
    rows = place.rows("judged.parquet")
    assert [row["score_clarity"] for row in rows] == [5.0, 2.0, None]
    assert [row["verdict_clarity"] for row in rows] == ["scored", "scored", "unparseable"]
    assert "It wavers." in rows[1]["why_clarity"]
    run(place.command(*score, "--force"))
    assert len(place.witness.asked) == 3
