"""How many planted weaknesses does `gristmill mine` find? On real items, with members that are known.

    python bench/mining_recall.py [DRAWS]

Items: MATH (Hendrycks et al. 2021) with the capability phrases of EvalTree (Zeng et al. 2025, arXiv:2503.08893). As in
its synthetic experiment an item is solved with probability .7, times .2 (.4, .5) for every weakness it has. Three ways
to plant ten weaknesses:

*topics*: ten fixed subjects, most of them of EvalTree's own list, an item's membership told by patterns on its phrase
that name several words for a thing; the same in every draw.
*words*: the items whose phrases hold ten random words (of 40 to 150 items each); others in every draw.
*nearest*: of each of EvalTree's ten phrases the 60 items whose phrases are most like it, by TF-IDF. These are ranks,
not subjects: where few items have the capability, most of the 60 have nothing in common.

A weakness is found if one of the first 20 clusters overlaps with its items by Jaccard 0.5 or more. *text* mines the
problems alone, *phrases* problems and capability phrases. The last lines are draws with shuffled outcomes.
"""

import json
import re
import sys
from dataclasses import replace

import numpy as np
from data import DATA, rows, table
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from threadpoolctl import threadpool_limits

from gristmill.loop.failures import Failures
from gristmill.loop.mine import Mining, jaccard, look, mine_looked

BASE, DROPS, FIRST, OVERLAP = 0.7, (0.2, 0.4, 0.5), 20, 0.5

TOPICS = {
    "complex numbers": r"complex number|polar form|roots? of unity|de moivre",
    "combinatorics": r"recurrence|recursi|counting principle|combinatorial",
    "solids": r"three-dimensional|3d|volume|surface area|sphere|cone|cylinder|pyramid|tetrahedr|prism",
    "prime factors": r"prime factor|coprim|relatively prime|primality",
    "vieta": r"vieta",
    "trigonometry": r"trigonometric (identit|function)",
    "quadratic inequalities": r"quadratic inequalit|inequalit.*(factor|quadratic)|quadratic.*inequalit",
    "common divisors": r"greatest common|gcd|common divisor|euclidean algorithm",
    "congruences": r"modular|congruence",
    "logarithms": r"logarithm|exponential equation",
}


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    phrases = {row["i"]: row["capability"] for row in rows("evaltree_weakness/MATH_results")}
    problems = [row for row in rows("math_test/math_test") if row["row"] in phrases]
    told = [phrases[row["row"]] for row in problems]
    print(f"{len(problems):,} items, {draws} draws a line\n")
    lines, empty = [], []
    for mode, texts in (("phrases", None), ("text", ["prompt"])):
        items = [item(row, phrase) for row, phrase in zip(problems, told, strict=True)]
        evals = Failures(items, np.zeros(len(items)), [1] * len(items), 0, "right")
        mining = Mining(texts=texts, resamples=0, ignore=["capability"] if texts else [])
        with threadpool_limits(1):
            looked = look(evals, mining)
        for plant in (topics, words, nearest):
            for drop in DROPS:
                found, reported = [], []
                for draw in range(draws):
                    rng = np.random.default_rng(draw)
                    members = plant(told, rng)
                    failed = outcomes(members, len(items), drop, rng)
                    clusters = mine_looked(looked, replaced(evals, failed), mining).clusters
                    by_weight = sorted(clusters, key=lambda each: -failed[each.members].sum())[:FIRST]
                    overlaps = [max((jaccard(each.members, m) for each in by_weight), default=0) for m in members]
                    found.append(sum(value >= OVERLAP for value in overlaps))
                    reported.append(len(clusters))
                enough = sum(count >= 7 for count in found)
                counted = (f"{np.median(found):g}", f"{np.mean(found):.1f}", min(found), f"{enough}/{draws}")
                lines.append((mode, plant.__name__, f"×{drop:g}", *counted, f"{np.mean(reported):.1f}"))
                print(*lines[-1], flush=True)
        rng = np.random.default_rng(draws)
        failed = outcomes(topics(told, rng), len(items), 0.2, rng)
        nulls = 5 * draws
        shuffled = (replaced(evals, rng.permutation(failed)) for _ in range(nulls))
        silent = sum(not mine_looked(looked, each, replace(mining, seed=n)).clusters for n, each in enumerate(shuffled))
        empty.append((f"shuffled outcomes, {mode}: nothing reported in {silent} of {nulls} draws", silent / nulls))
    table(("mined", "planted", "success", "median of 10", "mean", "fewest", "≥ 7", "clusters reported"), lines)
    print("\n".join(told for told, _ in empty))
    strong = next(line for line in lines if line[:3] == ("phrases", "topics", "×0.2"))
    sys.exit(float(strong[3]) < 7 or any(share < 0.95 for _, share in empty))


def item(row, phrase):
    """An item as the miner knows it."""
    prompt = [{"role": "user", "content": row["problem"], "extra": None}]
    key = str(row["row"])
    facts = {"capability": phrase, "type": row["type"], "level": row["level"]}
    known = {"id": key, "key": key, "lineage": key, "prompt": prompt, "facts": facts, "tags": []}
    return known | {"reference": None, "response": None}


def topics(told, rng):  # noqa: ARG001  called like `words`, which draws; here the same in every draw
    return [np.flatnonzero([bool(re.search(rule, each.lower())) for each in told]) for rule in TOPICS.values()]


def words(told, rng):
    """The items of ten random words."""
    counter = CountVectorizer(stop_words="english", binary=True, token_pattern=r"[a-z]{4,}")
    present = counter.fit_transform(told).tocsc()
    sizes = np.asarray(present.sum(axis=0)).ravel()
    usable = np.flatnonzero((sizes >= 40) & (sizes <= 150))
    return [np.sort(present[:, word].nonzero()[0]) for word in rng.choice(usable, 10, replace=False)]


def nearest(told, rng):  # noqa: ARG001  called like `words`, which draws; here the same in every draw
    """The 60 items whose phrases are most like each of EvalTree's."""
    weigher = TfidfVectorizer(stop_words="english", sublinear_tf=True)
    known = weigher.fit_transform(told)
    listed = json.loads((DATA / "evaltree_weakness/MATH_planted_weaknesses.json").read_text())
    likeness = np.asarray((weigher.transform(listed) @ known.T).todense())
    return [np.sort(np.argsort(-row, kind="stable")[:60]) for row in likeness]


def outcomes(members, count, drop, rng):
    """1 for an item that fails."""
    success = np.full(count, BASE)
    for each in members:
        success[each] *= drop
    return (rng.random(count) >= success).astype(float)


def replaced(evals, failed):
    return evals._replace(failed=failed)


if __name__ == "__main__":
    main()
