"""Vote on tables: every row learns the share of its answer, and of each prompt one row is kept, or all that agree.

Nothing is deleted: OUT holds all rows, those that lost with the reason (`drop_rule`), so that later verbs see one row a
prompt and `gristmill why` and `show` tell what the others said. docs/vote.md has the columns.

Not covered: tables whose responses do not fit into memory.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import orjson
import pyarrow as pa

from gristmill import __version__
from gristmill.beside import beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.files import BAD, ORDER, batches, check_bad
from gristmill.filter.marks import evidence
from gristmill.parquet import Writer, check_replaceable, marked
from gristmill.progress import Stages
from gristmill.records import DROPS, row_id
from gristmill.run import Run, peak_rss_mb
from gristmill.score.cache import Scores, cached
from gristmill.score.final import final_answer
from gristmill.score.pipeline import BadRows, items_of, with_copies
from gristmill.score.score import Item, Score
from gristmill.score.text import answer_of
from gristmill.score.vote import Vote, same_by, votes

Keep = Literal["one", "agreeing", "all"]

HALF = 0.5
"""The value of a check from which on it says right."""
SHOWN_CHARACTERS = 100
SHOWN = 20
"""Prompts that the summary names where a verifier disagrees with the majority."""


ADDED = pa.schema(
    [
        ("score_vote", pa.float64()),
        ("verdict_vote", pa.large_string()),
        ("why_vote", pa.large_string()),
        ("flag_vote", pa.large_string()),
        *DROPS,
    ]
)
"""The columns that a vote adds."""


def vote_files(
    paths: str | Sequence[str],
    by: Score,
    out: Path,
    *,
    run: Run,
    min_share: float = 0.0,
    keep: Keep = "one",
    check: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Vote among the responses to each prompt (its messages and tools), write all rows to `out`, return the summary.

    Verdicts of the verifier `by` are remembered in the run; the other parameters are those of `vote_table`. Raises
    UsageError, and BadInput for too many bad rows.
    """
    check_replaceable(out, "vote", force=force)
    started, stages, cache, bad = time.monotonic(), Stages(say), Scores(run.path), BadRows()
    kind, _, read = batches(paths, columns=columns, limit=limit)
    if kind not in ("sample", "label"):
        raise UsageError(f"vote: these are {kind} rows, which have no response; name a column with --map response=…")
    stages.begin("read")
    copies: Counter[str] = Counter()
    table = pa.concat_tables(with_copies(pa.Table.from_batches([bad.set_aside(batch)]), copies) for batch in read)
    check_bad(bad.count, len(table) + bad.count, max_bad, first=bad.first[0] if bad.first else None)
    stages.end(f"{len(table):>11,} rows")
    stages.begin("vote")
    first = ["id", "copy"]
    table = table.select(first + [name for name in table.column_names if name not in (*first, ORDER, BAD)])
    table, told = vote_table(table, cached(by, cache), min_share=min_share, keep=keep, check=check)
    with space_wanted("the output", out), beside(out) as partial:
        with Writer(partial / out.name, marked(table.schema)) as writer:
            writer.write(table)
        params = {"inputs": [paths] if isinstance(paths, str) else list(paths), "by": by.name, "min_share": min_share}
        counts = {"rows_in": len(table), "rows_kept": told["rows_kept"]}
        run.output(out, "vote", params=params, counts=counts, beside=partial / out.name)
    stages.end(f"{told['prompts']:>11,} prompts")
    return {
        "gristmill": __version__,
        "rows_bad": bad.count,
        "bad_rows": bad.first,
        **told,
        "seconds": round(time.monotonic() - started, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def vote_table(
    table: pa.Table, by: Score, *, min_share: float = 0.0, keep: Keep = "one", check: str | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """A SAMPLE or LABEL table with the columns of `ADDED`, and what there is to tell.

    `by` tells equal answers; `min_share` (0 to 1) is the share below which a prompt has no answer. Of the rows with the
    answer of their prompt `keep` keeps `one` (of the smallest (`id`, `copy`)) or all of them (`agreeing`); `all` drops
    no row. `check` is the score column of a verifier to compare the answers with. Raises UsageError.
    """
    if keep not in get_args(Keep):
        raise UsageError(f"--keep {keep}: allowed are {', '.join(get_args(Keep))}")
    if not 0 <= min_share <= 1:
        raise UsageError(f"--min-share {min_share}: allowed is 0 to 1")
    if check is not None and not (check in table.column_names and check.startswith("score_")):
        raise UsageError(
            f"--check {check}: no such score; run `gristmill score` first, and name its column: score_NAME"
        )
    table = table.drop_columns([name for name in ADDED.names if name in table.column_names])
    items, keys = items_of(table), list(zip(table["id"].to_pylist(), table["copy"].to_pylist(), strict=True))
    groups = [
        row_id("prompt", {"prompt": prompt, "tools": tools})
        for prompt, tools in zip(table["prompt"].to_pylist(), table["tools"].to_pylist(), strict=True)
    ]
    found = votes(items, groups, keys, same_by(by), min_share=min_share)
    answers = [_shown(item) for item in items]
    checked = table[check].to_pylist() if check else [None] * len(items)
    added = [
        (
            vote.share,
            vote.verdict,
            _why(vote, answers),
            _flag(vote, checked, check),
            *_drop(row, vote, answers, keys, keep, min_share),
        )
        for row, vote in enumerate(found)
    ]
    for field, values in zip(ADDED, zip(*added, strict=True) if added else [()] * len(ADDED), strict=True):
        table = table.append_column(field, pa.array(values, field.type))
    told = {
        "rows": len(table),
        "rows_kept": table["drop_rule"].null_count,
        "dropped": dict(Counter(table["drop_rule"].drop_null().to_pylist()).most_common()),
        **_counted(found, groups),
    }
    return table, told | ({"check": _compared(found, checked, items, answers) | {"column": check}} if check else {})


def _shown(item: Item) -> str:
    return " ".join(final_answer(answer_of(item)).split())[:SHOWN_CHARACTERS]


def _why(vote: Vote, answers: Sequence[str]) -> str | None:
    if vote.first is None:
        return None
    return orjson.dumps({"answer": answers[vote.first], "votes": vote.votes, "samples": vote.samples}).decode()


def _flag(vote: Vote, checked: Sequence[float | None], check: str | None) -> str | None:
    """Marks an answer of the majority that the verifier holds for wrong."""
    value = checked[vote.winner] if vote.verdict == "majority" and vote.winner is not None else None
    return f"misconception: {check} is {value:g}" if value is not None and value < HALF else None


def _drop(
    row: int,
    vote: Vote,
    answers: Sequence[str],
    keys: Sequence[tuple[str, int]],
    keep: Keep,
    min_share: float,
) -> tuple[str | None, float | None, float | None, str | None]:
    if keep == "all" or (vote.verdict == "majority" and (keep == "agreeing" or row == vote.winner)):
        return None, None, None, None
    if vote.winner is None:
        limit = min_share if vote.verdict == "below_share" else None
        return f"vote_{vote.verdict}", vote.share, limit, evidence(votes=vote.votes, samples=vote.samples)
    rule = "agreed" if vote.verdict == "majority" else vote.verdict
    id, copy = keys[vote.winner]
    return rule, vote.share, None, evidence(answer=answers[vote.winner], kept=id, copy=copy)


def _counted(found: Sequence[Vote], groups: Sequence[str]) -> dict[str, Any]:
    """How many prompts have an answer, and why the others have none."""
    best: dict[str, Vote] = {}
    for vote, group in zip(found, groups, strict=True):
        if group not in best or RANK.index(vote.verdict) < RANK.index(best[group].verdict):
            best[group] = vote
    shares = [vote.share for vote in best.values() if vote.verdict == "majority" and vote.share is not None]
    return {
        "prompts": len(best),
        "verdicts": dict(Counter(vote.verdict for vote in best.values()).most_common()),
        "mean_share": sum(shares) / len(shares) if shares else None,
        "single": sum(vote.samples == 1 for vote in best.values()),
    }


RANK = ("majority", "tie", "below_share", "outvoted", "no_answer", "no_response")
"""The verdict of a prompt is the first of these that one of its rows has."""


def _compared(
    found: Sequence[Vote], checked: Sequence[float | None], items: Sequence[Item], answers: Sequence[str]
) -> dict[str, Any]:
    """The majority against a verifier: how often each is right, and where all but the verifier agree."""
    samples = [value >= HALF for value in checked if value is not None]
    winners = {row: vote for row, vote in enumerate(found) if vote.winner == row}
    judged = {row: value >= HALF for row in winners if (value := checked[row]) is not None}
    wrong = [row for row, right in judged.items() if not right]
    return {
        "samples_right": sum(samples) / len(samples) if samples else None,
        "majority_right": sum(judged.values()) / len(judged) if judged else None,
        "majority_judged": len(judged),
        "misconceptions": len(wrong),
        "first": [
            {"prompt": items[row].question[:200], "answer": answers[row], "share": winners[row].share}
            for row in sorted(wrong, key=lambda row: -(winners[row].share or 0))[:SHOWN]
        ],
    }
