"""`gristmill tiny`: the embedded model, and rows of the world it lives in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs, share
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from gristmill.train.tiny.world import Mix


def tiny(
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A directory; with --data a .parquet file.")],
    data: Annotated[int | None, typer.Option(min=1, metavar="N", help="Write N rows of its world instead.")] = None,
    seed: Annotated[int, typer.Option(help="Decides all that is drawn.")] = 0,
    steps: Annotated[int | None, typer.Option(min=0, help="Steps of training, of 32 rows; default 500.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows to train on; default 8,000.")] = None,
    lacking: Annotated[
        list[str] | None, typer.Option(metavar="TAG=SHARE", help="Leave out: borrow=0.98. Repeat.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="SLICE=VALUE", help="borrow=yes, digits=2. Repeat.")] = None,
    forms: Annotated[str | None, typer.Option(metavar="NAMES", help="Of hash, plain, json; default all.")] = None,
    asks: Annotated[str, typer.Option(metavar="NAMES", help="What prompts ask for: open, steps, direct.")] = "open",
    reasoning: Annotated[float, typer.Option(min=0, max=1, help="Share of open answers that show steps.")] = 1.0,
    buggy: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the answers that carry or borrow which forget to, and err.")
    ] = 0.0,
    test: Annotated[bool, typer.Option("--test", help="Of the part held out from training.")] = False,
    answers: Annotated[bool, typer.Option("--answers", help="Samples with right answers, not prompts.")] = False,
    force: options.Force = False,
) -> None:
    """Train the embedded model from nothing, or write rows of its world: sums whose truth and slices are known."""
    mix = _mix(lacking, only, forms, asks)
    if data is None:
        if test or answers:
            raise UsageError("tiny --test and --answers are about rows: add --data N")
        given = {"steps": steps, "rows": rows}
        drawn = {"seed": seed, "mix": mix, "reasoning": reasoning, "buggy": buggy}
        _train(out, drawn | {name: value for name, value in given.items() if value is not None}, force=force)
    elif steps is not None or rows is not None:
        raise UsageError("tiny --data N writes rows and trains nothing: leave out --steps and --rows")
    else:
        part = "test" if test else "train"
        taught = {"reasoning": reasoning, "buggy": buggy} if answers else {}
        _write(out, data, answers, {"seed": seed, "part": part, "mix": mix, **taught}, force=force)


def _write(out: Path, n: int, answers: bool, drawn: Mapping[str, Any], *, force: bool) -> None:
    from gristmill.parquet import check_replaceable
    from gristmill.train.tiny.data import write_data

    check_replaceable(out, "tiny", force=force)
    write_data(out, n, answers=answers, **drawn)
    typer.echo(f"{n:,} rows in {out}")


def _train(out: Path, drawn: Mapping[str, Any], *, force: bool) -> None:
    from gristmill.progress import Stages, shown
    from gristmill.train.tiny.make import ABOUT, Recipe, make

    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not (out / ABOUT).exists() and not force:
        raise UsageError(f"-o {out}: exists, and is no model that gristmill made; name another, or add --force")
    recipe = Recipe(**drawn)
    with shown() as say:
        stages = Stages(say)
        stages.begin("tiny", recipe.steps * 32)
        losses = make(out, recipe)
        stages.end(f"{recipe.steps * 32:>11,} rows", f"loss {losses[-1]:.3f}" if losses else "")
    typer.echo(f"a model in {out}: -m hf:{out}")


def _mix(lacking: list[str] | None, only: list[str] | None, forms: str | None, asks: str) -> Mix:
    from gristmill.train.tiny.world import Mix

    left_out = {tag: share(f"--lacking {tag}", value, zero=True) for tag, value in pairs("--lacking", lacking).items()}
    more: dict[str, Any] = {"forms": dict.fromkeys(forms.split(","), 1.0)} if forms else {}
    return Mix(asks=dict.fromkeys(asks.split(","), 1.0), only=pairs("--only", only), lacking=left_out, **more)
