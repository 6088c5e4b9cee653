"""`gristmill plan`, `gristmill efficiency`: how much data, at what cost, and what it was worth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gristmill.plan.plan import Figure

METHODS = {
    "lora": "supervised, by an adapter of low rank",
    "sft": "supervised, all weights",
    "dpo": "on pairs of a better and a worse answer",
    "kto": "on answers labelled good or bad",
    "rl": "on prompts with a reward",
}


def plan(
    goal: Annotated[
        str | None,
        typer.Option(metavar="GOAL", help="format, behaviour, domain, assistant, general or new-domain."),
    ] = None,
    *,
    size: Annotated[str | None, typer.Option(metavar="N", help="Parameters of the model to tune: 7B, 350M.")] = None,
    method: Annotated[str | None, typer.Option(metavar="METHOD", help="sft, lora, dpo, kto or rl.")] = None,
    rl_scale: Annotated[str, typer.Option(metavar="SCALE", help="rl: probe, start or frontier.")] = "start",
    tokens_in: Annotated[float, typer.Option(min=0, help="Tokens of a prompt.")] = 300,
    tokens_out: Annotated[float, typer.Option(min=0, help="Tokens of an answer.")] = 500,
    epochs: Annotated[float, typer.Option(min=0, help="Passes over the rows.")] = 3,
    price: Annotated[str | None, typer.Option(metavar="IN,OUT", help="Money for a million tokens, in and out.")] = None,
    gpu_price: Annotated[float | None, typer.Option(min=0, help="Money for a GPU-hour.")] = None,
    teacher: Annotated[str | None, typer.Option(metavar="N", help="Parameters of one's own generating model.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Money there is.")] = None,
    from_run: Annotated[Path | None, typer.Option("--from-run", metavar="DIR", help="Use what it measured.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Tell how much data a goal needs and what it costs; asked in a terminal where flags are left out.

    Every figure says whether it is measured, published, a heuristic, or computed, and from what.
    """
    from gristmill.plan.plan import Wish, figures, size_of
    from gristmill.plan.plan import plan as planned

    goal = goal or _asked("goal", {name: each["what"] for name, each in figures()["goals"].items()})
    size = size or _asked("size", "parameters of the model to tune (7B, 350M)", size_of)
    method = method or _asked("method", METHODS)
    price_in, price_out = _prices(price)
    measured = _measured(from_run) if from_run else {}
    wish = Wish(
        goal,  # type: ignore[arg-type]  # checked by Wish
        size_of(size),
        method,  # type: ignore[arg-type]  # checked by Wish
        rl_scale=rl_scale,  # type: ignore[arg-type]  # checked by Wish
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        epochs=epochs,
        price_in=price_in,
        price_out=price_out,
        gpu_price=gpu_price,
        teacher=size_of(teacher) if teacher else None,
        budget=budget,
        **measured,
    )
    found = planned(wish)
    if as_json:
        typer.echo(json.dumps({"goal": goal, "figures": [each._asdict() for each in found], "heuristics": _debated()}))
        return
    typer.echo("\n".join([*_table(found), "", *_words()]))


