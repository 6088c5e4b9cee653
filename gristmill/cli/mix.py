"""`gristmill mix`: sources into one set, in the shares that a file says; and those shares, tuned by evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli.filter import share

if TYPE_CHECKING:
    from collections.abc import Mapping


def mix(
    file: Annotated[Path, typer.Argument(metavar="MIX.yaml", help="The mix; gristmill init mix writes an example.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A .parquet file, or a directory of parts.")],
    rows: Annotated[int | None, typer.Option(min=1, help="The size of the mix, whatever the file says.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another draw than the file's.")] = None,
    max_bad: Annotated[str, typer.Option(metavar="SHARE", help="Rows of a source that may be unreadable.")] = "1%",
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Where sources are remembered.")] = Path(
        "gristmill-run"
    ),
    runner: Annotated[str, typer.Option(metavar="native|ray[:ADDRESS]", help="Where the work runs.")] = "native",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT whatever it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Mix sources in exact shares: by rows or tokens, with repeats, caps, strata, a floor of general data.

    The same file, seed and sources give the same rows in the same order, on either runner.
    """
    from gristmill.mix.mix_file import read_mix
    from gristmill.mix.pipeline import mix_files
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.runner import use_runner

    wanted = read_mix(file)
    if rows is not None:
        wanted = wanted.model_copy(update={"rows": rows, "tokens": None, "by": "rows"})
    if seed is not None:
        wanted = wanted.model_copy(update={"seed": seed})
    use_runner(runner)
    with shown() as say:
        summary = mix_files(
            wanted, out, run=Run(run), max_bad=share("--max-bad", max_bad, zero=True), force=force, say=say
        )
    typer.echo(json.dumps(summary) if as_json else "\n".join(_printed(summary, out)))


def _printed(summary: Mapping[str, Any], out: Path) -> list[str]:
    size = f"{summary['rows']:,} rows" + (f", {summary['tokens']:,} tokens" if "tokens" in summary else "")
    lines = [
        f"{size} in {out}: {summary['task_specific']:.1%} task-specific, {1 - summary['task_specific']:.1%} general"
    ]
    if summary["reasoning"] is not None:
        lines.append(f"{summary['reasoning']:.1%} with reasoning")
    width = max(len(each["name"]) for each in summary["sources"])
    for each in summary["sources"]:
        head = f"  {each['name']:<{width}}  {each['kind']:<10} {each['share']:>6.1%} {each['rows']:>11,} rows"
        lines.append(f"{head}  of {each['available']:,}" + (f"; {each['why']}" if each["why"] else ""))
        if each["rows_bad"]:
            lines.append(f"  {'':<{width}}  {each['rows_bad']:,} bad rows set aside")
    lines += [f"note: {note}" for note in summary["notes"]]
    return [*lines, f"{summary['seconds']} s, {summary['peak_rss_mb']:,.0f} MB at most"]
