"""`gristmill demo`: the filter on bundled real data, with no key, GPU or network."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer


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
    if loop and all(map(find_spec, ("torch", "transformers"))):
        summary |= _looped(out, seed, quiet=as_json)
    elif not as_json:
        typer.echo("the loop on the embedded model needs torch: pip install 'gristmill[train]'")
    if as_json:
        typer.echo(json.dumps(summary))


def _looped(out: Path, seed: int, *, quiet: bool) -> dict[str, Any]:
    """The claims on the embedded model, printed and added to the summary."""
    from gristmill.loop.demo import countering, filtering, words
    from gristmill.run import Run

    def say(what: str) -> None:
        typer.echo(what, err=True)

    place = out.with_name(f"{out.name}-loop") / f"seed-{seed}"
    run = Run(place / "run")
    found = {
        "filtering": filtering(place / "filtering", run=run, seed=seed, say=say),
        "countering": countering(place / "countering", run=run, seed=seed, say=say),
    }
    told = words(found["filtering"], found["countering"])
    (place / "claims.txt").write_text("\n".join(told) + "\n", encoding="utf-8")
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8")) | {"seed": seed, **found}
    (out / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    if not quiet:
        typer.echo("\n".join(told))
    return found


def _one_per_rule(out: Path) -> dict[str, str]:
    """A row of each drop rule, by the beginning of its id: what to ask `why` about."""
    import pyarrow.parquet as pq

    table = pq.read_table(out / "rows.parquet", columns=["drop_rule", "id"]).sort_by("id")
    rows = zip(table["drop_rule"].to_pylist(), table["id"].to_pylist(), strict=True)
    return dict(sorted((rule, row[:15]) for rule, row in rows if rule))
