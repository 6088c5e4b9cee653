"""`gristmill calls`: what was asked of models in a run, what the ledger saved, and what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill.errors import UsageError


def calls(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="The run.")] = Path("gristmill-run"),
    models: Annotated[Path | None, typer.Option(metavar="FILE", help="Prices; default: models.yaml here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Calls by model: answers stored, calls sent and answered by the ledger, tokens paid for, money."""
    from gristmill.models.calls import FILE, Calls
    from gristmill.models.named import entries, prices_of

    if not (run / FILE).is_file():
        raise UsageError(f"{run}: no call was made in it (it has no {FILE}); name the directory of a run")
    known = entries(models)
    found: list[dict[str, Any]] = []
    for used in Calls(run).used():
        spec = used.model if used.model in known or used.model.startswith("fake:") else f"#{used.model}"
        prices = prices_of(spec, known)
        cost = None if prices is None else prices.money(used.tokens_in, used.tokens_out)
        found.append({**used._asdict(), "cost": cost})
    size = (run / FILE).stat().st_size
    stored = sum(model["answers"] for model in found)
    told = {"run": str(run), "models": found, "bytes": size, "bytes_a_call": round(size / stored) if stored else None}
    typer.echo(json.dumps(told) if as_json else _printed(told))


def _printed(told: dict[str, Any]) -> str:
    lines = []
    for model in told["models"]:
        cost = "no price known" if model["cost"] is None else f"{model['cost']:.4f}"
        lines.append(
            f"{model['model']}: {model['answers']:,} answers stored; {model['sent']:,} calls sent, "
            f"{model['hits']:,} answered by the ledger, {model['failed']:,} failed; "
            f"tokens {model['tokens_in']:,} in, {model['tokens_out']:,} out; cost {cost}"
        )
    lines.append(f"{told['bytes'] / 2**20:,.1f} MiB in {told['run']}")
    return "\n".join(lines)
