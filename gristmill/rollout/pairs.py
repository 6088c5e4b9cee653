"""Feedback made from rollouts: preference pairs and binary labels, from what a verifier says of each output.

Pairs and labels are new rows whose parents are the outputs; the summary counts the outputs and prompts that gave none.

Not covered: pairs that a judge makes (`score/judge.py`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gristmill.errors import UsageError
from gristmill.files import batch_of
from gristmill.records import SCHEMAS, row_id
from gristmill.rollout.groups import Solved
from gristmill.rollout.rollouts import Rollouts

Row = dict[str, Any]

KTO_RATIO = (1.0, 4 / 3)
"""The range of (weight x number of desirable) / (weight x number of undesirable) that KTO's authors advise
(Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306)."""


def pick_pairs(
    rollouts: Rollouts, solved: Solved, *, per_prompt: int = 1, policy: str | None = None, across: bool = False
) -> tuple[pa.Table, dict[str, Any]]:
    """Preference pairs: of each prompt, outputs verified right against outputs verified wrong, matched by length, so
    that length is not what is learned. An output is in one pair at most, and both are one model's, unless `across`.
    `margin` is the difference of the scores, the column `policy` names the model (or both, with +); the argument
    `policy` the model to be trained: pairs of another are counted. Raises UsageError where there is no pair at all.
    """
    values, lengths = rollouts.scores(solved.score), rollouts.lengths()
    rows: list[Row] = []
    unpaired: Counter[str] = Counter()
    for members in rollouts.members():
        judged = [int(n) for n in members if not np.isnan(values[n])]
        right = [n for n in judged if values[n] >= solved.least]
        wrong = [n for n in judged if values[n] < solved.least]
        if not right or not wrong:
            unpaired["all_right" if right else "all_wrong" if wrong else "unjudged"] += 1
            continue
        told = dict(zip([*right, *wrong], rollouts.table.take([*right, *wrong]).to_pylist(), strict=True))
        sizes = {n: int(lengths[n]) for n in told}
        models = {n: None if across else told[n]["model"] for n in told}
        made = _matched(right, wrong, sizes, models, per_prompt)
        if not made:
            unpaired["other_model"] += 1
        rows += [_pair(told[r], told[w], float(values[r] - values[w])) for r, w in made]
    if not rows:
        why = ", ".join(f"{count:,} {word}" for word, count in unpaired.most_common())
        fix = "; let pairs be of two models with --across-models" if unpaired["other_model"] else ""
        raise UsageError(f"no prompt has a pair: {why}; sample more outputs of each prompt{fix}")
    longer = [len(row["chosen"]) > len(row["rejected"]) for row in rows if len(row["chosen"]) != len(row["rejected"])]
    stale = Counter(row["policy"] for row in rows if policy is not None and row["policy"] != policy)
    return pa.Table.from_batches([batch_of(rows, SCHEMAS["preference"])]), {
        "prompts": len(rollouts.members()),
        "pairs": len(rows),
        "prompts_without_pair": dict(unpaired),
        "longer_is_chosen": sum(longer) / len(longer) if longer else None,
        "policies": dict(Counter(row["policy"] for row in rows)),
        "other_policy": stale.total(),
    }


def _matched(
    right: Sequence[int], wrong: Sequence[int], lengths: Mapping[int, int], models: Mapping[int, Any], most: int
) -> list[tuple[int, int]]:
    """Pairs of one model's outputs, the closest in length first; each output once."""
    near = sorted((abs(lengths[r] - lengths[w]), r, w) for r in right for w in wrong if models[r] == models[w])
    made: list[tuple[int, int]] = []
    used: set[int] = set()
    for _, r, w in near:
        if len(made) < most and not {r, w} & used:
            made.append((r, w))
            used |= {r, w}
    return made


def _pair(right: Row, wrong: Row, margin: float) -> Row:
    row = {name: right.get(name) for name in ("source_file", "source_row", "tags", "prompt", "tools", "reference")}
    models = sorted({str(each["model"] or "unknown") for each in (right, wrong)})
    row |= {"chosen": right["response"], "rejected": wrong["response"], "margin": margin, "policy": "+".join(models)}
    return {"id": row_id("preference", row), "copy": 0, "parents": [right["id"], wrong["id"]], **row}


def pick_labels(rollouts: Rollouts, solved: Solved) -> tuple[pa.Table, dict[str, Any]]:
    """Every judged output with a label: true where it is verified right. The summary recommends weights for KTO."""
    values = rollouts.scores(solved.score)
    judged = np.flatnonzero(~np.isnan(values))
    names = [name for name in SCHEMAS["label"].names if name not in ("id", "copy", "parents", "label")]
    copies: Counter[str] = Counter()
    rows = []
    for value, row in zip(values[judged], rollouts.table.take(judged).to_pylist(), strict=True):
        made = {name: row.get(name) for name in names}
        id, label = row_id("label", made), bool(value >= solved.least)
        rows.append({"id": id, "copy": copies[id], "parents": [row["id"]], **made, "label": label})
        copies[id] += 1
    good = sum(row["label"] for row in rows)
    return pa.Table.from_batches([batch_of(rows, SCHEMAS["label"])]), {
        "rows": len(rows),
        "unjudged": int(len(values) - len(judged)),
        "desirable": good,
        "undesirable": len(rows) - good,
        "weights": kto_weights(good, len(rows) - good),
    }


def kto_weights(desirable: int, undesirable: int) -> dict[str, float] | None:
    """Weights that bring the two classes to the ratio that KTO's authors advise, one of them 1; None with one class."""
    if not desirable or not undesirable:
        return None
    low, high = KTO_RATIO
    ratio = desirable / undesirable
    if low <= ratio <= high:
        return {"desirable_weight": 1.0, "undesirable_weight": 1.0}
    if ratio < low:
        return {"desirable_weight": round(low / ratio, 4), "undesirable_weight": 1.0}
    return {"desirable_weight": 1.0, "undesirable_weight": round(ratio / high, 4)}
