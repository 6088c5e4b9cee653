"""Pairs judged a second by the score `math`, on one core, against math-verify and TRL's accuracy reward.

`python bench/score_math.py [PAIRS]` (how many of the hard pairs; all by default).

- GSM8K: 3,060 recorded solutions with the worked references (OpenAI's `gsm8k_rollouts`). math-verify is given only the
  reference's number and the last line, which it reads faster than the whole.
- Hard: different final answers of the MATH rollouts of `evaltree_math_rollouts` against their references, each side as
  `\\boxed{}`, references set as formulas. The peer is `accuracy_reward` as of TRL 1.16
  (https://github.com/huggingface/trl/blob/v1.16.0/trl/rewards/accuracy_rewards.py): TRL's own where it is installed,
  else its two calls of math-verify with the same arguments.

Seconds are those of the processor, workers included (their start and the untimed pairs are taken off). Exits 1 if a
target is missed or GSM8K is not judged as OpenAI judged it.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before the workers count the cores

from data import rows, table
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from gristmill.score import workers
from gristmill.score.math_answer import of_response
from gristmill.score.named import score
from gristmill.score.score import Item, Verdict

TIMES_MATH_VERIFY, TIMES_TRL = 30, 5


WARM = 200
"""Hard pairs that each side judges first, untimed: the parser of formulas that both use learns its grammar on them."""


def timed(work: Callable[[], list[Any]]) -> tuple[list[Any], float]:
    """What it gives, and the seconds of processor that this process and the workers that it ended took."""
    started = seconds()
    done = work()
    return done, seconds() - started


def seconds() -> float:
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def trl() -> tuple[str, Callable[[Sequence[str], Sequence[str]], list[float | None]]]:
    try:
        from trl.rewards import accuracy_reward
    except ImportError:
        return "TRL's calls of math-verify", lambda texts, golds: list(map(like_trl, texts, golds))
    return "TRL accuracy_reward", lambda texts, golds: accuracy_reward([[{"content": t}] for t in texts], list(golds))


def like_trl(text: str, gold: str) -> float | None:
    """What `accuracy_reward` does with one completion on the main thread."""
    wanted = parse(gold, parsing_timeout=10)
    if not wanted:
        return None
    config = LatexExtractionConfig(
        normalization_config=NormalizationConfig(units=True), boxed_match_priority=0, try_extract_without_anchor=False
    )
    given = parse(text, extraction_config=[config], extraction_mode="first_match", parsing_timeout=10)
    return float(verify(wanted, given, timeout_seconds=5))


def gsm8k() -> tuple[list[object], bool]:
    data = rows("gsm8k_rollouts/example_model_solutions")
    items = [Item(row["solution"], row["ground_truth"]) for row in data]
    ours, our_seconds = timed(lambda: score("math")(items))
    last = [(row["ground_truth"].split("A: ")[-1], row["solution"].split("\n")[-1][-60:]) for row in data[:600]]
    theirs, their_seconds = timed(lambda: [float(verify(parse(gold), parse(line))) for gold, line in last])
    right = [float(row["is_correct"]) for row in data]
    our_rate, their_rate = len(items) / our_seconds, len(last) / their_seconds
    agree = sum((verdict.value == 1) == bool(truth) for verdict, truth in zip(ours, right, strict=True))
    their_agree = sum(one == truth for one, truth in zip(theirs, right[:600], strict=True))
    met = our_rate >= TIMES_MATH_VERIFY * their_rate and agree == len(items)
    line = ["GSM8K", f"{len(items):,}", f"{our_rate:,.0f}", "math-verify", f"{their_rate:,.0f}"]
    line += [f"{our_rate / their_rate:.1f}", TIMES_MATH_VERIFY, f"{agree / len(items):.2%}"]
    return [*line, f"{their_agree / len(last):.2%}"], met


def hard(most: int | None) -> tuple[list[object], bool, list[str]]:
    problems = {row["math_row"]: row for row in rows("evaltree_math_rollouts/problems")}
    pairs: dict[tuple[str, str], str] = {}
    for row in rows("evaltree_math_rollouts/rollouts_1000x8"):
        found = of_response(row["generation"])
        if found and found.rule == "box" and found.text and len(found.text) < 200:
            problem = problems[row["math_row"]]
            pairs[problem["boxed_gold"], found.text] = problem["problem"]
    chosen = list(pairs.items())[:most]
    texts = [rf"\boxed{{{answer}}}" for (_, answer), _ in chosen]
    golds = [f"${gold}$" for (gold, _), _ in chosen]
    name, reward = trl()
    reward(texts[:WARM], golds[:WARM])
    made = score("math")
    items = [
        Item(text, gold, [{"role": "user", "content": question}])
        for text, gold, (_, question) in zip(texts, golds, chosen, strict=True)
    ]

    def ours_of(items: Sequence[Item]) -> list[Verdict]:
        verdicts = made(items)
        workers.close()  # so that its time is known
        return verdicts

    _, start_seconds = timed(lambda: ours_of(items[:WARM]))
    ours, our_seconds = timed(lambda: ours_of(items))
    theirs, their_seconds = timed(lambda: reward(texts[WARM:], golds[WARM:]))
    ours, our_seconds = ours[WARM:], our_seconds - start_seconds
    differ = [
        f"theirs {other}, ours {mine.verdict}: {mine.why}"
        for mine, other in zip(ours, theirs, strict=True)
        if mine.value != other
    ]
    our_rate, their_rate = len(ours) / our_seconds, len(ours) / their_seconds
    line = ["hard answers", f"{len(ours):,}", f"{our_rate:,.0f}", name, f"{their_rate:,.0f}"]
    line += [f"{our_rate / their_rate:.1f}", TIMES_TRL, f"{1 - len(differ) / len(ours):.2%} as theirs", ""]
    return line, our_rate >= TIMES_TRL * their_rate, differ


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else None
    first, first_met = gsm8k()
    second, second_met, differ = hard(most)
    header = ["set", "pairs", "ours, pairs/s", "peer", "peer, pairs/s", "times", "target", "ours right", "peer right"]
    table(header, [first, second])
    for kind in differ:
        print(f"- {kind}")
    sys.exit(not (first_met and second_met))


if __name__ == "__main__":
    main()
