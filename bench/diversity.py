"""Collapse metrics on good sets and on planted collapse. Exits 1 when a good set raises an alarm or a planted one none.

python bench/diversity.py
"""

import random
import sys
import time
from collections import defaultdict
from hashlib import blake2b
from typing import Any

import data
import numpy as np
import pyarrow as pa
from data import rows as read

from gristmill.filter.diversity import Diversity
from gristmill.records import Kind

METRICS = ["distinct_1", "distinct_2", "distinct_3", "compression_ratio", "top_opening_share", "ngram_entropy"]
METRICS += ["self_similarity"]
Sets = dict[str, list[str]]

LOOPING = "ifeval_responses Qwen__Qwen2.5-0.5B-Instruct-GPTQ-Int4"
"""A model of whose answers one in thirteen is a loop (gzip makes it 38 times smaller or more): not a good set."""


def measure(texts: list[str], kind: Kind = "sample") -> dict[str, Any]:
    """The group of all rows."""
    ids = [f"g1:{blake2b(f'{n} {text}'.encode(), digest_size=16).hexdigest()}" for n, text in enumerate(texts)]
    columns: dict[str, Any] = {"id": pa.array(ids, pa.large_string()), "copy": np.zeros(len(ids), np.int64)}
    columns["source_file"] = pa.array(["bench"] * len(ids), pa.large_string())
    if kind == "prompt":
        columns["prompt"] = [[{"role": "user", "content": text, "extra": None}] for text in texts]
    else:
        columns["response"] = pa.array(texts, pa.large_string())
    sample = Diversity(kind)
    sample.add(pa.table(columns))
    return sample.summary()["groups"][0]


def column(name: str, field: str, by: str | None = None) -> Sets:
    """The texts of a field by the values of another."""
    found = defaultdict(list)
    for row in read(name):
        if isinstance(row[field], str):
            found[f"{name.split('/')[0]} {row[by]}" if by else f"{name.split('/')[0]} {field}"].append(row[field])
    return {key: texts for key, texts in found.items() if len(texts) >= 100}


def good_answers() -> Sets:
    sets = {"lima1k": [row["conversations"][-1]["value"] for row in read("lima1k/lima_1k")]}
    sets |= column("dolly3k/dolly_3k", "output") | column("alpaca52k/alpaca52k", "output")
    sets |= column("gsm8k/train", "answer") | column("math_test/math_test", "solution")
    sets |= column("mbpp/mbpp_with_sanitized_flag", "code") | column("humaneval/HumanEval", "canonical_solution")
    sets |= column("gsm8k_rollouts/example_model_solutions", "solution", "model")
    sets |= column("alpaca_eval/outputs", "output", "generator")
    sets |= column("ifeval_responses/responses_by_model", "response", "model")
    sets |= column("evaltree_math_rollouts/rollouts_1000x8", "generation", "run")
    sets |= column("qwen_math_rollouts/math_cot_100x8", "response")
    return {name: texts for name, texts in sets.items() if name != LOOPING}


def good_prompts() -> Sets:
    sets = column("alpaca52k/alpaca52k", "instruction") | column("gsm8k/train", "question")
    sets |= column("math_test/math_test", "problem") | column("mbpp/mbpp_with_sanitized_flag", "text")
    sets |= column("mmlu_redux/mmlu_redux", "question") | column("ifeval/ifeval_prompts", "prompt")
    sets |= column("decontam_rephrased/mmlu_sociology", "translated_zh")
    sets["svamp"] = [f"{row['Body']} {row['Question']}" for row in read("word_problems/svamp_test")]
    sets["mawps"] = [row["input"] for row in read("word_problems/mawps_test")]
    return sets | {"multiarith": [row["input"] for row in read("word_problems/mawps_multiarith")]}


def planted() -> Sets:
    """Sets of 1,000 answers that collapsed by construction, from Dolly's texts."""
    chance = random.Random(0)
    texts = [row["output"] for row in read("dolly3k/dolly_3k")]
    chance.shuffle(texts)
    long = [text for text in texts if len(text.split()) > 40]
    words = " ".join(texts).split()

    def noisy(text: str, share: float) -> str:
        return " ".join(chance.choice(words) if chance.random() < share else w for w in text.split()[:150])

    template = "When you look at {} you should remember that {} is one of the most important parts of {}, because "
    template += "without it nothing else can work as well as it should."
    filled = [template.format(*chance.choices(words, k=3)) for _ in range(1000)]
    hello = "Sure! Here is a short answer to your question: "
    sets = {
        "one template, three slots": filled,
        "half of it that template": filled[:500] + texts[:500],
        "three of four open alike": [(hello if chance.random() < 0.75 else "") + text for text in texts[:1000]],
        "three of five open alike": [(hello if chance.random() < 0.6 else "") + text for text in texts[:1000]],
        "three of five: I don't know.": ["I don't know." if chance.random() < 0.6 else t for t in texts[:1000]],
        "loops: twelve words ten times": [" ".join(text.split()[:12] * 10) for text in long[:1000]],
    }
    for modes in (1, 5, 20):
        sets[f"{modes} answers in turn, every 10th word changed"] = [noisy(long[i % modes], 0.1) for i in range(1000)]
    return sets


