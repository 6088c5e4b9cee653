"""`gristmill demo`: the filter on bundled real data and the loop on the embedded model; no key, GPU or network."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from gristmill.demo.claims import Claim


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Directory to write.")] = Path(
        "gristmill-demo"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace DIR whatever it holds.")] = False,
    seed: Annotated[int, typer.Option(help="Decides every figure of the embedded model.")] = 0,
    loop: Annotated[bool, typer.Option("--loop/--no-loop", help="The embedded model too, where torch is.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Mill GSM8K training rows and the solutions of four models; then, with the extra `train`, close the loop on the
    embedded model: does filtering help, do counterexamples, and is forgetting caught?
    """
    from gristmill.cli.filter import printed
    from gristmill.filter.pipeline import Settings, filter_files
    from gristmill.progress import shown
    from gristmill.train.tiny.make import NEEDED

    place = (out if out.name else out.absolute()).with_name(f"{out.absolute().name}-loop")
    there = all(map(find_spec, NEEDED))
    if loop and there:
        from gristmill.demo.trial import check_out

        check_out(place, force=force)
    with as_file(files("gristmill") / "data") as data:
        # The solutions come with their authors' verdict; training answers have none and are right by construction.
        # Models word one solution in many ways, so near begins at 0.6 here.
        against = [str(data / "gsm8k_test_half.jsonl.zst")]
        settings = Settings(against=against, minimum={"correct": 1.0}, keep_unjudged=True, near=0.6)
        inputs = [str(data / "gsm8k_train.jsonl.zst"), str(data / "gsm8k_solutions.jsonl.zst")]
        with shown() as say:
            summary = filter_files(inputs, out, settings, force=force, say=say)
    if not as_json:
        typer.echo(printed(summary, out, settings))
        for rule, row in _one_per_rule(out).items():
            typer.echo(f"  gristmill why {row} --run {out}   # {rule}")
    if loop and there:
        summary = _looped(out, place, seed, quiet=as_json)
    elif loop and not as_json:
        typer.echo("the loop on the embedded model needs torch: pip install 'gristmill[train]'")
    if as_json:
        typer.echo(json.dumps(summary))


def _looped(out: Path, place: Path, seed: int, *, quiet: bool) -> dict[str, Any]:
    """Try the claims on the embedded model in `place`; they join the summary and the report of `out`. Returns the
    summary."""
    from rich.text import Text

    from gristmill.cli.terminal import show_lines
    from gristmill.demo.claims import claims
    from gristmill.demo.trial import tried
    from gristmill.report.html import write_report

    typer.echo(f"the loop on the embedded model, seed {seed}, in {place}", err=True)
    found = tried(place, seed)
    told = claims(found["filtering"], found["countering"])
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    summary |= {"seed": seed, **found, "claims": [claim._asdict() for claim in told]}
    (out / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    write_report(out)
    if not quiet:
        for claim in told:
            show_lines([Text(f"\n{claim.title}"), _table(claim), *(f"  - {said}" for said in claim.sentences)])
        filtered = place / "filtering" / "filtered"
        typer.echo(f"\nreport: {out / 'report.html'}   why a candidate: gristmill why ID --run {filtered}")
    return summary


def _table(claim: Claim) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for place, name in enumerate(claim.columns):
        table.add_column(name, justify="right" if place else "left")
    for row in claim.rows:
        table.add_row(*map(Text, row))
    return table


def _one_per_rule(out: Path) -> dict[str, str]:
    """A row of each drop rule, by the beginning of its id: what to ask `why` about."""
    import pyarrow.parquet as pq

    table = pq.read_table(out / "rows.parquet", columns=["drop_rule", "id"]).sort_by("id")
    rows = zip(table["drop_rule"].to_pylist(), table["id"].to_pylist(), strict=True)
    return dict(sorted((rule, row[:15]) for rule, row in rows if rule))
