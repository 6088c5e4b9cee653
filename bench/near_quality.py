"""Near-duplicate quality against brute force, and recall by class of planted edit. Exits 1 if a target is missed.

Truth: plain Jaccard similarity of word 5-grams, all pairs, by a sparse product; as in the filter, texts are normalised.
`ideal` is what a star over the true pairs removes in survivor order: each removed row similar to a kept one. `pairs`
counts the true pairs of which no row was removed. Data: gpteacher_toolformer (MIT), alpaca52k (CC BY-NC), gsm_hard
(MIT).
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import scipy.sparse
from data import rows, table, write

from gristmill.files import read
from gristmill.filter.marks import Table
from gristmill.filter.near import near
from gristmill.filter.text import normalized_text

THRESHOLD = 0.8
Pairs = dict[tuple[int, int], float]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split(" ")
    return {tuple(words[n : n + 5]) for n in range(max(1, len(words) - 4))}


def similar_pairs(texts: list[str]) -> Pairs:
    """All pairs (i < j) with Jaccard >= THRESHOLD, by products of blocks of the shingle matrix."""
    vocabulary: dict[tuple[str, ...], int] = {}
    columns, ends = [], [0]
    for text in texts:
        columns += [vocabulary.setdefault(shingle, len(vocabulary)) for shingle in shingles(text)]
        ends.append(len(columns))
    shape = (len(texts), len(vocabulary))
    matrix = scipy.sparse.csr_matrix((np.ones(len(columns), np.int32), columns, ends), shape=shape)
    across, sizes, pairs = matrix.T.tocsr(), np.diff(ends), {}
    for start in range(0, len(texts), 2_000):
        shared = (matrix[start : start + 2_000] @ across).tocoo()
        left, right = shared.row + start, shared.col
        similarity = shared.data / (sizes[left] + sizes[right] - shared.data)
        chosen = (left < right) & (similarity >= THRESHOLD)
        found = zip(left[chosen].tolist(), right[chosen].tolist(), similarity[chosen].tolist(), strict=True)
        pairs.update({(i, j): s for i, j, s in found})
    return pairs


def measured(rows_: Table, numbers: str, text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The marked rows in survivor order, and their normalised texts."""
    found = near(rows_, THRESHOLD, numbers=numbers, text=text)
    marked = found.table.with_column("text", normalized_text("sample", text))
    names = ("id", "copy", "meta", "text", "drop_rule", "drop_value", "drop_evidence", "flag_number_twin")
    ordered = marked.select(*names).sort(["id", "copy"]).to_pylist()
    return ordered, [row["text"] for row in ordered]


def against_brute_force(name: str, rows_: Table, text: str) -> tuple[list[object], bool]:
    found, texts = measured(rows_, "merge", text)
    pairs = similar_pairs(texts)
    earlier: dict[int, list[int]] = {}
    for i, j in pairs:
        earlier.setdefault(j, []).append(i)
    ideal: set[int] = set()
    for row in range(len(found)):
        if any(other not in ideal for other in earlier.get(row, ())):
            ideal.add(row)
    dropped = {n for n, row in enumerate(found) if row["drop_rule"]}
    place = {(row["id"], row["copy"]): n for n, row in enumerate(found)}
    right = kept_evidence = 0
    for n in dropped:
        evidence = json.loads(found[n]["drop_evidence"])
        other = place[evidence["id"], evidence["copy"]]
        right += (min(n, other), max(n, other)) in pairs
        kept_evidence += other not in dropped
    missed = sum(i not in dropped and j not in dropped for i, j in pairs)
    precision = right / max(len(dropped), 1)
    recall = min(len(dropped) / max(len(ideal), 1), 1 - missed / max(len(pairs), 1))
    good = precision >= 0.995 and recall >= 0.975 and kept_evidence == len(dropped)
    shown = [name, text, len(found), len(earlier), len(ideal), len(dropped), f"{precision:.4f}", f"{recall:.4f}"]
    return [*shown, f"{kept_evidence} of {len(dropped)}", "yes" if good else "NO"], good


def edited(text: str, share: float, random_: random.Random) -> str:
    """The text with a share of its words replaced (at least one)."""
    words = text.split(" ")
    for place in random_.sample(range(len(words)), max(1, round(share * len(words)))):
        words[place] = f"edit{random_.randrange(10**6)}"
    return " ".join(words)


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "exact": lambda text, _: text,
    "white space, case": lambda text, _: text.replace(" ", "  ").upper() + " ",
} | {f"{p} % of words": lambda text, r, p=p: edited(text, p / 100, r) for p in (1, 2, 5, 10, 20, 30)}