def collapsed_prompts() -> Sets:
    return column("gpteacher_toolformer/toolformer", "instruction")


def others() -> Sets:
    """Sets of which nobody has said whether they collapsed."""
    sets = column("gpteacher_toolformer/toolformer", "output") | column("pandalm_human3/pandalm_testset", "response1")
    chance = random.Random(2)
    base = [row["output"] for row in read("dolly3k/dolly_3k")][:50]
    sets["50 answers in turn, words left out"] = [
        " ".join(w for w in base[n % 50].split() if chance.random() > 0.1) for n in range(1000)
    ]
    sets |= column("codet_humaneval_rollouts/codegen16b_100samples", "completion")
    sets |= column("self_instruct/predictions_8_models", "response", "model")
    return sets | {LOOPING: column("ifeval_responses/responses_by_model", "response", "model")[LOOPING]}


def shown(name: str, group: dict[str, Any]) -> list[object]:
    numbers = [f"{group[metric]:.4f}" if metric == "self_similarity" else f"{group[metric]:.2f}" for metric in METRICS]
    return [name, group["sampled"], round(group["words"]), *numbers, ", ".join(group["alarms"])]


def subsets(sets: Sets, kind: Kind) -> int:
    """How many of 10 random subsets of 100 and of 300 rows of each set raise an alarm."""
    chance = random.Random(1)
    trials = [chance.sample(t, min(size, len(t))) for t in sets.values() for size in (100, 300) for _ in range(10)]
    alarms = sum(bool(measure(trial, kind)["alarms"]) for trial in trials)
    what = "prompts" if kind == "prompt" else "answers"
    print(f"{alarms} of {len(trials)} random subsets of 100 and of 300 rows of the good {what} raise an alarm")
    return alarms


def speed() -> None:
    """A million rows of 20 sources, in windows of 100,000."""
    texts = [row["output"] for row in read("alpaca52k/alpaca52k")]
    chance = np.random.default_rng(0)
    sample = Diversity("sample")
    spent = 0.0
    for _ in range(10):
        ids = pa.array([f"g1:{chance.bytes(16).hex()}" for _ in range(100_000)], pa.large_string())
        sources = pa.array([f"{n}.jsonl" for n in range(20)], pa.large_string())
        window = {"id": ids, "copy": np.zeros(100_000, np.int64), "response": chance.choice(texts, 100_000).tolist()}
        window["source_file"] = sources.take(pa.array(chance.integers(0, 20, 100_000)))
        table = pa.table(window)
        start = time.perf_counter()
        sample.add(table)
        spent += time.perf_counter() - start
    start = time.perf_counter()
    sample.summary()
    print(f"a million rows of 20 sources: {spent:.1f} s to sample, {time.perf_counter() - start:.1f} s to measure")


def main() -> int:
    missed = []
    header = ["set", "rows", "words", *METRICS, "alarms"]
    plans: list[tuple[str, Sets, Kind, bool | None]] = [
        ("Good answers", good_answers(), "sample", False),
        ("Good prompts", good_prompts(), "prompt", False),
        ("Planted collapse", planted(), "sample", True),
        ("Prompts of a template", collapsed_prompts(), "prompt", True),
        ("Not judged", others(), "sample", None),
    ]
    for title, sets, kind, expected in plans:
        print(f"**{title}**\n")
        groups = {name: measure(texts, kind) for name, texts in sets.items()}
        data.table(header, [shown(name, group) for name, group in groups.items()])
        missed += [name for name, g in groups.items() if expected is not None and bool(g["alarms"]) != expected]
    for _, sets, kind, expected in plans:
        if expected is False and subsets(sets, kind):
            missed.append(f"subsets of {kind}")
    speed()
    print("missed: " + (", ".join(missed) or "nothing"))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
