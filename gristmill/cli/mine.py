"""`gristmill mine`: what goes wrong, in clusters, the worst first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs, share, solved_by
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def mine(
    evals: Annotated[list[str], typer.Argument(metavar="EVALS...", help="Scored tables: files, directories, globs.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.parquet", help="The table of clusters.")],
    solved: Annotated[
        str | None, typer.Option(metavar="SCORE[>=X]", help="What counts as right; needed where there are several.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Cluster this text: prompt, response, reference, tags, a field. Repeat."),
    ] = None,
    embeddings: Annotated[str | None, typer.Option(metavar="FIELD", help="Cluster these vectors too.")] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", "--slices", metavar="FIELD", help="Slice by this field (or tags) alone. Repeat."),
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="FIELD", help="Leave this field out. Repeat.")] = None,
    depth: Annotated[int, typer.Option(min=1, max=3, help="Predicates of a slice at most.")] = 2,
    least: Annotated[
        int | None, typer.Option(min=2, help="Items of a cluster at least; default 5 to 10, by the items.")
    ] = None,
    level: Annotated[
        str, typer.Option(metavar="SHARE", help="Probability to report anything where there is nothing.")
    ] = "2%",
    teacher: Annotated[
        list[str] | None, typer.Option(metavar="EVALS", help="A teacher on the same items: its headroom. Repeat.")
    ] = None,
    edits: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="Names, severities, merges; default: beside OUT.")
    ] = None,
    name_with: Annotated[
        str | None, typer.Option("--name-with", metavar="MODEL", help="Let a model name them.")
    ] = None,
    models: options.ModelsFile = None,
    seed: Annotated[int, typer.Option(help="Of clusters, shuffles and halves.")] = 0,
    column_map: options.ColumnMap = None,
    limit: options.Limit = None,
    max_bad: options.MaxBad = "1%",
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Find what goes wrong: clusters of failures, ranked by frequency x severity x headroom / effort.

    Every factor is in the table and can be set by hand in the file of edits, which is applied again each time.
    """
    from gristmill.cli.asked import Models
    from gristmill.loop.mine import Mining
    from gristmill.loop.mine_files import mine_files
    from gristmill.models.budget import Budget
    from gristmill.models.calls import Calls
    from gristmill.progress import shown
    from gristmill.run import Run

    if edits is not None and not edits.is_file():
        raise UsageError(f"--edits {edits}: no such file; leave it out and one is written beside {out}")
    mining = Mining(
        texts=text,
        embeddings=embeddings,
        fields=None if slices is None else [name.removeprefix("slot_") for name in slices],  # as `eval` calls a slot
        ignore=[name.removeprefix("slot_") for name in ignore or ()],
        depth=depth,
        least=least,
        level=share("--level", level),
        seed=seed,
    )
    memory = Run(run)
    with Models(Calls(run), Budget(), file=models) as opened, shown() as say:
        summary = mine_files(
            evals,
            out,
            run=memory,
            mining=mining,
            solved=solved_by(solved) if solved else None,
            teacher=teacher or (),
            edits=edits,
            model=opened.open(name_with) if name_with else None,
            columns=pairs("--map", column_map),
            limit=limit,
            max_bad=share("--max-bad", max_bad, zero=True),
            force=force,
            say=say,
        )
    typer.echo(json.dumps(summary) if as_json else _printed(summary, out))


def _printed(summary: Mapping[str, Any], out: Path) -> str:
    """The clusters for a terminal."""
    items, failures = summary["items"], summary["failures"]
    lines = [f"{items:,} items, {failures:,.4g} fail ({summary['rate']:.1%}); {summary['looked_at']:,} sets looked at"]
    if summary["unjudged"]:
        lines.append(f"{summary['unjudged']:,} samples without a score, counted neither way")
    if summary["rows_bad"]:
        lines.append(f"{summary['rows_bad']:,} bad rows set aside; first: {summary['first_bad']}")
    if not summary["clusters"]:
        lines.append("no cluster: nothing fails more often than chance explains")
    for row in summary["clusters"]:
        lines += ["", *_cluster(row)]
    rest = summary["unclustered"]
    lines += ["", f"unclustered: {rest['failures']:,.4g} failures in {rest['items']:,} items"]
    if summary["edits_unknown"]:
        lines.append(f"warning: edits of {', '.join(summary['edits_unknown'])}: no such cluster now")
    return "\n".join([*lines, f"{len(summary['clusters'])} clusters in {out}; edit them in {summary['edits']}"])


def _cluster(row: Mapping[str, Any]) -> list[str]:
    from gristmill.wording import visible

    called = f"{row['model_name']} ({row['name']})" if row["model_name"] else row["name"]
    same = "" if row["stability"] is None else f", stability {row['stability']:.2f}"
    lines = [
        f"{row['rank']}. {visible(called, one_line=True)}  [{row['cluster']}]",
        f"   priority {row['priority']:.4f} = frequency {row['frequency']:.4f} × severity {row['severity']:g} × "
        f"headroom {row['headroom']:.2f} ÷ effort {row['effort']:g}",
        f"   {row['failures']:,.4g} of {row['items']:,} fail: {row['rate']:.0%} [{row['low']:.0%}, {row['high']:.0%}], "
        f"{row['rest']:.0%} outside all clusters; p {row['p_value']:.2g}{same}",
    ]
    if row["edited"]:
        lines.append(f"   edited: {', '.join(row['edited'])}")
    for sort, examples in row["examples"].items():
        for example in examples:
            key, text = (visible(example[name][:most], one_line=True) for name, most in (("key", 24), ("prompt", 100)))
            lines.append(f"   {'passes' if sort == 'neighbour' else sort:<10} {key}  {text}")
    return lines
