"""`gristmill transform`: rows made from rows, with any model."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.asked import Models, account, expected
from gristmill.cli.values import ladder, pairs, sampling_fields, share
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gristmill.generate.estimate import Answerer
    from gristmill.generate.judged import Judge
    from gristmill.generate.op_file import Op
    from gristmill.generate.originals import Originals
    from gristmill.generate.sample import Plan
    from gristmill.generate.transform import Transform
    from gristmill.models.protocol import Model
    from gristmill.run import Run
    from gristmill.score.score import Score


def transform(
    inputs: options.Inputs,
    *,
    op: Annotated[
        str | None,
        typer.Option(metavar="OP", help="restyle, rephrase, harder, easier, reason, strip, instruction, translate."),
    ] = None,
    template: Annotated[Path | None, typer.Option(metavar="FILE", help="A transform of your own, in YAML.")] = None,
    model: options.ModelNamesOrNone = None,
    out: options.OutTableOrNone = None,
    style: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Style of a restyled answer. Repeat: one a row, drawn.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="LANGUAGE", help="Language of a translation.")] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="MODEL|SCORE|off", help="Who says that difficulty moved; default: the model."),
    ] = None,
    verify: Annotated[
        str | None, typer.Option(metavar="SCORE", help="Drop results whose answer is no longer right.")
    ] = None,
    reason_share: Annotated[
        str | None, typer.Option(metavar="SHARE", help="With reason or strip: a mix with that share of reasoning.")
    ] = None,
    keep_original: Annotated[
        bool, typer.Option("--keep-original", help="Write every original too, before its results.")
    ] = False,
    n: Annotated[int, typer.Option("-n", help="Results an original, at each temperature, by each model.")] = 1,
    temperature: options.Ladder = None,
    max_tokens: options.MaxTokens = None,
    sampling: options.Sampling = None,
    seed: options.Seed = 0,
    mapping: options.ColumnMap = None,
    limit: options.Limit = None,
    max_bad: options.MaxBad = "1%",
    max_cost: options.MaxCost = None,
    max_tokens_total: options.MaxTokensTotal = None,
    max_failures: options.MaxFailures = "10%",
    concurrency: options.Concurrency = None,
    timeout: options.Timeout = None,
    preview: options.Preview = None,
    dry_run: options.DryRun = False,
    models: options.ModelsFile = None,
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Make rows from rows: restyled, harder, translated, with reasoning or without; each knows its original.

    An answer is paid for once: what the run knows is not asked again. Stopped or killed, start the same again.
    """
    from gristmill.generate.op_file import op_of
    from gristmill.generate.originals import Originals
    from gristmill.generate.sample import Plan
    from gristmill.generate.transform import Transform
    from gristmill.generate.transform_pipeline import transform_rows
    from gristmill.models.budget import Budget
    from gristmill.models.calls import Calls
    from gristmill.parquet import check_replaceable
    from gristmill.progress import shown
    from gristmill.run import Run

    found = op_of(op, template)
    specs = model or []
    limited = {"max_tokens": max_tokens} if max_tokens else {}
    plan = Plan(
        n=n,
        temperatures=ladder(temperature),
        sampling={**found.sampling, **sampling_fields(sampling), **limited},
        seed=seed,
    )
    wanted = None if reason_share is None else share("--reason-share", reason_share, zero=True)
    most_bad = share("--max-bad", max_bad, zero=True)
    plain = Transform(found, style or [], to, seed, keep_original=keep_original)
    if out is None and not (preview or dry_run):
        raise UsageError("transform: no -o; name the .parquet file to write (--preview and --dry-run need none)")
    if out is not None:
        check_replaceable(out, "transform", force=force)
    if not specs and not found.marked:
        raise UsageError(f"-m: {found.name} asks a model; name one")
    budget, memory = Budget(max_cost, max_tokens_total), Run(run)
    with Models(Calls(run), budget, concurrency=concurrency, timeout=timeout, file=models) as opened:
        asking = opened.asking(max_failures)
        asked = [opened.open(spec) for spec in specs]
        done = replace(plain, judge=_judge(found, check, verify, asked, opened, memory))
        columns = pairs("--map", mapping)
        with shown():
            originals = Originals(inputs, found, run=memory, columns=columns, limit=limit, max_bad=most_bad)
        if dry_run:
            judging = opened.answerers([check or specs[0]])[0] if done.judge and done.judge.calls else None
            told = _estimated(originals, done, plan, opened.answerers(specs), judging=judging, share=wanted)
            typer.echo(json.dumps(told) if as_json else expected(told))
            return
        if preview:
            _show(originals, done, asked, plan, preview)
            return
        assert out is not None
        with shown() as say:
            summary = transform_rows(
                originals,
                done,
                asked,
                out,
                plan,
                run=memory,
                asking=asking,
                reason_share=wanted,
                source=inputs,
                force=force,
                say=say,
            )
    typer.echo(json.dumps(summary) if as_json else _printed(summary, out))


