"""`gristmill show`: a few rows of a table, some kept and some dropped by each rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.errors import UsageError

if TYPE_CHECKING:
    import daft
    from rich.text import Text

Groups = dict[str | None, list[dict[str, Any]]]


def show(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="A table, or an output directory of gristmill filter.")
    ],
    rows: Annotated[int, typer.Option("-n", min=1, help="Rows of each kind: kept, and dropped by each rule.")] = 3,
    rule: Annotated[str | None, typer.Option("--rule", metavar="NAME", help="Only rows this rule dropped.")] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Only kept rows.")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="Only dropped rows.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Do not cut long texts.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show a few rows: the ones with the smallest ids, so always the same."""
    import json

    from gristmill.cli.terminal import show_lines

    groups = samples(table, rows)
    if rule is not None and rule not in groups:
        allowed = ", ".join(sorted(name for name in groups if name)) or "none: no row was dropped"
        raise UsageError(f"--rule {rule}: dropped no row of {table}; rules that did: {allowed}")
    if rule is not None:
        groups = {rule: groups[rule]}
    elif kept != dropped:
        groups = {name: found for name, found in groups.items() if (name is None) == kept}
    if as_json:
        typer.echo(json.dumps({name or "kept": found for name, found in groups.items()}, default=str))
    else:
        show_lines(lines(groups, full=full))


def samples(path: Path, most: int) -> Groups:
    """Up to `most` rows of each kind, by drop rule (None: kept), smallest id first.

    Raises UsageError if there is no such file.
    """
    from gristmill.lookup import columns_of, fetch, smallest

    if path.is_dir() and (path / "rows.parquet").is_file():
        path = path / "rows.parquet"
    if not path.exists():
        raise UsageError(f"{path}: no such file or directory; name a table, or an output directory of gristmill filter")
    if path.is_file() and path.suffix == ".parquet" and {"id", "copy", "prompt"} <= set(columns_of(path)):
        keys = smallest(path, most)
        rows = fetch(path, [key for found in keys.values() for key in found])
        ordered = sorted(keys, key=lambda rule: (rule is not None, rule or ""))
        return {rule: [rows[key] for key in keys[rule]] for rule in ordered}
    return {None: _table(path).sort(["id", "copy"]).limit(most).to_pylist()}


def _table(path: Path) -> daft.DataFrame:
    """Any other file, through the reader."""
    from gristmill.files import read

    return read(str(path))


def lines(groups: Groups, *, full: bool = False) -> list[Text | str]:
    """Rows by drop rule as lines for a terminal."""
    from rich.text import Text

    from gristmill.cli.terminal import body, title
    from gristmill.wording import answers, key_text, prompt_text, told, verdict, visible

    out: list[Text | str] = []
    for rule, rows in groups.items():
        out.append(title(f"dropped by {rule}" if rule else "kept" if rows else "kept: none"))
        for row in rows:
            key = key_text(row["id"], row["copy"])
            place = visible(f"\n{key}  {row['source_file']}:{row['source_row']}".lstrip("\n"), one_line=True)
            out.append(Text(place, style="cyan"))
            if rule:
                out.append(Text("  " + visible(verdict(row), one_line=True), style="red"))
                if facts := told(row):
                    out.append(body(facts, full, 300))
            for name, text in {"prompt": prompt_text(row), **answers(row)}.items():
                out.append(Text(f"  {name}", style="dim"))
                out.append(body(text, full, 400))
    return out or ["no rows"]
