"""`gristmill score`: judge every row by verifiers, judges and functions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs, share

if TYPE_CHECKING:
    from collections.abc import Mapping

WEAK = re.compile("code(,|$)")
"""The scores that --allow-weak-sandbox is for."""


def score(
    inputs: options.Inputs,
    *,
    by: Annotated[
        list[str],
        typer.Option("--with", metavar="SCORE", help="NAME[:ARGUMENT][,PARAMETER=VALUE], FILE.py:FUNCTION. Repeat."),
    ],
    out: options.OutTable,
    column_map: options.ColumnMap = None,
    limit: options.Limit = None,
    max_bad: options.MaxBad = "1%",
    max_cost: options.MaxCost = None,
    max_tokens_total: options.MaxTokensTotal = None,
    max_failures: options.MaxFailures = "10%",
    allow_weak_sandbox: Annotated[
        bool, typer.Option("--allow-weak-sandbox", help="Let `code` run programs where no sandbox can be had.")
    ] = False,
    strict_gold: Annotated[
        bool, typer.Option("--strict-gold", help="First check every reference; exit 1 naming those of no use.")
    ] = False,
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Judge every row by each score: a number or none, one word, and the evidence.

    A verdict is reached once: what the run knows is not judged again. `none` means it could not be judged, never 0.
    """
    from gristmill.models.budget import Budget
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.score.named import scores as named
    from gristmill.score.pipeline import score_files

    asked = [f"{each},weak=true" if allow_weak_sandbox and WEAK.match(each) else each for each in by]
    scores = [score for each in asked for score in named(each)]
    with shown() as say:
        summary = score_files(
            inputs,
            scores,
            out,
            run=Run(run),
            columns=pairs("--map", column_map),
            limit=limit,
            max_bad=share("--max-bad", max_bad, zero=True),
            max_failures=share("--max-failures", max_failures, zero=True),
            strict_gold=strict_gold,
            budget=Budget(max_cost, max_tokens_total) if max_cost is not None or max_tokens_total else None,
            force=force,
            say=say,
        )
    typer.echo(json.dumps(summary) if as_json else _printed(summary, out))


def _printed(summary: Mapping[str, Any], out: Path) -> str:
    from gristmill.score.judge_report import words_of

    lines = []
    for name, told in summary["scores"].items():
        mean = "none judged" if told["mean"] is None else f"mean {told['mean']:.4f} of {told['judged']:,} judged"
        words = ", ".join(f"{count:,} {word}" for word, count in told["verdicts"].items())
        where = told["parameters"].get("isolation")
        lines += [f"{name:<16} isolation: {where}"] if where else []
        lines.append(f"{name:<16} {mean}: {words}; {told['cache_hits']:,} known before")
        lines += [f"  {line}" for line in missing(told["verdicts"])]
        lines += [f"  {line}" for line in words_of(told.get("report") or {})]
    bad = f" ({summary['rows_bad']:,} bad rows set aside)" if summary["rows_bad"] else ""
    return "\n".join([*lines, f"{summary['rows']:,} rows{bad} in {out}"])


def missing(verdicts: Mapping[str, int]) -> list[str]:
    """What to do where no row could be judged for want of a column."""
    for verdict, column in (("no_response", "response"), ("no_reference", "reference")):
        if verdicts and verdicts.keys() == {verdict}:
            return [f"no row has a {column}: name the column that holds it with --map {column}=COLUMN"]
    return []
