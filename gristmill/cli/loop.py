"""`gristmill loop`: evaluate, mine, counter, train and gate, until it plateaus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping


def loop(
    file: Annotated[Path, typer.Argument(metavar="LOOP.yaml", help="What is improved, by what, and when to stop.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Directory for rounds and models.")],
    run: options.RunDir = options.RUN,
    as_json: options.AsJson = False,
) -> None:
    """Improve a model in rounds: its worst failures are countered, and a gate decides whether the candidate is better.

    Killed or stopped, start the same again: what is finished is not repeated.
    """
    from gristmill.loop.loop_file import read_loop
    from gristmill.loop.rounds import loop as looped
    from gristmill.progress import shown
    from gristmill.run import Run

    with shown() as say:
        summary = looped(read_loop(file), out, run=Run(run), say=say)
    typer.echo(json.dumps(summary) if as_json else "\n".join([*words(summary), f"report: {out / 'loop.html'}"]))


def words(summary: Mapping[str, Any]) -> list[str]:
    """What a loop did, round by round."""
    lines = []
    for each in summary["rounds"]:
        names = ", ".join(f"{c['name']} ({c['rate']:.0%} of {c['items']} fail)" for c in each["clusters"])
        lines += [f"round {each['round']}: {names}", *_moved(each), f"  took {_took(each['took'])}"]
    base, best = (summary["accuracy"][name] for name in ("base", "best"))
    lines.append(f"stopped by {summary['stopped']}")
    lines.append(f"took {_took(summary['took'])}")
    return [*lines, f"accuracy {base:.1%} to {best:.1%}; the best model: {summary['best']}"]


def _moved(told: Mapping[str, Any]) -> list[str]:
    if not told["all"]:
        return [f"  NOTHING: {', '.join(told['why'])} (dropped: {told['dropped'] or 'none was made'})"]
    added, moved = told["trained_on"], told["all"]
    return [
        f"  {added['counterexamples']} counterexamples x {added['repeat']}, {added['replay']} of replay",
        f"  {told['verdict'].upper()}: {moved['difference']:+.1%} overall "
        f"(+{moved['gained']} -{moved['lost']} of {moved['n']})",
        *(f"    {check['verdict']:<12} {check['name']}: {check['why']}" for check in told["checks"]),
    ]


def _took(took: Mapping[str, Any]) -> str:
    money = f", {took['money']:.4f} of money" if took["money"] else ""
    tokens = f"{took['tokens_in']:,} tokens in, {took['tokens_out']:,} out"
    return f"{took['calls']:,} calls ({tokens}){money}, {took['seconds']:.0f} s"
