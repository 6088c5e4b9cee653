"""`gristmill eval`: how good a model is, from a suite and a model or from what another tool wrote down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.asked import Models, account
from gristmill.cli.values import solved_by
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gristmill.loop.evals import Evals
    from gristmill.run import Run

SHOWN = 30
"""Slices that are printed."""


def eval_command(
    inputs: Annotated[
        list[str], typer.Argument(metavar="SUITE.yaml|LOGS...", help="A suite, or evaluated rows and others' logs.")
    ],
    *,
    model: Annotated[
        str | None, typer.Option("-m", "--model", metavar="MODEL", help=f"Who answers the suite: {options.MODEL}.")
    ] = None,
    out: options.OutTableOrNone = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="EVALS", help="Compare with these on the same items.")
    ] = None,
    score: options.RightBy = None,
    slices: options.Slices = None,
    confidence: Annotated[
        str | None, typer.Option(metavar="NAME", help="Score or field of meta that says how sure an answer is.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Samples an item, in place of the suite's.")] = None,
    temperature: options.Temperature = None,
    max_tokens: options.MaxTokens = None,
    seed: options.Seed = 0,
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
    """Tell how often a model is right, with intervals, overall and by slice.

    With a suite, its items are put to MODEL and registered in the run, whose filters keep data clean of them. Without,
    the inputs are evaluated rows, or logs of Inspect, lm-evaluation-harness, TRL, verl or OpenAI-style batches.
    """
    from gristmill.loop.accuracy import summarised
    from gristmill.loop.compare import compared
    from gristmill.loop.evals import read_evals
    from gristmill.loop.evaluate import evaluate
    from gristmill.loop.suite import read_suite
    from gristmill.models.budget import Budget
    from gristmill.models.calls import Calls
    from gristmill.progress import shown
    from gristmill.run import Run

    by = solved_by(score, "--score") if score else None
    is_suite = inputs[0].endswith((".yaml", ".yml"))
    if is_suite and (len(inputs) > 1 or model is None or out is None):
        raise UsageError(f"eval {inputs[0]}: a suite alone, with -m MODEL and -o OUT.parquet")
    if not is_suite and model:
        raise UsageError(f"eval {inputs[0]} -m {model}: a model answers a suite; name a .yaml file")
    before = read_evals(base) if base else None  # before a call is paid for
    if is_suite:
        suite = read_suite(inputs[0])
        own = {"slices": slices or suite.slices, "confidence": confidence or suite.confidence}
        suite = suite.model_copy(update=own)
        fields = {"temperature": temperature, "max_tokens": max_tokens}
        asked = Models(Calls(run), Budget(max_cost, max_tokens_total), concurrency=concurrency, file=models)
        with asked, shown() as say:
            summary = evaluate(
                suite,
                asked.open(str(model)),
                Path(str(out)),
                run=Run(run),
                sampling={name: value for name, value in fields.items() if value is not None},
                samples=n,
                solved=by,
                seed=seed,
                limit=limit,
                asking=asked.asking(max_failures),
                force=force,
                say=say,
            )
        evals = read_evals(str(out)) if base else None
    else:
        evals = read_evals(inputs)
        evals = evals._replace(rows=evals.rows[:limit])
        summary = {"rows": len(evals.rows), **_files(evals)}
        if any(name.startswith("score_") for row in evals.rows for name in row):
            summary |= summarised(evals, solved=by, slices=slices, confidence=confidence)
        if out:
            _write(evals, out, inputs, Run(run), force=force)
    if before and evals:
        summary["compared"] = compared(before, evals, solved=by, slices=slices)
    typer.echo(json.dumps(summary) if as_json else "\n".join(printed(summary, out)))


def _files(evals: Evals) -> dict[str, Any]:
    return {
        "files": [
            {"file": log.file, "format": log.format, "rows": len(log.rows), "notes": log.notes} for log in evals.logs
        ],
        "refused": [each._asdict() for each in evals.unread],
    }


def _write(evals: Evals, out: Path, inputs: list[str], run: Run, *, force: bool) -> None:
    from gristmill.loop.evaluate import write_evals
    from gristmill.parquet import check_replaceable

    check_replaceable(out, "eval", force=force)
    like = dict.fromkeys(name for row in evals.rows for name in row)
    write_evals(
        evals.rows, like, evals.scores, evals.slices, out, run=run, params={"inputs": inputs}, least=evals.least
    )


def printed(summary: Mapping[str, Any], out: Path | None) -> Iterator[str]:
    """The summary as lines for a terminal."""
    for each in summary.get("files", ()):
        notes = f" ({'; '.join(each['notes'])})" if each["notes"] else ""
        yield f"{Path(each['file']).name}: {each['format']}, {each['rows']:,} rows{notes}"
    for each in summary.get("refused", ()):
        yield f"{Path(each['file']).name}: REFUSED: {each['reason']}"
    if "score" in summary:
        yield from _accuracy(summary)
    elif "files" in summary:
        yield "the rows have no score: gristmill score --with SCORE"
    if found := summary.get("compared"):
        yield from _compared(found)
    if summary.get("items_bad"):
        yield f"{summary['items_bad']:,} bad rows among the items, not asked; first: {summary['first_bad']}"
    if "calls" in summary:
        yield from account(dict(summary), None)
    yield f"{summary['rows']:,} rows" + (f" in {out}" if out else "")


def _accuracy(summary: Mapping[str, Any]) -> Iterator[str]:
    yield _line(f"accuracy ({summary['score']} from {summary['right_from']:g})", summary)
    for name, told in list(summary["slices"].items())[:SHOWN]:
        yield _line(f"  {name}", told)
    if (more := len(summary["slices"]) - SHOWN) > 0:
        yield f"  … and {more:,} slices (--json)"
    if summary["pass_at"]:
        yield "pass@k  " + "   ".join(f"{k}: {value:.1%}" for k, value in summary["pass_at"].items())
    if "calibration" in summary and not summary["calibration"]:
        yield "calibration  none: no judged row has that confidence, from 0 to 1"
    elif found := summary.get("calibration"):
        yield f"calibration  ECE {found['ece']:.3f}, Brier {found['brier']:.3f} ({found['n']:,} answers)"


def _line(name: str, told: Mapping[str, Any]) -> str:
    if told["accuracy"] is None:
        return f"{name:<36} none of {told['unscored']:,} items scored"
    unscored = f", {told['unscored']:,} unscored" if told["unscored"] else ""
    interval = f"[{told['low']:.1%}, {told['high']:.1%}]"
    return f"{name:<36} {told['accuracy']:6.1%}  {interval}  {told['items']:,} items{unscored}"


def _compared(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"against the baseline, on {found['all']['n']:,} items of both:"
    for name, told in list(found["slices"].items())[:SHOWN]:
        yield f"  {name:<34} {told_pairs(told)}"
    yield f"  {'all':<34} {told_pairs(found['all'])}"


def told_pairs(told: Mapping[str, Any]) -> str:
    """A comparison in a few words."""
    low, high = told["interval"]
    return (
        f"{100 * told['difference']:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]  +{told['gained']:,} "
        f"-{told['lost']:,} of {told['n']:,}  p = {told['p']:.2g}"
    )
