"""`gristmill generate`: candidates from a template or a table of prompts, with any model."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli.filter import share
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gristmill.generate.sample import Plan
    from gristmill.generate.templates import PromptSource


def generate(
    source: Annotated[str, typer.Argument(metavar="TEMPLATE.yaml|PROMPTS", help="A template, or a table of prompts.")],
    *,
    model: Annotated[
        list[str], typer.Option("-m", "--model", metavar="MODEL", help="http://HOST/v1#NAME, an alias, hf:, fake:.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="OUT.parquet", help="File to write.")] = None,
    n: Annotated[int, typer.Option("-n", help="Samples a prompt, at each temperature, by each model.")] = 1,
    temperature: Annotated[str | None, typer.Option(metavar="T,T,...", help="A ladder of temperatures.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    sampling: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Another field of the request. Repeat.")
    ] = None,
    schema: Annotated[Path | None, typer.Option(metavar="FILE.json", help="JSON schema of the answers.")] = None,
    together: Annotated[bool, typer.Option("--together", help="Ask for the n samples in one request.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the seeds that are sent.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N prompts.")] = None,
    accept: Annotated[int | None, typer.Option(metavar="N", help="Stop when N rows pass --where.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="EXPR", help="SQL over the columns; a row passes if true. Repeat.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Most money (prices: models.yaml).")] = None,
    max_tokens_total: Annotated[int | None, typer.Option(min=1, help="Most tokens, in and out.")] = None,
    max_failures: Annotated[str, typer.Option(metavar="SHARE", help="Calls that may fail.")] = "10%",
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Calls in flight; left out: found out, and adapted.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds for an answer.")] = None,
    preview: Annotated[int | None, typer.Option(min=1, metavar="N", help="Ask the first N, show, write nothing.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it will take; ask nothing.")] = False,
    batch: Annotated[bool, typer.Option("--batch", help="By the provider's batch API: cheaper, within a day.")] = False,
    models: Annotated[Path | None, typer.Option(metavar="FILE", help="Aliases; default: models.yaml here.")] = None,
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Where answers are remembered.")] = Path(
        "gristmill-run"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace OUT whatever it is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Put every prompt to every model and write the answers, with what each took.

    An answer is paid for once: what the run knows is not asked again. Stopped or killed, start the same again.
    """
    from gristmill.generate.accept import passing
    from gristmill.generate.estimate import Answerer, estimate
    from gristmill.generate.pipeline import Goal, check_replaceable, generate_rows
    from gristmill.generate.sample import Plan
    from gristmill.generate.templates import prompt_source
    from gristmill.models.budget import Budget
    from gristmill.models.named import entries, prices_of
    from gristmill.progress import shown

    found = prompt_source(source)
    plan = Plan(
        n=n,
        temperatures=_ladder(temperature),
        sampling={**found.sampling, **_sampling(sampling), **({"max_tokens": max_tokens} if max_tokens else {})},
        seed=seed,
        together=together,
    )
    goal = Goal(accept, [passing(each) for each in where or ()], share("--max-failures", max_failures, zero=True))
    budget = Budget(max_cost, max_tokens_total)
    if out is None and not (preview or dry_run):
        raise UsageError("generate: no -o; name the .parquet file to write (--preview and --dry-run need none)")
    if out is not None:
        check_replaceable(out, force)
