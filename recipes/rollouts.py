"""RL data from problems: eight outputs each → a composite reward → groups → SFT rows, pairs, labels and prompts.

    python recipes/rollouts.py -o rl-out                                     # a scripted model; seconds, no network
    python recipes/rollouts.py -o rl-out -m http://localhost:8000/v1#qwen    # any OpenAI-compatible server

The reward is 0.5 accuracy + 0.3 completeness + 0.2 verification (`rollouts/reward.yaml`): correctness dominates, the
others shape style. The weights are then tried out: which mix ranks the outputs as the gold answer does? Copy this file
and the directory `rollouts` beside it. Started again, no output is asked for and no score computed twice.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gristmill import Calls, GristmillError, Plan, Run, prompt_source, ready
from gristmill.export.pipeline import export_files
from gristmill.progress import shown
from gristmill.rollout.groups import Solved
from gristmill.rollout.pairs import pick_labels, pick_pairs
from gristmill.rollout.pick import pick_prompts, pick_sft
from gristmill.rollout.pipeline import rollout_prompts
from gristmill.rollout.rollouts import read_rollouts
from gristmill.score.reward import read_reward

HERE = Path(__file__).parent / "rollouts"
RIGHT = Solved("accuracy")


def main(run: Run, out: Path, model: str) -> dict[str, Any]:
    """Make rollouts and four sets of them in `out`, and return the summary of the rollouts."""
    out.mkdir(parents=True, exist_ok=True)
    policy, groups = ready(model, calls=Calls(run.path)), out / "rollouts.parquet"
    plan = Plan(n=8, sampling={"temperature": 1.0})
    reward = read_reward(HERE / "reward.yaml")
    with shown() as say:
        made = rollout_prompts(
            prompt_source(HERE / "problems.jsonl"), policy, reward, groups, plan=plan, run=run, solved=RIGHT, say=say
        )
    print(f"{made['rows']} outputs to {made['prompts']} problems, {made['hits']} of them answered before")
    print(f"pass rate {made['pass_rate']:.0%}; {made['bands']}; {made['dead_groups']} groups without gradient")
    for part in made["components"]:
        print(f"  {part['score']}: {part['share']:.0%} of the reward's variance")

    rollouts = read_rollouts(str(groups))
    sets = {
        "sft": pick_sft(rollouts, {"accuracy": 1.0, "completeness": 0.5}, by="reward"),
        "preference": pick_pairs(rollouts, RIGHT, per_prompt=2),
        "kto": pick_labels(rollouts, RIGHT),
        "prompt": pick_prompts(rollouts, RIGHT),
    }
    for name, (table, told) in sets.items():
        pq.write_table(table, out / f"{name}.parquet")
        export_files(str(out / f"{name}.parquet"), f"trl-{name}", out / f"{name}.jsonl", run=run)
        print(f"{name}: {told}")
    return made


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description="RL data from problems.")
    flags.add_argument("-o", "--out", type=Path, default=Path("rl-out"), metavar="DIR", help="directory to write")
    flags.add_argument("-m", "--model", default=f"fake:{HERE / 'fake.yaml'}", help="http://HOST/v1#NAME, hf:PATH, …")
    given = flags.parse_args()
    try:
        main(Run(given.out / "run"), given.out, given.model)
    except GristmillError as error:
        sys.exit(f"rollouts: {error}")
    print(f"train on {given.out}/sft.jsonl, preference.jsonl, kto.jsonl or prompt.jsonl")
