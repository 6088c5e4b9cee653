"""GRPO on the embedded model, through `gristmill train`: `python bench/tiny_rl.py [SEEDS]`, 3; needs the extra `train`.

A base of which 60 % of the answers show their steps is trained for 40 steps of 16 prompts with 8 outputs each: by the
verifier, and by a proxy that pays for the form and for being short. Prints how often held-out answers are right,
sampled at temperature 1 and greedily, and at which step the watch on the alignment gap halts the proxy's training.
Exits 1 if the verifier does not help, if the gap is not noticed within 25 steps, or if the proxy does no harm.
"""

import re
import sys
from pathlib import Path
from shutil import rmtree
from statistics import mean

from data import table
from installed import PLACE

from gristmill.demo.arms import FORM, evaluated, suite, written
from gristmill.errors import Refused
from gristmill.run import Run
from gristmill.train.pipeline import train
from gristmill.train.settings import Settings, Watch
from gristmill.train.tiny.make import Recipe, make
from gristmill.train.tiny.world import Mix, rows

STEPS = 40
NOTICED = 25
ARGS = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 128,
    "num_generations": 8,
    "max_completion_length": 40,
    "learning_rate": 3e-4,
    "logging_steps": 1,
}
REWARDS = {
    "verifier": "components: [{score: tiny}]\n",
    "proxy": 'components: [{score: "regex:#### \\\\d+"}, {score: "length,most=2"}]\n',
}


def main() -> None:
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    found = [of_seed(PLACE / "tiny_rl" / str(seed), seed) for seed in seeds]
    names = ("base", "verifier", "proxy")
    lines = [[n, *(f"{one[each][0]:.2f} / {one[each][1]:.2f}" for each in names), one["halt"]]
             for n, one in zip(seeds, found, strict=True)]  # fmt: skip
    table(["seed", *(f"{name}, sampled / greedy" for name in names), "proxy halted at step"], lines)
    gains = [one["verifier"][0] - one["base"][0] for one in found]
    print(f"the verifier adds {mean(gains):+.2f} to sampled accuracy (mean of {len(seeds)})")
    unnoticed = [one["halt"] for one in found if one["halt"] is None or one["halt"] > NOTICED]
    harmless = [one for one in found if one["proxy"][0] >= one["base"][0]]
    sys.exit(bool(unnoticed or harmless or min(gains) <= 0))


def of_seed(home: Path, seed: int) -> dict:
    """Accuracy of the base and of what each reward made of it, and the step at which the gap was noticed."""
    rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    run, mix = Run(home / "run"), Mix(forms=FORM)
    make(home / "base", Recipe(seed=seed, steps=800, reasoning=0.6, mix=mix))
    prompts = str(written(home / "prompts.parquet", rows(2_000, seed=seed + 1, mix=mix), answers=False))
    greedy = suite(home / "items.parquet", seed=seed + 2, items=600)
    sampled = greedy.model_copy(update={"name": "sampled", "sampling": {"max_tokens": 40, "temperature": 1}})

    def accuracy(model: Path) -> tuple[float, float]:
        evals = home / f"{model.name}.parquet"
        return evaluated(sampled, model, evals, run)["accuracy"], evaluated(greedy, model, evals, run)["accuracy"]

    found = {"base": accuracy(home / "base"), "halt": None}
    for name, text in REWARDS.items():
        reward = home / f"{name}.yaml"
        reward.write_text(text)
        settings = Settings("grpo", args=ARGS, seed=seed, reward=reward)
        train(prompts, f"hf:{home / 'base'}", home / name, settings, run=run)
        found[name] = accuracy(home / name)
    watched = Settings("grpo", args=ARGS, seed=seed, reward=home / "proxy.yaml", watch=Watch("tiny", prompts=64))
    try:
        train(prompts, f"hf:{home / 'base'}", home / "watched", watched, run=run)
    except Refused as halt:
        step = re.search(r"halted it at step (\d+)", str(halt))
        found["halt"] = int(step[1]) if step else None
    return found


if __name__ == "__main__":
    main()
