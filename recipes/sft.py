"""SFT data from seeds: questions → templates → candidates → filter → a chat file that TRL loads.

    python recipes/sft.py -o sft-out                                     # a scripted model; seconds, no network
    python recipes/sft.py -o sft-out -m http://localhost:8000/v1#qwen    # any OpenAI-compatible server

Copy this file and the directory `sft` beside it, and put your own questions, wording and limits into them. Started
again, whatever was answered or computed is taken from OUT/run; the model is not asked twice.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from gristmill import Calls, GristmillError, Plan, Run, Settings, filter_files, generate_rows, prompt_source, ready
from gristmill.progress import shown

HERE = Path(__file__).parent / "sft"


def main(run: Run, out: Path, model: str) -> dict[str, Any]:
    """Make `out/filtered/kept.jsonl` with what `model` answers, and return the summary of the filter."""
    prompts = prompt_source(HERE / "template.yaml")
    print(prompts.count())

    # Two answers to each prompt at each temperature.
    teacher = ready(model, calls=Calls(run.path))
    plan = Plan(n=2, temperatures=[0.3, 0.7, 1.1], sampling=prompts.sampling)

    # Of answers alike, to whatever prompt, one is enough: a model trained on the others learns to repeat itself.
    settings = Settings(text="response", near=0.7, collapse="mark")

    candidates = out / "candidates.parquet"
    with shown() as say:
        made = generate_rows(prompts, [teacher], candidates, plan, run=run, say=say)
        found = filter_files([str(candidates)], out / "filtered", settings, run=run, say=say)

    print(f"{made['rows']} candidates of {made['calls']} calls, {made['hits']} of them answered before")
    print(f"{found['rows_kept']} of {found['rows_in']} kept; dropped: {found['dropped']}")
    for group in found["yields"]:
        print(f"  {group['by']} {group['value']}: {group['kept']} of {group['rows']} kept ({group['yield']:.0%})")
    return found


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description="SFT data from seeds.")
    flags.add_argument("-o", "--out", type=Path, default=Path("sft-out"), metavar="DIR", help="directory to write")
    flags.add_argument("-m", "--model", default=f"fake:{HERE / 'fake.yaml'}", help="http://HOST/v1#NAME, hf:PATH, …")
    given = flags.parse_args()
    try:
        main(Run(given.out / "run"), given.out, given.model)
    except GristmillError as error:
        sys.exit(f"sft: {error}")
    print(f"train on {given.out}/filtered/kept.jsonl; what became of each row: {given.out}/filtered/report.html")