def _judge(
    op: Op, check: str | None, verify: str | None, asked: Sequence[Model], opened: Models, run: Run
) -> Judge | None:
    """Who judges the results: by --check, or by --verify."""
    from gristmill.generate.judged import Compared, Measured, Verified
    from gristmill.models.named import entries
    from gristmill.score.cache import Scores, cached
    from gristmill.score.named import score

    def named(spec: str) -> Score:
        found = score(spec)
        if found.pairwise:
            raise UsageError(f"score {spec}: it compares two answers; name one that judges an answer by itself")
        return cached(found, Scores(run.path))

    if check and not op.moves:
        raise UsageError(f"--check {check}: {op.name} does not move the difficulty; leave it out")
    if verify:
        if "reference" not in op.keeps:
            raise UsageError(
                f"--verify {verify}: the answer of the original is none to what {op.name} makes; leave it out"
            )
        return Verified(named(verify), asked[0] if op.makes == ["prompt"] else None)
    if not op.moves or check == "off":
        return None
    if check is None:
        return Compared(asked[0], op.moves)
    if check.startswith(("http://", "https://", "hf:", "fake:")) or check in entries(opened.file):
        return Compared(opened.open(check), op.moves)
    try:
        return Measured(named(check), op.moves)
    except UsageError as error:
        raise UsageError(
            f"--check {check}: no MODEL (http://HOST/v1#NAME, an alias, hf:, fake:), nor a {error}"
        ) from None


def _estimated(
    originals: Originals,
    done: Transform,
    plan: Plan,
    answerers: Sequence[Answerer],
    *,
    judging: Answerer | None,
    share: float | None,
) -> dict[str, Any]:
    """What a transform will take, with what `judging` its results takes."""
    from gristmill.generate.estimate import estimate
    from gristmill.generate.judged import Result
    from gristmill.generate.sample import Plan
    from gristmill.generate.transform_pipeline import to_change

    if share is not None:
        done = replace(done, only=frozenset(to_change(originals, done, plan, share)))
    told = estimate(done.prompts(originals), sum(1 for _ in done.prompts(originals)), answerers, plan)
    told["source"] = f"{done.op.name}: {originals.count:,} rows, {len(originals.bad):,} set aside"
    if (judge := done.judge) and judge.calls and judging:
        asks = (judge.asks(Result(row, row, "")) for row in originals)
        prompts = ({"prompt": ask.request.messages} for asked in asks for ask in asked[:1])
        one = next(iter(originals))
        sampling = judge.asks(Result(one, one, ""))[0].request.sampling
        more = estimate(prompts, told["calls"], [judging], Plan(n=judge.calls, sampling=sampling))
        told["source"] += f"; {judge.calls} of its calls a result are to judge it"
        told["models"] += more["models"]
        told["calls"] += more["calls"]
        told["cost"] = None if None in (told["cost"], more["cost"]) else round(told["cost"] + more["cost"], 6)
    return told


def _show(originals: Originals, done: Transform, asked: Sequence[Model], plan: Plan, count: int) -> None:
    """Originals and results, for people."""
    from gristmill.generate.transform import transformed
    from gristmill.wording import answers, prompt_text, told, verdict

    whole = replace(done, keep_original=True)
    for made in transformed(islice(originals, count), whole, asked, plan):
        for place, row in enumerate(made.rows(None)):
            typer.echo(f"── {'result' if place else 'original'}  {row['source_file']}:{row['source_row']}")
            typer.echo(f"[prompt] {prompt_text(row)}")
            for name, text in answers(row).items():
                typer.echo(f"[{name}] {text}")
            if row.get("drop_rule"):
                typer.echo(f"[{verdict(row)}] {told(row)}")
        typer.echo("")


def _printed(summary: dict[str, Any], out: Path | None) -> str:
    """The summary for a terminal."""
    kept, rows = summary["rows_kept"], summary["rows"]
    lines = [f"{summary['op']}: {summary['rows_in']:,} rows in, {rows:,} out, {kept:,} kept, in {out}"]
    lines += [f"  {count:>9,}  {rule}" for rule, count in summary["dropped"].items()]
    if summary["first_failure"]:
        lines.append(f"  the first that failed: {' '.join(summary['first_failure'].split())[:200]}")
    if summary["rows_unanswered"]:
        lines.append(f"  {summary['rows_unanswered']:>9,}  without an answer (their calls had failed), passed over")
    if summary["rows_bad"]:
        first = summary["bad_rows"][0]
        where = f"{first['source_file']}:{first['source_row']}: {first['_bad']}"
        lines.append(f"  {summary['rows_bad']:>9,}  set aside; first: {where}")
    for name, verdicts in summary["verdicts"].items():
        lines.append(f"{name}: {', '.join(f'{count:,} {word}' for word, count in verdicts.items())}")
    if mix := summary["reason_share"]:
        shown = "" if mix["share"] is None else f" ({mix['share']:.2%})"
        lines.append(f"mix: {mix['with_reasoning']:,} of {mix['rows']:,} rows have reasoning{shown}")
    if summary["calls"]:
        lines += account(summary, kept)
    lines.append(f"{summary['seconds']} s, {summary['peak_rss_mb']:,.0f} MB at most")
    return "\n".join(lines)
