"""`gristmill train`: SFT, DPO, KTO, a reward model, GRPO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs


def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="sft, dpo, kto, reward, grpo, or fit (for tiny).")],
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Rows: samples, preferences, labels, prompts.")],
    *,
    model: Annotated[str, typer.Option("-m", "--model", metavar="MODEL", help="hf:PATH, a path, or tiny.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the model goes.")],
    lora: Annotated[int | None, typer.Option(metavar="RANK", help="Train an adapter; the lowest that works.")] = None,
    args: Annotated[
        Path | None, typer.Option("--args", metavar="FILE.yaml", help="Arguments of TRL's trainer.")
    ] = None,
    reward: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="For grpo: components, weights.")] = None,
    gold: Annotated[
        str | None, typer.Option(metavar="SCORE", help="For grpo: the truth; stops when the reward runs away from it.")
    ] = None,
    gold_prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Prompts to compare on; default: the first 32 of DATA.")
    ] = None,
    gold_every: Annotated[int, typer.Option(min=1, metavar="STEPS", help="How often.")] = 5,
    command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Run this instead, with {data}, {model} and {out}.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides order and first weights of adapters and heads.")] = 0,
    reasoning: options.Reasoning = "think",
    column_map: options.ColumnMap = None,
    limit: options.Limit = None,
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a model on rows, through TRL or a command of yours. Killed, it goes on; finished, it is not repeated.

    DIR/gristmill.json tells what the model was made of; `gristmill why DIR` leads from it to its rows.
    """
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.train.pipeline import train as train_model
    from gristmill.train.settings import Settings, Watch, read_args

    settings = Settings(
        method,  # type: ignore[arg-type]  # checked by Settings
        lora,
        read_args(args),
        seed,
        reward,
        Watch(gold, gold_prompts, every=gold_every) if gold else None,
        command,
    )
    with shown() as say:
        record = train_model(
            data,
            model,
            out,
            settings,
            run=Run(run),
            columns=pairs("--map", column_map),
            limit=limit,
            reasoning=reasoning,  # type: ignore[arg-type]  # checked with the rows' format
            force=force,
            say=say,
        )
    if as_json:
        typer.echo(json.dumps(record))
        return
    if record["data"]["rows_bad"]:
        typer.echo(f"{record['data']['rows_bad']:,} bad rows set aside")
    for warning in record["warnings"]:
        typer.echo(f"warning: {warning}")
    if record["again"]:
        typer.echo(f"{out} was trained so before; nothing to do")
        return
    since = record.get("resumed_from")
    steps = f", {record['steps']:,} steps{f' (from {since})' if since else ''}" if "steps" in record else ""
    typer.echo(f"{record['data']['rows']:,} rows{steps}, {record['seconds']:.1f} s")
    typer.echo(f"a model in {out}: -m hf:{out}   what it was made of: gristmill why {out}")