def efficiency(
    *,
    kept: Annotated[int, typer.Option(help="Rows that were kept.")],
    rows: Annotated[int, typer.Option("--all", help="Rows there were.")],
    score_kept: Annotated[float, typer.Option(help="Points after training on the kept rows.")],
    score_all: Annotated[float, typer.Option(help="Points after training on all rows.")],
    base: Annotated[float | None, typer.Option(help="Points before training.")] = None,
    cost: Annotated[float | None, typer.Option(min=0, help="Money that all rows took.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Tell the yield and how much more an example of the kept set gives."""
    from gristmill.plan.efficiency import efficiency as computed

    found = computed(kept, rows, score_kept, score_all, base=base, cost=cost)
    if as_json:
        typer.echo(json.dumps(found._asdict()))
        return
    mine, theirs = found.per_example
    typer.echo(f"yield            {found.yielded:.0%} ({kept:,} of {rows:,})")
    typer.echo(f"an example       {mine:.4g} points kept, {theirs:.4g} all: {found.ratio:.1f}x as efficient")
    typer.echo(f"the kept set     {found.gain:+.4g} points against all rows")
    if found.per_thousand:
        typer.echo(f"1,000 examples   {found.per_thousand[0]:+.4g} points kept, {found.per_thousand[1]:+.4g} all")
    if found.cost_per_kept is not None:
        typer.echo(f"a kept row       {found.cost_per_kept:.4g}")
    if found.gain_per_money is not None:
        typer.echo(f"a unit of money  {found.gain_per_money:+.4g} points")


def _asked(name: str, choices: Mapping[str, str] | str, check: Callable[[str], object] | None = None) -> str:
    """Ask a person until the answer is one of the choices, or passes the check; raises UsageError where there is none
    to ask."""
    if not sys.stdin.isatty():
        raise UsageError(f"plan: no --{name}; give it (see gristmill plan --help)")
    asked = choices if isinstance(choices, str) else name
    if not isinstance(choices, str):
        for choice, what in choices.items():
            typer.echo(f"  {choice:<12} {what}", err=True)
    while True:
        answer = str(typer.prompt(asked, err=True)).strip()
        try:
            if check:
                check(answer)
            elif answer not in choices:
                raise UsageError(f"{name} {answer}: allowed are {', '.join(choices)}")
        except UsageError as error:
            typer.echo(f"  {error}", err=True)
        else:
            return answer


def _prices(text: str | None) -> tuple[float | None, float | None]:
    if text is None:
        return None, None
    try:
        price_in, price_out = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--price {text}: write IN,OUT for a million tokens, as in 0.5,1.5") from None
    return price_in, price_out


def _measured(directory: Path) -> dict[str, Any]:
    """Yield and cost of a kept row, as a run's last filter and generation measured them."""
    from gristmill.ledger import is_run
    from gristmill.run import Run

    if not is_run(directory):
        raise UsageError(f"--from-run {directory}: no run there; name the directory of a run")
    run = Run(directory)
    filtered, generated = run.latest("filter"), run.latest("generate")
    if filtered is None:
        raise UsageError(f"--from-run {directory}: this run has filtered nothing yet; run gristmill filter first")
    counts = filtered.counts
    share = counts["rows_kept"] / counts["rows_in"] if counts.get("rows_in") else None
    if not share:
        raise UsageError(f"--from-run {directory}: its last filter kept no row; there is nothing to plan by")
    cost = (generated.counts.get("cost") or 0) / counts["rows_kept"] if generated else 0
    return {"yielded": share, "cost_per_kept": cost or None}


def _table(found: Sequence[Figure]) -> list[str]:
    return [
        f"{each.name:<24}{_range(each):>24} {each.unit:<16}{each.kind:<11}{each.note or each.source}" for each in found
    ]


def _range(figure: Figure) -> str:
    low, high = _number(figure.low), _number(figure.high)
    if figure.high is None:
        return f"{low} and more"
    return low if figure.low == figure.high else f"{low} to {high}"


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _debated() -> list[dict[str, Any]]:
    """The heuristics of the field, with what speaks against them."""
    from gristmill.plan.plan import figures

    known = figures()
    return [
        {
            "says": each["says"],
            "kind": each["kind"],
            "source": known["sources"][each["source"]],
            "against": [
                {"says": known["evidence"][name]["says"], "source": known["sources"][name]} for name in each["against"]
            ],
        }
        for each in known["heuristics"]
    ]


def _words() -> list[str]:
    lines = []
    for each in _debated():
        lines.append(f"heuristic: {each['says']} ({each['source']})")
        lines += [f"  against: {one['says']} ({one['source']})" for one in each["against"]]
    return lines
