"""`gristmill mix`: sources into one set, in the shares that a file says; and those shares, tuned by evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import share
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gristmill.mix.mix_file import MixFile
    from gristmill.mix.search import Searched
    from gristmill.mix.tune import Tuned


def mix(
    file: Annotated[Path, typer.Argument(metavar="MIX.yaml", help="The mix; gristmill init mix writes an example.")],
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="OUT", help="A .parquet file or a directory of parts; tuning: a .yaml."),
    ],
    rows: Annotated[int | None, typer.Option(min=1, help="The size of the mix, whatever the file says.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another draw than the file's.")] = None,
    tune: Annotated[
        list[str] | None, typer.Option(metavar="EVALS", help="Move the shares by these evaluations. Repeat.")
    ] = None,
    before: Annotated[
        list[str] | None, typer.Option(metavar="EVALS", help="--tune: the evaluations before, item by item. Repeat.")
    ] = None,
    score: Annotated[str | None, typer.Option(metavar="NAME", help="--tune: which score of EVAL rows.")] = None,
    slice_: Annotated[
        str, typer.Option("--slice", metavar="COLUMN", help="--tune: what tells metrics apart: suite, tags, slot_…")
    ] = "suite",
    accept_loss: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="--tune: a kind that may lose. Repeat.")
    ] = None,
    margin: Annotated[str, typer.Option(metavar="SHARE", help="--tune: what any kind may lose.")] = "2%",
    explore: Annotated[bool, typer.Option("--explore", help="--tune: also try, to learn how scores answer.")] = False,
    search: Annotated[
        str | None,
        typer.Option(metavar="FILE.py:FUNCTION", help="Search: FUNCTION(weights, seed) gives {kind: score}."),
    ] = None,
    trials: Annotated[int, typer.Option(min=8, help="--search: mixes to try.")] = 64,
    seeds: Annotated[int, typer.Option(min=2, help="--search: new seeds for each mix that is confirmed.")] = 3,
    max_bad: options.MaxBad = "1%",
    run: options.RunDir = options.RUN,
    runner: options.Runner = "native",
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Mix sources in exact shares: by rows or tokens, with repeats, caps, strata, a floor of general data.

    The same file, seed and sources give the same rows in the same order, on either runner. With --tune or --search the
    output is a new mix file.
    """
    from gristmill.mix.mix_file import read_mix
    from gristmill.mix.pipeline import mix_files
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.runner import use_runner

    wanted = read_mix(file)
    if rows is not None:
        wanted = wanted.model_copy(update={"rows": rows, "tokens": None, "by": "rows"})
    if seed is not None:
        wanted = wanted.model_copy(update={"seed": seed})
    if tune and search:
        raise UsageError("--tune --search: one at a time")
    for flag, given in (
        ("--before", before),
        ("--accept-loss", accept_loss),
        ("--explore", explore),
        ("--score", score),
    ):
        if given and not tune:
            raise UsageError(f"{flag}: goes with --tune EVALS")
    use_runner(runner)
    if tune:
        from gristmill.mix.tune import told
        from gristmill.mix.tune_files import tune_files

        tuned = tune_files(
            wanted,
            tune,
            out,
            run=Run(run),
            before=before or (),
            score=score,
            column=slice_,
            accepted=accept_loss or (),
            margin=share("--margin", margin, zero=True),
            explore=explore,
            force=force,
        )
        typer.echo(json.dumps(told(tuned)) if as_json else "\n".join(_tuned(tuned, wanted, out)))
    elif search:
        from gristmill.mix.tune_files import search_files

        found = search_files(wanted, search, out, run=Run(run), trials=trials, seeds=seeds, force=force)
        arms = [arm._asdict() for arm in found.arms]
        typer.echo(json.dumps({**found._asdict(), "arms": arms}) if as_json else "\n".join(_searched(found, out)))
    else:
        with shown() as say:
            summary = mix_files(
                wanted, out, run=Run(run), max_bad=share("--max-bad", max_bad, zero=True), force=force, say=say
            )
        typer.echo(json.dumps(summary) if as_json else "\n".join(_printed(summary, out)))


def _printed(summary: Mapping[str, Any], out: Path) -> list[str]:
    size = f"{summary['rows']:,} rows" + (f", {summary['tokens']:,} tokens" if "tokens" in summary else "")
    lines = [
        f"{size} in {out}: {summary['task_specific']:.1%} task-specific, {1 - summary['task_specific']:.1%} general"
    ]
    if summary["reasoning"] is not None:
        lines.append(f"{summary['reasoning']:.1%} with reasoning")
    width = max(len(each["name"]) for each in summary["sources"])
    for each in summary["sources"]:
        head = f"  {each['name']:<{width}}  {each['kind']:<10} {each['share']:>6.1%} {each['rows']:>11,} rows"
        lines.append(f"{head}  of {each['available']:,}" + (f"; {each['why']}" if each["why"] else ""))
        if each["rows_bad"]:
            lines.append(f"  {'':<{width}}  {each['rows_bad']:,} bad rows set aside")
    lines += [f"note: {note}" for note in summary["notes"]]
    return [*lines, f"{summary['seconds']} s, {summary['peak_rss_mb']:,.0f} MB at most"]


def _tuned(tuned: Tuned, mix: MixFile, out: Path) -> list[str]:
    lines = []
    for each in tuned.reasons:
        low, estimate, high = each.interval
        verdict = each.verdict or ("rose" if low > 0 and each.against.startswith("before") else "within noise or above")
        name = each.metric if each.metric == each.kind else f"{each.metric} ({each.kind})"
        lines.append(f"{name}: {estimate:+.3f} against {each.against} [{low:+.3f}, {high:+.3f}]: {verdict}")
    if not tuned.reasons:
        lines.append("nothing to compare with: name goals, or scores before (`previous`, --before); this is the first")
    before = tuned.measured.shares
    if not tuned.moved:
        lines.append("no move: nothing is below what it should be beyond noise, or no allowed mix is better")
    for kind, now in tuned.shares.items():
        gain = f"  expected {tuned.expected[kind]:+.3f}" if kind in tuned.expected else ""
        lines.append(f"  {kind:<12} {before[kind]:>6.1%} -> {now:>6.1%}{gain if tuned.moved else ''}")
    for loss in tuned.losses:
        low, high = loss.interval
        said = ", accepted" if loss.accepted else ""
        lines.append(f"gives up {loss.kind}: {loss.estimate:+.3f} [{low:+.3f}, {high:+.3f}] since the first mix{said}")
    lines += [f"held {kind}: it would lose more; --accept-loss {kind} lets it" for kind in tuned.held]
    lines += [f"note: {note}" for note in tuned.notes]
    return [*lines, f"{out}: round {len(mix.history) + 1}"]


def _searched(found: Searched, out: Path) -> list[str]:
    lines = [
        f"{found.trials} mixes tried; {found.regression} predicts mixes it has not seen with rank correlation "
        f"{found.rank_correlation:.2f}"
    ]
    for arm in found.arms:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in arm.weights.items())
        lines.append(f"  {arm.name:<10} {arm.mean:.4f} ± {arm.error:.4f}  {weights}")
    best, even = found.arms[0], next(arm for arm in found.arms if arm.name in ("even", "by size"))
    apart, error = best.mean - even.mean, (best.error**2 + even.error**2) ** 0.5
    verdict = "better than" if apart > 2 * error else "not known to be better than"
    return [*lines, f"{best.name} is {verdict} the mix {even.name}: {apart:+.4f} ± {error:.4f}; {out}"]
