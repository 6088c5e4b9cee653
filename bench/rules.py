"""What the default rules find in real sets, what they drop wrongly there, and how long they take.

    python bench/rules.py              the tables of docs/rules.md
    python bench/rules.py --show lima  also the dropped rows of one set, to be read by eye

Data: ../shared/data or GRISTMILL_DATA; sets that are not there are left out. The time is CPU seconds of the whole
process (all threads) per row, on rows of about 700 characters made by joining GSM8K and MATH solutions.
"""

import argparse
import gzip
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa

from gristmill.filter.limits import any_of
from gristmill.filter.marks import dropped
from gristmill.filter.rules import DEFAULT_RULES, Limit, Rule, apply_rules
from gristmill.records import SCHEMAS, row_id

DATA = Path(os.environ.get("GRISTMILL_DATA", Path(__file__).parents[2] / "shared" / "data"))
RULES = ["empty", "too_short", "too_long", "repetitive", "refusal", "template_leak", "echo", "wrong_language"]
Pair = tuple[str, str]


def alpaca(row: dict[str, Any]) -> Pair:
    return row["instruction"] + (f"\n{row['input']}" if row["input"] else ""), row["output"]


def last_turn(row: dict[str, Any]) -> Pair:
    turns = row.get("conversations") or row["messages"]
    *before, last = [turn.get("value", turn.get("content")) for turn in turns]
    return (before[-1], last) if "chosen" not in row else (last, row["chosen"]["value"])


SETS: dict[str, tuple[str, Callable[[dict[str, Any]], Pair]]] = {
    "alpaca52k": ("alpaca52k/alpaca52k.jsonl.gz", alpaca),
    "lima1k": ("lima1k/lima_1k.jsonl.gz", last_turn),
    "dolly3k": ("dolly3k/dolly_3k.jsonl.gz", alpaca),
    "self_instruct_seeds": (
        "self_instruct/seed_tasks.jsonl.gz",
        lambda row: alpaca({"instruction": row["instruction"], **row["instances"][0]}),
    ),
    "alpaca_en_demo": ("llamafactory_demos/alpaca_en_demo.jsonl.gz", alpaca),
    "dpo_en_demo": ("llamafactory_demos/dpo_en_demo.jsonl.gz", last_turn),
    "kto_en_demo": ("llamafactory_demos/kto_en_demo.jsonl.gz", last_turn),
    "glaive_toolcall": ("llamafactory_demos/glaive_toolcall_en_demo.jsonl.gz", last_turn),
    "gsm8k_train": ("gsm8k/train.jsonl.gz", lambda row: (row["question"], row["answer"])),
    "gsm8k_solutions": (
        "gsm8k_rollouts/example_model_solutions.jsonl.gz",
        lambda row: (row["question"], row["solution"]),
    ),
    "math_solutions": ("math_test/math_test.jsonl.gz", lambda row: (row["problem"], row["solution"])),
    "mbpp_code": ("mbpp/mbpp_with_sanitized_flag.jsonl.gz", lambda row: (row["text"], row["code"])),
}
MODELS = "self_instruct/predictions_8_models.jsonl.gz"
CLEANED = "alpaca_cleaned_diff/alpaca_cleaned_diff.jsonl.gz"


def lines(path: str) -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def table(pairs: list[Pair], tools: list[str] | None = None) -> daft.DataFrame:
    rows = []
    for number, (prompt, response) in enumerate(pairs):
        row = dict.fromkeys(SCHEMAS["sample"].names) | {"copy": 0, "source_row": number, "response": response}
        row["tools"] = tools[number] if tools else None
        row["prompt"] = [{"role": "user", "content": prompt, "extra": None}]
        rows.append(row | {"id": row_id("sample", row)})
    return daft.from_arrow(pa.Table.from_pylist(rows, schema=SCHEMAS["sample"]))


def drops(pairs: list[Pair], tools: list[str] | None = None) -> list[dict[str, Any]]:
    """The dropped rows, in order; `tools` is what each row may call, as JSON."""
    columns = ["source_row", "drop_rule", "drop_evidence", "response"]
    rows: list[dict[str, Any]] = dropped(apply_rules(table(pairs, tools))).select(*columns).to_pylist()
    return sorted(rows, key=lambda row: row["source_row"])


def line(name: str, rows: int, found: list[dict[str, Any]]) -> None:
    by_rule = Counter(row["drop_rule"] for row in found)
    told = ", ".join(f"{rule} {by_rule[rule]}" for rule in RULES if by_rule[rule])
    print(f"| {name} | {rows:,} | {len(found)} | {len(found) / rows:.2%} | {told or '–'} |")


