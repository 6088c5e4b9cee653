"""`gristmill export`: a table as the file that a trainer reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.filter import pairs, share


def export(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help="Files, directories, globs or URLs of rows.")],
    *,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="trl-sft, trl-preference, trl-kto, verl, openai-sft, …")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A .jsonl or .parquet file.")],
    reasoning: Annotated[
        str, typer.Option(metavar="WHERE", help="think (in tags), field (reasoning_content) or drop.")
    ] = "think",
    card: Annotated[bool, typer.Option("--card", help="Write a dataset card beside it.")] = False,
    column_map: Annotated[
        list[str] | None, typer.Option("--map", metavar="OURS=THEIRS", help="Name a column. Repeat.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N rows.")] = None,
    max_bad: Annotated[str, typer.Option(metavar="SHARE", help="Rows that may be set aside.")] = "1%",
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Where it is noted.")] = Path("gristmill-run"),
    force: Annotated[bool, typer.Option("--force", help="Replace OUT whatever it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
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
