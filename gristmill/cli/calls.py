"""`gristmill calls`: what was asked of models in a run, what the ledger saved, and what it cost."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import run_named
from gristmill.errors import UsageError


def calls(
    directory: options.RunArgument = None,
    run: options.SameRun = None,
    models: options.ModelsFile = None,
    forget_batches: Annotated[
        bool, typer.Option("--forget-batches", help="Take open batches for lost: ask anew for what is in them.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Calls by model: answers stored, calls sent and answered by the ledger, tokens paid for, money."""
    from gristmill.models.batch_ledger import BatchLedger
    from gristmill.models.calls import FILE, Calls
    from gristmill.models.named import entries, prices_of

    where = run_named(directory, run)
    if not (where / FILE).is_file():
        raise UsageError(f"{where}: no call was made in it (it has no {FILE}); name the directory of a run")
    known = entries(models)
    found: list[dict[str, Any]] = []
    ledger = Calls(where)
    batches = BatchLedger(ledger)
    open_ = batches.all_open()
    if forget_batches:
        with batches.held():
            for record in open_:
                batches.ended(record, "forgotten", (), {})
        open_ = []
    for used in ledger.used():
        spec = used.model if used.model in known or used.model.startswith("fake:") else f"#{used.model}"
        single, batch = prices_of(spec, known), prices_of(spec, known, batch=True)
        cost = None
        if single and batch:
            cost = single.money(used.tokens_in - used.batch_in, used.tokens_out - used.batch_out)
            cost += batch.money(used.batch_in, used.batch_out)
        found.append({**used._asdict(), "cost": cost})
    size = (where / FILE).stat().st_size
    stored = sum(model["answers"] for model in found)
    told: dict[str, Any] = {
        "run": str(where),
        "models": found,
        "bytes": size,
        "bytes_a_call": round(size / stored) if stored else None,
    }
    told["batches"] = [{"batch": record.batch, "requests": record.requests} for record in open_]
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
    if told["batches"]:
        ids = ", ".join(each["batch"] or "not yet sent" for each in told["batches"])
        requests = sum(each["requests"] for each in told["batches"])
        lines.append(f"open batches: {ids}; {requests:,} requests")
    lines.append(f"{told['bytes'] / 2**20:,.1f} MiB in {told['run']}")
    return "\n".join(lines)
