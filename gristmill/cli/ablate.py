"""`gristmill ablate`: does a filter, a source, a set of counterexamples or a choice of rows earn its place?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.trainer import BaseOption, StepsOption, SuiteOption, TrainerOption, trainer_of, warn_of_held
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gristmill.mix.ablate import Verdict

PARTS = ("filters", "rules", "sources")


def ablate(
    milled: Annotated[str, typer.Argument(metavar="MILLED", help="A filter's output (DIR, rows.parquet), or samples.")],
    *,
    trainer: TrainerOption = None,
    suite: SuiteOption = None,
    parts: Annotated[
        str | None, typer.Option(metavar="P,P,...", help="What is judged; default: filters,rules,sources.")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Rows that are a part, as tags=borrow. Repeat.")
    ] = None,
    equal: Annotated[str, typer.Option(metavar="rows|tokens|both", help="What arms have the same number of.")] = "both",
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each arm.")] = 3,
    steps: StepsOption = None,
    model: BaseOption = None,
    run: options.RunDir = options.RUN,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Keep verdicts and plots.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Train on sets of equal size with and without each part, and say what helps, what hurts, and what shows nothing.

    Each trial is run once: what the run knows is not trained again.
    """
    from gristmill.mix.ablate import arms, judge
    from gristmill.plan.asked import slices
    from gristmill.plan.subsets import milled as rows_of
    from gristmill.plan.trial import mean, trial
    from gristmill.run import Run

    wanted = parts.split(",") if parts else [] if part else list(PARTS)
    if unknown := next((each for each in wanted if each not in PARTS), None):
        raise UsageError(f"--parts {unknown}: allowed are {', '.join(PARTS)}")
    if equal not in ("rows", "tokens", "both"):
        raise UsageError(f"--equal {equal}: allowed are rows, tokens, both")
    rows, home = rows_of(milled), Run(run)
    chosen, suites = trainer_of(trainer, home, suites=suite or (), steps=steps, model=model)
    warn_of_held(rows, suites)
    told: dict[str, list[Verdict]] = {}
    for measure in ("rows", "tokens") if equal == "both" else (equal,):
        made, compared = arms(rows, measure=measure, parts=wanted, named=part or ())
        results: dict[str, list[Any]] = {}
        for arm in made:
            for seed in range(seeds):
                found = trial(home, arm.rows(seed), chosen, seed, home.path / "trials", suites=suites)
                results.setdefault(arm.name, []).append(found)
                score = mean([value for values in found.values() for value in values])
                typer.echo(f"equal {measure}: {arm.name}, seed {seed}: {score:.4f}", err=True)
        told[measure] = judge(results, compared, slices=slices(suites))
    summary = {measure: [each._asdict() for each in verdicts] for measure, verdicts in told.items()}
    tried = {step.key: step.seconds for step in home.steps if step.name == "tried"}  # the same for rows and for tokens
    trials, seconds = len(tried), round(sum(tried.values()))
    if out:
        _write(out, summary, told)
    if as_json:
        typer.echo(json.dumps({"trials": trials, "seconds": seconds, **summary}))
        return
    for measure, verdicts in told.items():
        typer.echo("\n".join([f"at equal {measure}:", *_words(verdicts)]))
    typer.echo(f"{trials} trials, {seeds} seeds an arm, {seconds:,} s of training and evaluation")


def _words(verdicts: Sequence[Verdict]) -> list[str]:
    width = max(len(each.part) for each in verdicts)
    several = len({each.capability for each in verdicts}) > 1
    return [
        f"  {each.part:<{width}}  {each.verdict:<11} {each.difference:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
        + (f"  {each.capability}" if several else "")
        for each in verdicts
    ]


def _write(out: Path, summary: dict[str, Any], told: dict[str, list[Verdict]]) -> None:
    from gristmill.report.charts import differences

    out.mkdir(parents=True, exist_ok=True)
    (out / "verdicts.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    for measure, verdicts in told.items():
        overall = [each for each in verdicts if each.capability in ("overall", verdicts[0].capability)]
        rows = [{"name": e.part, "difference": e.difference, "low": e.low, "high": e.high} for e in overall]
        (out / f"plot_{measure}.svg").write_text(_standing(differences(rows)), encoding="utf-8")


def _standing(svg: str) -> str:
    """A plot of the report as a file of its own: with colours, and a name for its language."""
    colours = {"--strong": "#2f6f4f", "--drop": "#b03a2e", "--soft": "#555", "--line": "#ccc", "--pale": "#bcd"}
    style = "".join(f"{name}: {value}; " for name, value in colours.items())
    named = "" if " xmlns=" in svg else ' xmlns="http://www.w3.org/2000/svg"'
    return svg.replace("<svg", f'<svg{named} style="{style}"', 1)
