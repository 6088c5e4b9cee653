"""`gristmill demo`: the filter on bundled real data, with no key, GPU or network."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Directory to write.")] = Path(
        "gristmill-demo"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace DIR whatever it holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Mill GSM8K training rows and the solutions of four models against GSM8K test questions."""
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
    typer.echo(json.dumps(summary) if as_json else printed(summary, out, settings))
    if not as_json:
        for rule, row in _one_per_rule(out).items():
            typer.echo(f"  gristmill why {row} --run {out}   # {rule}")


def _one_per_rule(out: Path) -> dict[str, str]:
    """A row of each drop rule, by the beginning of its id: what to ask `why` about."""
    import pyarrow.parquet as pq

    table = pq.read_table(out / "rows.parquet", columns=["drop_rule", "id"]).sort_by("id")
    rows = zip(table["drop_rule"].to_pylist(), table["id"].to_pylist(), strict=True)
    return dict(sorted((rule, row[:15]) for rule, row in rows if rule))
