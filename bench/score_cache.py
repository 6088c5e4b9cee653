"""The score cache: verdicts that are known, a second, in batches, through the public API.

    python bench/score_cache.py [ROWS]

Rows have a GSM8K-like question, solution and gold answer; the cache holds them all. Hits are timed by wall and by CPU
time of this process, misses once with a score that costs nothing, so that what is measured is the cache.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from gristmill.score.cache import Scores, cached
from gristmill.score.score import Item, Score, Verdict, each

BATCH = 8_192
QUESTION = "A train leaves with {n} passengers and picks up three times as many on its way; how many are on it then? "
SOLUTION = "It has {n} passengers, and three times as many are 3 * {n}. Together that is {n} * 4. #### {m}"


def right(_: Item) -> Verdict:
    return Verdict(1.0, "correct", "72 = 72")


def items(rows: int) -> list[Item]:
    return [
        Item(
            SOLUTION.format(n=n, m=4 * n) * 2,
            str(4 * n),
            [{"role": "user", "content": QUESTION.format(n=n) * 2, "extra": None}],
        )
        for n in range(rows)
    ]


def timed(score: Score, made: list[Item]) -> tuple[float, float]:
    """Rows a second, by wall and by CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(made), BATCH):
        score(made[start : start + BATCH])
    return len(made) / (time.perf_counter() - wall), len(made) / (time.process_time() - cpu)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    made = items(rows)
    with tempfile.TemporaryDirectory() as place:
        score = cached(Score("right", "1", partial(each, right)), Scores(Path(place)))
        for name in ("misses", "hits", "hits again"):
            wall, cpu = timed(score, made)
            print(f"{name:<11} {wall:>9,.0f} a second ({cpu:,.0f} a second of CPU)")
        size = (Path(place) / "scores.sqlite").stat().st_size
        print(f"{rows:,} rows, {size / rows:.0f} bytes a verdict")


if __name__ == "__main__":
    main()
