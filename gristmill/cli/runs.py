"""`gristmill runs`: what a run remembers, whether it is still what was written, and what may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import run_named
from gristmill.errors import Refused, UsageError

if TYPE_CHECKING:
    from rich.tree import Tree

    from gristmill.ledger import Ledger, Output, StepRecord
    from gristmill.upkeep import Pruned, Verified

Steps = dict[str, "StepRecord"]


def runs(
    directory: options.RunArgument = None,
    run: options.SameRun = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every stored file and derive every id again.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete superseded tables and leftovers.")] = False,
    every: Annotated[bool, typer.Option("--all", help="With --prune: the tables of every step.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --prune: only say what would go.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what came from what in a run, with sizes and times."""
    from gristmill.cli.terminal import show_lines
    from gristmill.ledger import ledger_of
    from gristmill.upkeep import prune as prune_run
    from gristmill.upkeep import verify as verify_run

    if verify and prune:
        raise UsageError("--verify and --prune: one at a time")
    if (every or dry_run) and not prune:
        raise UsageError(f"{'--all' if every else '--dry-run'}: only with --prune")
    where = run_named(directory, run)
    ledger = ledger_of(where)
    if verify:
        _verified(verify_run(where, ledger), as_json)
    elif prune:
        pruned = prune_run(where, ledger, every=every, dry_run=dry_run)
        typer.echo(_json_pruned(pruned) if as_json else _told_pruned(pruned, dry_run))
    elif as_json:
        typer.echo(json.dumps(described(where, ledger)))
    else:
        show_lines([tree(where, ledger)])


def described(where: Path, ledger: Ledger) -> dict[str, Any]:
    """A run as JSON values: its steps and outputs, oldest first."""
    steps = [{name: value for name, value in step._asdict().items() if name != "reused"} for step in ledger.steps()]
    outputs = [
        output._asdict() | {"files": len(output.files), "bytes": sum(size for _, size, _ in output.files)}
        for output in ledger.outputs()
    ]
    return {"run": str(where), "bytes": sum(s["bytes"] for s in steps if not s["pruned"])} | {
        "steps": steps,
        "outputs": outputs,
    }


def tree(where: Path, ledger: Ledger) -> Tree:
    """Outputs, then steps that nothing was made from, newest last; under each what it was made from.

    A step is drawn in full where it comes first, and named after.
    """
    from rich.tree import Tree

    from gristmill.upkeep import newest, sources

    steps = {step.key: step for step in ledger.steps()}
    outputs = newest(ledger.outputs())
    used = {key for step in steps.values() for key in sources(step.inputs)} | {k for o in outputs for k in o.inputs}
    stored = [step for step in steps.values() if not step.pruned]
    root = Tree(_text(f"{where}  {len(stored):,} steps, {_bytes(sum(step.bytes for step in stored))}"))
    seen: set[str] = set()
    for output in outputs:
        node = root.add(_output_line(output))
        for key in output.inputs:
            _add(node, key, steps, seen)
    for key in [key for key in steps if key not in used]:
        _add(root, key, steps, seen)
    return root


def _add(node: Tree, key: str, steps: Steps, seen: set[str]) -> None:
    step = steps.get(key)
    if step is None:
        node.add(_text(f"{key[:8]}  not in the ledger"))
        return
    if key in seen:
        node.add(_text(f"{step.name}  {key[:8]}  as above", "dim"))
        return
    seen.add(key)
    branch = node.add(_step_line(step))
    for each in step.inputs:
        if "key" in each:
            _add(branch, each["key"], steps, seen)
        else:
            branch.add(_text(f"{each['name']}  {each['hash'][:8]}", "dim"))


def _step_line(step: StepRecord) -> Any:
    size = "pruned" if step.pruned else _bytes(step.bytes)
    used = f"{step.seconds:,.1f} s  {step.peak_rss_mb:,.0f} MB at most"
    return _text(f"{step.name}  {step.rows:,} rows  {size}  {used}  {_when(step.created)}  {step.key[:8]}")


def _output_line(output: Output) -> Any:
    counts = "  ".join(f"{name} {value:,}" for name, value in output.counts.items() if isinstance(value, int))
    size = _bytes(sum(size for _, size, _ in output.files)) if Path(output.path).exists() else "gone"
    return _text("  ".join(filter(None, [output.path, output.name, counts, size, _when(output.created)])), "bold")


def _text(line: str, style: str = "") -> Any:
    from rich.text import Text

    from gristmill.wording import visible

    return Text(visible(line, one_line=True), style=style)


def _when(created: str) -> str:
    return created[:19].replace("T", " ")


def _bytes(size: int) -> str:
    from rich.filesize import decimal

    return decimal(size)


def _verified(found: Verified, as_json: bool) -> None:
    """Print what was verified; raises Refused if anything differs."""
    if as_json:
        typer.echo(json.dumps(found._asdict() | {"damaged": [each._asdict() for each in found.damaged]}))
    else:
        for path in found.gone:
            typer.echo(f"{path}: gone, not verified")
        for damage in found.damaged:
            typer.echo(str(damage))
        typer.echo(f"{found.files:,} files, {_bytes(found.bytes)} and {found.ids:,} ids verified")
    if found.damaged:
        more = f" (and {len(found.damaged) - 1:,} more)" if len(found.damaged) > 1 else ""
        raise Refused(f"{found.damaged[0]}{more}")


def _json_pruned(pruned: Pruned) -> str:
    steps = [{"name": step.name, "key": step.key, "bytes": step.bytes} for step in pruned.steps]
    return json.dumps({"steps": steps, "leftovers": [str(p) for p in pruned.directories], "bytes": pruned.bytes})


def _told_pruned(pruned: Pruned, dry_run: bool) -> str:
    lines = [f"{step.name}  {step.key[:8]}  {_bytes(step.bytes)}" for step in pruned.steps]
    lines += [f"{path.name}  left by a process that ended" for path in pruned.directories]
    return "\n".join([*lines, f"{_bytes(pruned.bytes)} {'would be ' if dry_run else ''}freed"])