def show(pairs: list[Pair], found: list[dict[str, Any]]) -> None:
    for row in found:
        print(f"\n[{row['source_row']}] {row['drop_rule']} {row['drop_evidence']}")
        print(f"  prompt: {pairs[row['source_row']][0][-300:]!r}\n  answer: {row['response'][:300]!r}")


def cleaned() -> None:
    """What people did to the prompts of 3,528 Alpaca rows, against what the rules drop of the originals."""
    rows = list(lines(CLEANED))
    pairs = [alpaca(row["original"]) for row in rows]
    reasons = {row["source_row"]: row["drop_rule"] for row in drops(pairs)}
    print("\n| change by the cleaners | rows | dropped | by rule |\n|---|---:|---:|---|")
    for change, count in Counter(row["change"] for row in rows).most_common():
        hits = Counter(reasons[i] for i, row in enumerate(rows) if row["change"] == change and i in reasons)
        told = ", ".join(f"{rule} {hits[rule]}" for rule in RULES if hits[rule])
        print(f"| {change} | {count:,} | {hits.total()} | {told or '–'} |")


def stricter() -> None:
    """Curated sets under settings that are not the default: any one of Gopher's figures, and English alone."""
    cases = next(rule.cases for rule in DEFAULT_RULES if rule.name == "repetitive")
    gopher = Rule("gopher", tuple((limit,) for limit in cases[0] if limit.measure != "words"))
    english = Rule("not_english", any_of(Limit("other_language", most=0.8)), languages=("en",))
    print("\n| set | rows | breaks any one figure of Gopher's | `languages: [en]` |\n|---|---:|---:|---:|")
    for name in ("lima1k", "dolly3k"):
        path, pair = SETS[name]
        rows = table([pair(row) for row in lines(path)])
        found = [dropped(apply_rules(rows, [rule])).count_rows() for rule in (gopher, english)]
        print(f"| {name} | {rows.count_rows():,} | {found[0]} | {found[1]} |")


def models() -> None:
    """Outputs of eight models on the same 153 instructions: plain davinci loops, text-davinci-003 hardly ever."""
    rows = list(lines(MODELS))
    print("\n| model | rows | dropped | share | by rule |\n|---|---:|---:|---:|---|")
    for model in sorted({row["model"] for row in rows}):
        pairs = [(row["instruction"], row["response"]) for row in rows if row["model"] == model]
        line(model, len(pairs), drops(pairs))


def speed(count: int) -> None:
    texts = [SETS[name][1](row) for name in ("gsm8k_train", "math_solutions") for row in lines(SETS[name][0])]
    long = []
    for prompt, answer in texts:
        if long and len(long[-1][1]) < 700:
            long[-1] = (long[-1][0], f"{long[-1][1]}\n{answer}")
        else:
            long.append((prompt, answer))
    pairs = [(f"{prompt} ({number})", answer) for number in range(count // len(long) + 1) for prompt, answer in long]
    rows = table(pairs[:count]).collect()
    characters = sum(len(answer) for _, answer in pairs[:count]) / count
    wall, cpu = time.perf_counter(), time.process_time()
    kept = apply_rules(rows).collect().count_rows()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"\n{kept:,} rows of {characters:.0f} characters: {cpu / count * 1e6:.0f} µs of CPU a row, {wall:.1f} s in all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", choices=list(SETS), help="print the dropped rows of this set")
    parser.add_argument("--rows", type=int, default=100_000, help="rows for the time")
    given = parser.parse_args()
    print("| set | rows | dropped | share | by rule |\n|---|---:|---:|---:|---|")
    for name, (path, pair) in SETS.items():
        if (DATA / path).exists():
            rows = list(lines(path))
            pairs = [pair(row) for row in rows]
            found = drops(pairs, [row["tools"] for row in rows] if "tools" in rows[0] else None)
            line(name, len(pairs), found)
            if name == given.show:
                show(pairs, found)
    for path, tell in ((CLEANED, cleaned), (MODELS, models)):
        if (DATA / path).exists():
            tell()
    if all((DATA / SETS[name][0]).exists() for name in ("lima1k", "dolly3k")):
        stricter()
    if all((DATA / SETS[name][0]).exists() for name in ("gsm8k_train", "math_solutions")):
        speed(given.rows)


if __name__ == "__main__":
    main()