def planted(base: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Base rows and 1,000 edited copies of each class, of answers of 40 words or more; `of` ties a copy to its base."""
    random_ = random.Random(7)
    names = ("instruction", "input", "output")
    records = [{name: row[name] for name in names} | {"of": n} for n, row in enumerate(base)]
    long = [record for record in records if len(record["output"].split()) >= 40]
    for name, edit in EDITS.items():
        chosen = random_.sample(long, 1_000)
        records += [record | {"output": edit(record["output"], random_), "edit": name} for record in chosen]
    return records


TEMPLATES = [
    "Write a short product description for {a}, made by {b} in {c}, and mention that it was first sold in {d}.",
    "Translate the following sentence about {a} from {b} to {c} and explain the grammar of the word {d} in one line.",
    "You are a travel guide in {a}. A visitor from {b} asks how to get to {c} with {d}. Answer in two sentences.",
]


def other_slots(base: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """6,000 rows of three templates whose slots are phrases of real instructions: no two say the same."""
    random_ = random.Random(11)
    phrases = [" ".join(row["instruction"].split()[:4]) for row in base if len(row["instruction"].split()) >= 4]
    return [
        {
            "instruction": template.format(**dict(zip("abcd", random_.sample(phrases, 4), strict=True))),
            "output": "Done.",
        }
        for template in TEMPLATES
        for _ in range(2_000)
    ]


def number_twins() -> list[dict[str, Any]]:
    pairs = [row for row in rows("gsm_hard/gsm_hard_pairs") if not row["same_text"]]
    return [
        {"instruction": row[name], "output": "See above.", "pair": n}
        for n, row in enumerate(pairs)
        for name in ("question_hard", "question_gsm8k")
    ]


def main() -> None:
    alpaca = rows("alpaca52k/alpaca52k")
    with TemporaryDirectory() as folder:

        def load(records: list[dict[str, Any]]) -> Table:
            return read(write(Path(folder) / "rows.jsonl", records), max_bad=0.0)

        toolformer = load(rows("gpteacher_toolformer/toolformer"))
        lines = [against_brute_force("gpteacher_toolformer", toolformer, text) for text in ("both", "prompt")]
        with_edits = load(planted(alpaca))
        lines.append(against_brute_force("alpaca52k, edits planted", with_edits, "both"))
        header = [
            "set",
            "text",
            "rows",
            "with an earlier twin",
            "ideal",
            "removed",
            "precision",
            "recall",
            "evidence kept",
            "met",
        ]
        table(header, [line for line, _ in lines])
        good = all(met for _, met in lines)
        good &= by_class(with_edits)
        good &= kept_apart(load(other_slots(alpaca)), load(number_twins()))
    sys.exit(not good)


def by_class(with_edits: Table) -> bool:
    """Recall by class of edit: of the copies that are similar to their original, how many pairs lost a row."""
    found, _ = measured(with_edits, "guard", "both")
    originals: dict[int, dict[str, Any]] = {}
    copies: dict[str, list[dict[str, Any]]] = {name: [] for name in EDITS}
    for row in found:
        row |= json.loads(row["meta"])
        if "edit" in row:
            copies[row["edit"]].append(row)
        else:
            originals[row["of"]] = row
    lines, good = [], True
    for name, rows_ in copies.items():
        similar = resolved = dropped = 0
        for row in rows_:
            original = originals[row["of"]]
            one, other = shingles(row["text"]), shingles(original["text"])
            lost = row["drop_rule"] is not None or original["drop_rule"] is not None
            dropped += lost
            if len(one & other) >= THRESHOLD * len(one | other):
                similar += 1
                resolved += lost
        recall = resolved / similar if similar else None
        good &= recall is None or similar < 100 or recall >= 0.975
        lines.append((name, len(rows_), similar, dropped, "-" if recall is None else f"{recall:.3f}"))
    table(["planted edit", "copies", "with Jaccard >= 0.8", "pairs that lost a row", "recall"], lines)
    return good


def kept_apart(slots: Table, twins: Table) -> bool:
    """Rows that must stay: other slots of a template, and number twins under the guard."""
    found, _ = measured(slots, "guard", "both")
    merged = sum(row["drop_rule"] is not None for row in found) / len(found)
    found_twins, _ = measured(twins, "guard", "both")
    merged_twins = sum(row["drop_rule"] is not None for row in found_twins) / (len(found_twins) / 2)
    flagged = sum(row["flag_number_twin"] is not None for row in found_twins)
    lines = [
        ("template with other slots", len(found), f"{merged:.2%}", "0.5 %"),
        (f"number twins of gsm_hard ({flagged} rows flagged)", len(found_twins) // 2, f"{merged_twins:.2%}", "2 %"),
    ]
    table(["must stay apart", "rows or pairs", "wrongly merged", "allowed"], lines)
    return merged <= 0.005 and merged_twins <= 0.02


if __name__ == "__main__":
    main()
