"""`gristmill pick`: sets to train on, from rollouts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs, solved_by
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gristmill.rollout.pick import Take

KINDS = ("sft", "preference", "label", "prompt")


def pick(
    inputs: Annotated[list[str], typer.Argument(metavar="ROLLOUTS...", help="What gristmill rollout wrote.")],
    *,
    to: Annotated[str, typer.Option("--for", metavar="KIND", help="sft, preference, label or prompt.")],
    solved: Annotated[str, typer.Option(metavar="SCORE[>=X]", help="What counts as right.")],
    out: options.OutTable,
    minimum: Annotated[
        list[str] | None, typer.Option("--min", metavar="SCORE=X", help="sft: another axis to clear. Repeat.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="SCORE", help="sft: what ranks; default: the one solved.")] = None,
    take: Annotated[str, typer.Option(metavar="best|all|K", help="sft: how many of those that pass.")] = "best",
    cap: Annotated[int | None, typer.Option(min=1, help="sft: at most so many a prompt.")] = None,
    per_prompt: Annotated[int, typer.Option(min=1, help="preference: pairs a prompt.")] = 1,
    across_models: Annotated[bool, typer.Option("--across-models", help="preference: pair any two models.")] = False,
    policy: Annotated[str | None, typer.Option(metavar="MODEL", help="preference: the model to be trained.")] = None,
    low: Annotated[float, typer.Option(min=0, max=1, help="prompt: drop what surely passes less often.")] = 0.0,
    high: Annotated[float, typer.Option(min=0, max=1, help="prompt: drop what surely passes more often.")] = 0.625,
    limit: options.Limit = None,
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Pick SFT rows, preference pairs, labels or RL prompts from rollouts.

    Nothing is deleted: rows and prompts that are not picked carry the rule that dropped them, its value and limit.
    """
    import pyarrow.parquet as pq

    from gristmill.beside import beside
    from gristmill.disk import space_wanted
    from gristmill.parquet import check_replaceable, marked
    from gristmill.rollout.pairs import pick_labels, pick_pairs
    from gristmill.rollout.pick import pick_prompts, pick_sft
    from gristmill.rollout.rollouts import read_rollouts
    from gristmill.run import Run

    if to not in KINDS:
        raise UsageError(f"--for {to}: allowed are {', '.join(KINDS)}")
    if low >= high:
        raise UsageError(f"--low {low:g} --high {high:g}: low must be below high")
    check_replaceable(out, "pick", force=force)
    counted, taken = solved_by(solved), _take(take)
    rollouts = read_rollouts(inputs, limit=limit)
    if to == "sft":
        least = {counted.score: counted.least, **_least(minimum)}
        table, summary = pick_sft(rollouts, least, by=by or counted.score, take=taken, cap=cap)
    elif to == "preference":
        table, summary = pick_pairs(rollouts, counted, per_prompt=per_prompt, policy=policy, across=across_models)
    elif to == "label":
        table, summary = pick_labels(rollouts, counted)
    else:
        table, summary = pick_prompts(rollouts, counted, low=low, high=high)
    with space_wanted("the output", out), beside(out) as partial:
        pq.write_table(table.cast(marked(table.schema)), partial / out.name, compression="zstd")
        params = {"inputs": inputs, "for": to, "solved": list(counted)}
        counts: dict[str, Any] = {name: summary[name] for name in ("rows_kept", "dropped") if name in summary}
        counts["rows"] = len(table)
        Run(run).output(out, "pick", params=params, counts=counts, beside=partial / out.name)
    typer.echo(json.dumps(summary) if as_json else "\n".join([*_told(summary), f"{len(table):,} rows in {out}"]))


def _take(text: str) -> Take:
    if text in ("best", "all"):
        return cast("Take", text)
    if text.isdecimal() and int(text):
        return int(text)
    raise UsageError(f"--take {text}: allowed are best, all and whole numbers from 1")


def _least(values: list[str] | None) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in pairs("--min", values).items()}
    except ValueError as error:
        raise UsageError(f"--min: {error}; write --min SCORE=NUMBER") from None


def _told(summary: Mapping[str, Any]) -> list[str]:
    """The summary in words, with what is to be warned of."""
    told = [f"{name:<22}{_value(value)}" for name, value in summary.items() if name not in ("decides", "other_policy")]
    if summary.get("decides"):
        told.append(
            f"warning: {summary['decides']} rejects nearly every row that is rejected; look at what survives "
            "(gristmill filter tells the balance), or loosen it"
        )
    if summary.get("other_policy"):
        told.append(
            f"warning: {summary['other_policy']:,} pairs were written by another model than the one to be trained; "
            "roll out with that one"
        )
    return told


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(each)}" for name, each in value.items()) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
