"""`gristmill gap`: has the proxy reward run away from the truth?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli import options


def gap(
    logs: Annotated[list[str], typer.Argument(metavar="LOGS...", help="Rollouts at many steps, one output a row.")],
    *,
    proxy: Annotated[str, typer.Option(metavar="COLUMN", help="What the policy is trained on.")],
    gold: Annotated[str, typer.Option(metavar="COLUMN", help="The truth, which it is never trained on.")],
    step: Annotated[str, typer.Option(metavar="COLUMN")] = "step",
    prompt: Annotated[str, typer.Option(metavar="COLUMN")] = "prompt",
    output: Annotated[str, typer.Option(metavar="COLUMN")] = "completion",
    evidence: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep report and counterexamples there.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare proxy and gold over the steps of a run, and say ok, warn, halt, or insufficient where it is too short.

    Exit 1 for halt and for insufficient: neither is a yes.
    """
    from gristmill.errors import Refused
    from gristmill.rollout.gap_log import Columns, read_log, summary, write_evidence

    log = read_log(logs, Columns(proxy, gold, step, prompt, output))
    told = summary(log)
    if evidence:
        write_evidence(log, evidence)
    if as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo(f"{told['status']} at step {told['step']}{': ' + told['why'] if told['why'] else ''}")
        for name in ("first_warn", "first_halt"):
            if told[name] is not None:
                typer.echo(f"{name.replace('_', ' ')}: step {told[name]}")
        if told["best_gold"]:
            typer.echo(f"best gold: {told['best_gold']['gold']:.4f} at step {told['best_gold']['step']}")
        for number, why in told["left_out"].items():
            typer.echo(f"left out: step {number} {why}")
        if evidence:
            typer.echo(f"evidence in {evidence}")
    if told["status"] in ("halt", "insufficient"):
        raise Refused(f"gap: {told['status']}: {told['why'] or 'too few evaluations'}")
