"""Contamination: planted items, clean rows, word problems and rephrasings. Exits 1 when a target is missed.

python bench/contamination.py
"""

import resource
import sys
import time
from collections.abc import Iterator

import daft
import pyarrow as pa
from data import rows as read

from gristmill.filter.contamination import contamination_findings, items_of_record
from gristmill.filter.ngrams import Index, Item, build
from gristmill.records import SCHEMAS

EVALUATIONS = {
    "gsm8k/test": "question",
    "humaneval/HumanEval": "prompt",
    "math_test/math_test": "problem",
    "mmlu_redux/mmlu_redux": "question",
    "ifeval/ifeval_prompts": "prompt",
}
TRAINING = ["gsm8k/train", "lima1k/lima_1k", "dolly3k/dolly_3k", "alpaca52k/alpaca52k"]


def index_of(*names: str) -> Index:
    return build(i for name in names for n, r in enumerate(read(name)) for i in items_of_record(r, name, n))


def table(pairs: list[tuple[str, str]]) -> daft.DataFrame:
    blank = dict.fromkeys(SCHEMAS["sample"].names)
    rows = [
        blank | {"id": str(n), "copy": 0, "prompt": [{"role": "user", "content": p}], "response": a}
        for n, (p, a) in enumerate(pairs)
    ]
    return daft.from_arrow(pa.Table.from_pylist(rows, schema=SCHEMAS["sample"]))


def hits(pairs: list[tuple[str, str]], index: Index) -> list[dict]:
    return [f for f in contamination_findings(table(pairs), index).findings.to_pylist() if f["drop_rule"]]


def pair(record: dict) -> tuple[str, str]:
    if "conversations" in record:
        turns = [t["value"] for t in record["conversations"]]
        return "\n".join(turns[:-1]), turns[-1]
    prompt = record.get("question") or "\n".join(filter(None, [record.get("instruction"), record.get("input")]))
    return prompt, record.get("answer") or record.get("output") or ""


def rephrased() -> Iterator[tuple[str, Index, list[str]]]:
    """The sets of decontam_rephrased, each with the index of what was rephrased: n-grams are not made for them."""
    yield "gsm8k", index_of("gsm8k/test"), [r["rephrased"] for r in read("decontam_rephrased/gsm8k_rephrased")]
    texts = [r["text"] for r in read("decontam_rephrased/humaneval_rephrased") if r["language"] == "python"]
    yield "humaneval, Python", index_of("humaneval/HumanEval"), texts
    for subject in ("abstract_algebra", "sociology"):
        name = f"decontam_rephrased/mmlu_{subject}"
        records = read(name)
        index = build(Item(name, n, "question", r["question"]) for n, r in enumerate(records))
        for column in ("rephrased_en", "translated_zh"):
            yield f"mmlu {subject}, {column}", index, [r[column] for r in records if r.get(column)]


def main() -> int:
    missed = []
    index = index_of(*EVALUATIONS)
    megabytes = sum(array.nbytes for array in index) / 1e6
    print(f"index: {len(index.numbers)} items, {len(index.hashes)} 8-grams, {megabytes:.0f} MB")
    print("planted | items of 8 words or more | exact | recased | in a prompt | in an answer | shorter items, exact")
    for name, field in EVALUATIONS.items():
        texts = [r[field] for r in read(name)]
        long, short = ([t for t in texts if (len(t.split()) >= 8) == size] for size in (True, False))
        ways = [
            [(t, "Sure.") for t in long],
            [(t.upper(), "Sure.") for t in long],
            [(f"Please help me. {t} Thanks!", "Sure.") for t in long],
            [("Write a task.", f"Here it is: {t} Good luck!") for t in long],
        ]
        found = [len(hits(way, index)) / len(long) for way in ways]
        few = f"{len(hits([(t, 'Sure.') for t in short], index))} of {len(short)}"
        print(f"{name} | {len(long)} | {' | '.join(f'{x:.2%}' for x in found)} | {few}", flush=True)
        missed += [name] * (min(found) < 0.99)
    print("clean | rows | flagged | seconds")
    for name in TRAINING:
        pairs = [pair(r) for r in read(name)]
        start = time.perf_counter()
        found = hits(pairs, index)
        share = len(found) / len(pairs)
        print(f"{name} | {len(pairs)} | {len(found)} ({share:.2%}) | {time.perf_counter() - start:.1f}", flush=True)
        for f in found[:3]:
            print("   ", f["drop_evidence"][:250])
        missed += [name] * (share > 0.01)
    print("mawps_test as training set | items hit")
    mawps = [(r["input"], str(r["target"])) for r in read("word_problems/mawps_test")]
    for name in ("addsub", "singleeq", "multiarith"):
        table_of = contamination_findings(table(mawps), index_of(f"word_problems/mawps_{name}")).evaluations
        print(f"{name} | {table_of[0]['items_hit']} of {table_of[0]['items']}")
    print("rephrased | rows found")
    for name, index, texts in rephrased():
        print(f"{name} | {len(hits([(text, '') for text in texts], index))} of {len(texts)}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
    print("missed: " + (", ".join(missed) or "nothing"))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
