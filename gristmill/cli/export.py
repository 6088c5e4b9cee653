"""`gristmill export`: a table as the file that a trainer reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs, share


def export(
    inputs: options.Inputs,
    *,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="trl-sft, trl-preference, trl-kto, verl, openai-sft, …")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A .jsonl or .parquet file.")],
    reasoning: options.Reasoning = "think",
    card: Annotated[bool, typer.Option("--card", help="Write a dataset card beside it.")] = False,
    column_map: options.ColumnMap = None,
    limit: options.Limit = None,
    max_bad: options.MaxBad = "1%",
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Write rows as a trainer reads them, each checked first; what it cannot read is set aside with the reason.

    Rows that a filter dropped are left out.
    """
    from gristmill.export.pipeline import export_files
    from gristmill.progress import shown
    from gristmill.run import Run

    with shown() as say:
        summary = export_files(
            inputs,
            to,
            out,
            run=Run(run),
            reasoning=reasoning,  # type: ignore[arg-type]  # checked by export_files
            columns=pairs("--map", column_map),
            limit=limit,
            max_bad=share("--max-bad", max_bad, zero=True),
            with_card=card,
            force=force,
            say=say,
        )
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for reason, count in summary["reasons"].items():
        typer.echo(f"set aside  {count:,}: {reason}")
    card_line = f"; the card is {summary['card']}" if card else ""
    typer.echo(f"{summary['rows']:,} rows in {out} for {to}{card_line}")
