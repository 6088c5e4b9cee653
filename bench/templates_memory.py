"""Memory and time of 1,000,000 prompts: `python bench/templates_memory.py [PROMPTS]`.

Each case runs in a process of its own: prompts are made and every request for them, one after the other; the last case
also has them answered, by a model that answers at once, and writes the rows. Exits 1 if one takes more than 600 MB.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data import ROOT, table

from gristmill.generate.pipeline import generate_rows
from gristmill.generate.sample import Plan, candidates
from gristmill.generate.templates import prompt_source
from gristmill.models.protocol import Choice, Completion, Request
from gristmill.run import Run, peak_rss_mb

MOST_MB = 600

SLOTS = """
name: slots
system: "You are a {{ persona }}."
prompt: "Help a {{ reader }} with {{ topic }}, question {{ number }}, in a {{ style }} style, in {{ words }} words."
slots:
  persona: [patient teacher, senior engineer, research scientist]
  reader: {values: [beginner, executive], weights: [3, 1]}
  topic: {values: [baking, economics, mechanics, weather], weights: [4, 3, 2, 1]}
  style: [terse, friendly, formal]
  number: {range: [1, 100000]}
  words: {range: [10, 500]}
constraints: ["reader != 'executive' or style != 'friendly'", "words < 200 or number % 2 == 0"]
"""
TABLE = """
name: rows
prompt: "{{ question }} Answer in a {{ style }} style."
slots:
  question: {from: questions.jsonl, column: prompt}
  style: [terse, friendly]
"""


class AtOnce:
    """A model that answers at once."""

    name = identity = "at once"

    async def complete(self, request: Request) -> Completion:
        text = f"An answer to: {request.messages[-1]['content']}"
        return Completion((Choice(text, finish_reason="stop"),), tokens_in=20, tokens_out=20)

    async def close(self) -> None:
        pass


def measured(case: str, place: Path, count: int) -> dict[str, float]:
    """Run one case in this process."""
    before, started = peak_rss_mb(), time.process_time()
    files = {"slots": "slots.yaml", "rows of a table": "rows.yaml", "few-shot": "library:self_instruct"}
    name = files.get(case, "slots.yaml" if case == "answered" else "questions.jsonl")
    path = name if ":" in name else str(place / name)
    source = prompt_source(path, samples=None if name.endswith(".jsonl") else count)
    if case == "answered":
        done = generate_rows(source, [AtOnce()], place / "out.parquet", Plan(), run=Run(place / "run"))["rows"]
    else:
        done = sum(1 for _ in candidates(source, [AtOnce()], Plan()))
    assert done == count
    took = time.process_time() - started
    return {"us": took / count * 1e6, "imports": before, "peak": peak_rss_mb()}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    lines, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "slots.yaml").write_text(SLOTS)
        (place / "rows.yaml").write_text(TABLE)
        with (place / "questions.jsonl").open("w") as file:
            file.writelines(json.dumps({"prompt": f"What is the use of thing {n}?"}) + "\n" for n in range(count))
        for case in ("slots", "rows of a table", "few-shot", "a table of prompts", "answered"):
            command = [sys.executable, __file__, case, folder, str(count)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)
            peaks.append(found["peak"])
            lines.append([case, *(f"{found[name]:,.0f}" for name in ("us", "imports", "peak"))])
    table([f"{count:,} prompts", "µs of CPU a prompt", "MB of imports", "peak MB"], lines)
    sys.exit(max(peaks) > MOST_MB)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
