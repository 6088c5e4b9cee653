"""`gristmill rollout`: groups of outputs with rewards and advantages."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.asked import Models
from gristmill.cli.values import pairs, solved_by
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def rollout(
    inputs: Annotated[list[str], typer.Argument(metavar="PROMPTS...", help="A template, prompts, or samples.")],
    *,
    reward: Annotated[Path, typer.Option("--reward", metavar="FILE.yaml", help="Components, weights, gates.")],
    out: options.OutTable,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="MODEL", help=f"{options.MODEL}; left out: PROMPTS are samples."),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Outputs a prompt.")] = 8,
    temperature: options.Temperature = None,
    max_tokens: options.MaxTokens = None,
    together: options.Together = False,
    seed: options.Seed = 0,
    advantage: Annotated[str, typer.Option(metavar="FORM", help="grpo, dr_grpo, rloo or gdpo.")] = "grpo",
    solved: Annotated[
        str | None, typer.Option(metavar="SCORE[>=X]", help="What the pass rate counts; default: first component.")
    ] = None,
    column_map: options.ColumnMap = None,
    limit: options.Limit = None,
    max_cost: options.MaxCost = None,
    max_tokens_total: options.MaxTokensTotal = None,
    max_failures: options.MaxFailures = "10%",
    concurrency: options.Concurrency = None,
    models: options.ModelsFile = None,
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Ask for N outputs to every prompt, reward them, and write groups with advantages and pass rates.

    Nothing is asked or judged twice: what the run knows is taken from there.
    """
    from gristmill.generate.sample import Plan
    from gristmill.generate.templates import prompt_source
    from gristmill.models.budget import Budget
    from gristmill.models.calls import Calls
    from gristmill.progress import shown
    from gristmill.rollout.advantages import FORMS
    from gristmill.rollout.pipeline import rollout_prompts, rollout_samples
    from gristmill.run import Run
    from gristmill.score.reward import read_reward

    form = next((each for each in FORMS if each == advantage), None)
    if form is None:
        raise UsageError(f"--advantage {advantage}: allowed are {', '.join(FORMS)}")
    made = read_reward(reward)
    counted = solved_by(solved) if solved else None
    if model is None:
        with shown() as say:
            summary = rollout_samples(
                inputs,
                made,
                out,
                run=Run(run),
                columns=pairs("--map", column_map),
                limit=limit,
                solved=counted,
                form=form,
                force=force,
                say=say,
            )
    else:
        if len(inputs) > 1:
            raise UsageError(f"rollout {' '.join(inputs)}: one template, file, directory or glob of prompts with -m")
        with shown():
            found = prompt_source(inputs[0])
        sampling = {"temperature": temperature, "max_tokens": max_tokens}
        plan = Plan(
            n=n,
            sampling={**found.sampling, **{name: value for name, value in sampling.items() if value is not None}},
            seed=seed,
            together=together,
        )
        budget = Budget(max_cost, max_tokens_total)
        with Models(Calls(run), budget, concurrency=concurrency, file=models) as opened, shown() as say:
            summary = rollout_prompts(
                islice(found, limit),
                opened.open(model),
                made,
                out,
                plan=plan,
                run=Run(run),
                solved=counted,
                form=form,
                asking=opened.asking(max_failures),
                source=inputs[0],
                force=force,
                say=say,
            )
    typer.echo(json.dumps(summary) if as_json else _printed(summary, out))


def _printed(summary: Mapping[str, Any], out: Path) -> str:
    mean, sd, rate = summary["reward_mean"], summary["reward_sd"], summary["pass_rate"]
    reward = "none" if mean is None else f"mean {mean:.4f}" + (f", sd {sd:.4f}" if sd else "")
    rate = "unknown" if rate is None else f"{rate:.1%}"
    return "\n".join(
        [
            f"reward     {reward}: {_counted(summary['rewards'])}",
            *(
                f"  {each['score']:<14} adds {each['mean']:.4f} (sd {each['sd']:.4f}), {each['share']:.0%} of the "
                f"variance, correlation {each['correlation']:.2f}"
                for each in summary["components"]
            ),
            *(
                f"  warning: {name} decides the reward nearly alone; normalize the components or change weights"
                for name in summary["dominant"]
            ),
            f"pass rate  {rate} ({summary['pass_rate_of']}); prompts: {_counted(summary['bands'])}",
            f"gradient   {summary['dead_groups']:,} of {summary['prompts']:,} groups have none: all rewards are equal",
            *(
                [f"  {summary['unjudged_groups']:,} groups were not judged: fewer than two outputs have a reward"]
                if summary["unjudged_groups"]
                else []
            ),
            *(["the same number of outputs, by outputs a prompt:"] if summary["offers"] else []),
            *(
                f"  {each['samples']:>3} each: {each['prompts']:>7,} prompts, {each['live_groups']:>9,.0f} groups with "
                f"gradient ({each['dead_share']:.0%} dead)"
                for each in summary["offers"]
            ),
            f"{summary['rows']:,} rows in {out}",
        ]
    )


def _counted(words: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in words.items())
