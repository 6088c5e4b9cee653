"""`gristmill generate`: candidates from a template or a table of prompts, with any model."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.asked import Models, account, expected
from gristmill.cli.values import ladder, sampling_fields
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gristmill.generate.estimate import Answerer
    from gristmill.generate.sample import Plan, Row
    from gristmill.generate.templates import PromptSource
    from gristmill.models.protocol import Model


def generate(
    source: Annotated[str, typer.Argument(metavar="TEMPLATE.yaml|PROMPTS", help="A template, or a table of prompts.")],
    *,
    model: options.ModelNames,
    out: options.OutTableOrNone = None,
    n: Annotated[int, typer.Option("-n", help="Samples a prompt, at each temperature, by each model.")] = 1,
    temperature: options.Ladder = None,
    max_tokens: options.MaxTokens = None,
    sampling: options.Sampling = None,
    schema: Annotated[Path | None, typer.Option(metavar="FILE.json", help="JSON schema of the answers.")] = None,
    together: options.Together = False,
    seed: options.Seed = 0,
    distinct: Annotated[
        int | None,
        typer.Option("--samples", metavar="N", help="Distinct prompts of the template, in place of its own."),
    ] = None,
    limit: options.Limit = None,
    accept: Annotated[int | None, typer.Option(metavar="N", help="Stop when N rows pass --where.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="EXPR", help="SQL over the columns; a row passes if true. Repeat.")
    ] = None,
    max_cost: options.MaxCost = None,
    max_tokens_total: options.MaxTokensTotal = None,
    max_failures: options.MaxFailures = "10%",
    concurrency: options.Concurrency = None,
    timeout: options.Timeout = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Through the provider's batch API: half the price, within a day.")
    ] = False,
    preview: options.Preview = None,
    dry_run: options.DryRun = False,
    models: options.ModelsFile = None,
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Put every prompt to every model and write the answers, with what each took.

    An answer is paid for once: what the run knows is not asked again. Stopped or killed, start the same again.
    """
    from gristmill.generate.accept import passing
    from gristmill.generate.pipeline import generate_rows
    from gristmill.generate.sample import First, Plan
    from gristmill.generate.templates import prompt_source
    from gristmill.models.budget import Budget
    from gristmill.models.calls import Calls
    from gristmill.models.structured import Structured
    from gristmill.parquet import check_replaceable
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.wording import visible

    with shown():
        found = prompt_source(source, samples=distinct)
    limited = {"max_tokens": max_tokens} if max_tokens else {}
    plan = Plan(
        n=n,
        temperatures=ladder(temperature),
        sampling={**found.sampling, **sampling_fields(sampling), **limited},
        seed=seed,
        together=together,
    )
    budget = Budget(max_cost, max_tokens_total)
    if out is None and not (preview or dry_run):
        raise UsageError("generate: no -o; name the .parquet file to write (--preview and --dry-run need none)")
    if out is not None:
        check_replaceable(out, "generate", force=force)
    if batch and concurrency:
        raise UsageError("--concurrency with --batch: the provider decides that; leave one out")
    batch = batch and not preview  # a preview is asked for at once
    known = Calls(run, batch=batch)
    with Models(known, budget, concurrency=concurrency, timeout=timeout, file=models, batch=batch) as opened:
        asking = opened.asking(max_failures, accept, [passing(each) for each in where or ()])
        if dry_run:
            with shown():
                told = {"batch": batch, **_estimated(found, opened.answerers(model), plan, limit)}
            typer.echo(json.dumps(told) if as_json else expected(told))
            return
        asked = [opened.open(spec) for spec in model]
        shape = _schema(schema) if schema else found.schema
        if shape:
            asked = [Structured(each, shape) for each in asked]
        if preview:
            _show(islice(found, preview), asked, plan)
            return
        assert out is not None
        with shown() as say:
            say(visible(str(found.count(limit)), one_line=True))
            summary = generate_rows(
                First(found, limit),
                asked,
                out,
                plan,
                run=Run(run),
                asking=asking,
                batches=opened.batches,
                source=source,
                force=force,
                say=say,
            )
    typer.echo(json.dumps(summary) if as_json else _printed(summary, out))


def _schema(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--schema {path}: cannot be read ({error}); name a file with a JSON schema") from None
    if not isinstance(found, dict):
        raise UsageError(f"--schema {path}: not a JSON object; name a file with a JSON schema")
    return found


def _estimated(found: PromptSource, answerers: Sequence[Answerer], plan: Plan, limit: int | None) -> dict[str, Any]:
    """What a generation will take, from the prompts and from what the ledger knows of the models."""
    from gristmill.generate.estimate import estimate

    count = found.count(limit)
    told = estimate(found, min(limit or count.asked, count.asked), answerers, plan)
    return {"source": str(count), **told}


def _show(prompts: Iterable[Row], models: Sequence[Model], plan: Plan) -> None:
    """Prompts and answers, for people."""
    from gristmill.generate.sample import samples

    for row in samples(prompts, models, plan):
        sampling = json.loads(row["sampling"])
        typer.echo(f"── {row['model']}  temperature {sampling.get('temperature', '(its own)')}")
        for message in row["prompt"]:
            typer.echo(f"[{message['role']}] {message['content']}")
        if row["reasoning"]:
            typer.echo(f"[reasoning] {row['reasoning']}")
        typer.echo(f"[answer] {row['response'] if row['error'] is None else row['error']}\n")


def _printed(summary: dict[str, Any], out: Path) -> str:
    """The summary for a terminal."""
    rows, kept = summary["rows"], summary["rows_kept"]
    lines = [f"{rows:,} rows" if kept is None else f"{kept:,} of {rows:,} rows pass ({kept / rows:.1%})"]
    lines[0] += f" in {out}"
    lines += account(summary, kept)
    for rung in summary["by"] if len(summary["by"]) > 1 or kept is not None else ():
        temperature = "" if rung["temperature"] is None else f" at {rung['temperature']:g}"
        passed = f", {rung['kept']:,} of {rung['taken']:,} pass ({rung['yield']:.1%})" if "yield" in rung else ""
        lines.append(f"  {rung['model']}{temperature}: {rung['calls']:,} calls{passed}")
    lines.append(f"{summary['seconds']} s, {summary['peak_rss_mb']:,.0f} MB at most")
    return "\n".join(lines)
