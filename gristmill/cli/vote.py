"""`gristmill vote`: the answer that most responses to a prompt give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs, share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gristmill.score.vote_files import Keep


def vote(
    inputs: options.Inputs,
    *,
    out: options.OutTable,
    by: Annotated[
        str,
        typer.Option(metavar="SCORE", help="Which answers are equal: answer, exact, choice, FILE.py:FUNCTION, …"),
    ] = "answer",
    min_share: Annotated[
        str, typer.Option(metavar="SHARE", help="Of a prompt's responses that its answer must have.")
    ] = "0%",
    keep: Annotated[
        str, typer.Option(metavar="WHICH", help="Of the rows with the answer: one, agreeing; or all rows.")
    ] = "one",
    check: Annotated[
        str | None, typer.Option(metavar="score_NAME", help="A verifier's column to compare the answers with.")
    ] = None,
    column_map: options.ColumnMap = None,
    limit: options.Limit = None,
    max_bad: options.MaxBad = "1%",
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Keep, of several responses to each prompt, one with the answer that most of them give.

    All rows are written, the others with the reason why they were dropped; score_vote is the share of a row's answer.
    """
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.score.named import score as named
    from gristmill.score.vote_files import vote_files

    with shown() as say:
        summary = vote_files(
            inputs,
            named(by),
            out,
            run=Run(run),
            min_share=share("--min-share", min_share, zero=True),
            keep=cast("Keep", keep),
            check=check,
            columns=pairs("--map", column_map),
            limit=limit,
            max_bad=share("--max-bad", max_bad, zero=True),
            force=force,
            say=say,
        )
    typer.echo(json.dumps(summary) if as_json else _printed(summary, out))


def _printed(summary: Mapping[str, Any], out: Path) -> str:
    words = ", ".join(f"{count:,} {word}" for word, count in summary["verdicts"].items())
    mean = "" if summary["mean_share"] is None else f"; the answers have {summary['mean_share']:.0%} of the responses"
    lines = [f"{summary['prompts']:,} prompts: {words}{mean}"]
    if summary["single"]:
        lines.append(f"{summary['single']:,} prompts have one response, which always wins")
    if check := summary.get("check"):
        if check["majority_right"] is None:
            lines.append(f"{check['column']} has judged none of the answers")
        else:
            lines.append(
                f"{check['column']}: {check['samples_right']:.1%} of the responses are right, "
                f"{check['majority_right']:.1%} of {check['majority_judged']:,} answers"
            )
        if check["misconceptions"]:
            lines.append(
                f"warning: by {check['column']} the answer of most is wrong for {check['misconceptions']:,} prompts: a "
                "shared misconception, or a wrong reference (rows with flag_vote)"
            )
    bad = f" ({summary['rows_bad']:,} bad rows set aside)" if summary["rows_bad"] else ""
    return "\n".join([*lines, f"{summary['rows_kept']:,} of {summary['rows']:,} rows kept{bad} in {out}"])
