"""`gristmill filter`: the part of a pile of data worth training on, and a reason for every row that is not in it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from enum import StrEnum
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs, share
from gristmill.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gristmill.filter.pipeline import Settings
    from gristmill.ledger import Output
    from gristmill.run import Run


class Numbers(StrEnum):
    """What becomes of rows that differ in numbers only."""

    guard = "guard"
    merge = "merge"


class Collapse(StrEnum):
    """What becomes of answers with the same opening."""

    report = "report"
    mark = "mark"


class Text(StrEnum):
    """Which text the duplicate and contamination steps compare."""

    both = "both"
    prompt = "prompt"
    response = "response"


def filter_command(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="IN...", help="Files, globs, directories or URLs.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Directory to write.")],
    rules: Annotated[str, typer.Option(metavar="default|none|FILE", help="Rules; FILE is YAML.")] = "default",
    exact: Annotated[bool, typer.Option(help="Drop rows that are equal once normalised.")] = True,
    near: Annotated[str, typer.Option(metavar="JACCARD|off", help="Drop near duplicates from here on.")] = "0.8",
    near_recall: Annotated[float, typer.Option(help="Share of pairs at that similarity to catch.")] = 0.99,
    numbers: Annotated[Numbers, typer.Option(help="Rows that differ in numbers only: keep, or merge.")] = Numbers.guard,
    boilerplate: Annotated[
        str, typer.Option(metavar="SHARE|off", help="Do not compare 5-grams that more than SHARE of a source has.")
    ] = "off",
    collapse: Annotated[
        Collapse, typer.Option(help="Same openings: report them, or drop all but one.")
    ] = Collapse.report,
    against: Annotated[
        list[str] | None, typer.Option(metavar="EVAL...", help="Evaluation files that must not be in the data.")
    ] = None,
    suites: Annotated[
        bool, typer.Option("--suites/--no-suites", help="Also against every suite evaluated in the run.")
    ] = True,
    minimum: Annotated[
        list[str] | None, typer.Option("--min", metavar="NAME=VALUE", help="Drop rows whose score is lower. Repeat.")
    ] = None,
    keep_unjudged: Annotated[bool, typer.Option("--keep-unjudged", help="Keep rows whose score is null.")] = False,
    keep_top: Annotated[
        str | None, typer.Option(metavar="FRACTION:NAME", help="Keep the rows with the highest score.")
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of duplicates, keep the row with the highest score.")
    ] = None,
    text: Annotated[Text, typer.Option(help="What duplicates and contamination compare.")] = Text.both,
    mapping: options.ColumnMap = None,
    max_bad: options.MaxBad = "1%",
    limit: options.Limit = None,
    stratify: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Hold the shares of its values (or of: length).")
    ] = None,
    run: options.RunDir = options.RUN,
    from_run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Judge the rows of that run's (or output's) last filter anew; reads no IN."),
    ] = None,
    fail_on: Annotated[
        list[str] | None, typer.Option(metavar="ALARM", help="Exit 1 if it fired; `any` for all.")
    ] = None,
    runner: options.Runner = "native",
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Keep what is worth training on; give every other row its reason.

    Order: rules, scores (--min, --keep-top), contamination (--against), exact duplicates, near duplicates, openings,
    strata (--stratify).
    """
    from gristmill.filter.pipeline import ALARMS, Settings, filter_files
    from gristmill.filter.rules_file import rules_named
    from gristmill.loop.suite import registered
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.runner import use_runner

    settings = Settings(
        rules=rules_named(rules),
        exact=exact,
        near=None if near == "off" else share("--near", near),
        recall=near_recall,
        numbers=numbers.value,
        boilerplate=None if boilerplate == "off" else share("--boilerplate", boilerplate),
        collapse=collapse.value,
        against=against or (),
        minimum={name: _number("--min", value) for name, value in pairs("--min", minimum).items()},
        keep_unjudged=keep_unjudged,
        keep_top=_keep_top(keep_top),
        prefer=prefer,
        text=text.value,
        columns=pairs("--map", mapping),
        max_bad=share("--max-bad", max_bad, zero=True),
        limit=limit,
        stratify=stratify,
    )
    if unknown := set(fail_on or ()) - {*ALARMS, "any"}:
        raise UsageError(f"--fail-on {unknown.pop()}: allowed are {', '.join(ALARMS)} and any")
    use_runner(runner)
    before = None
    if from_run is not None:
        if _was_given(context, "run"):
            raise UsageError(f"--run --from-run {from_run}: the run is that one; leave --run out")
        memory, before = remembered(from_run, inputs)
        settings = merged(context, settings, Settings.of(before.params["settings"]))
        inputs = before.params["inputs"]
    elif inputs:
        memory = Run(run)
    else:
        raise UsageError("filter: no IN; name files, or an earlier filter with --from-run DIR")
    held = registered(memory)
    against = [each for each in settings.against if each not in held]
    settings = replace(settings, against=[*against, *held] if suites else against)
    with shown() as say:
        summary = filter_files(inputs, out, settings, run=memory, before=before, force=force, say=say)
    typer.echo(json.dumps(summary) if as_json else printed(summary, out, settings))
    fired = [alarm for alarm in summary["alarms"] if {alarm["name"], "any"} & set(fail_on or ())]
    if fired:
        raise Refused(f"alarm {fired[0]['name']}: {fired[0]['message']} (--fail-on); the output is in {out}")


def remembered(directory: Path, inputs: list[str] | None) -> tuple[Run, Output]:
    """The run that `--from-run` names, and its last filter (of an output directory: the filter that wrote it)."""
    from gristmill.explain import summary_of
    from gristmill.ledger import FILE
    from gristmill.run import Run

    if inputs:
        raise UsageError(f"filter {inputs[0]} --from-run {directory}: the rows come from the run; leave IN out")
    wrote = None
    if not (directory / FILE).is_file():
        if not (directory / "summary.json").is_file():
            raise UsageError(f"--from-run {directory}: neither a run nor the output of a filter; name one of them")
        known = summary_of(directory).get("run")
        if not known or not (Path(known) / FILE).is_file():
            raise UsageError(f"--from-run {directory}: its run is gone ({known}); filter the files again")
        wrote, directory = str(directory.resolve()), Path(known)
    memory = Run(directory)
    filters = [each for each in memory.outputs() if each.name == "filter" and wrote in (None, each.path)]
    if not filters:
        raise UsageError(f"--from-run {directory}: no filter {'wrote there' if wrote else 'is in it'}; run one first")
    return memory, filters[-1]


_FLAGS = {"recall": "near_recall", "columns": "mapping"}
"""The parameters of the command that are named otherwise than the settings."""


def merged(context: typer.Context, given: Settings, before: Settings) -> Settings:
    """The settings of an earlier filter with those changed that were given as flags; scores one by one.

    Raises UsageError for a flag that says how rows are read: they were read already.
    """
    names = [f.name for f in fields(given)]
    flags = {name for name in names if _was_given(context, _FLAGS.get(name, name))}
    if fixed := flags & {"columns", "limit"}:
        flag = {"columns": "--map"}.get(fixed.pop(), "--limit")
        raise UsageError(f"{flag} --from-run: the rows were read already; filter the files again")
    changed = {name: getattr(given, name) for name in flags}
    if "minimum" in flags:
        changed["minimum"] = {**before.minimum, **given.minimum}
    return replace(before, **changed)


def _was_given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def _number(flag: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise UsageError(f"{flag} …={value}: allowed is a number")
    return number


def _keep_top(value: str | None) -> tuple[float, str] | None:
    if value is None:
        return None
    fraction, _, name = value.partition(":")
    if not name:
        raise UsageError(f"--keep-top {value}: write --keep-top FRACTION:NAME, as in 0.2:quality")
    return share("--keep-top", fraction), name


def printed(summary: dict[str, Any], out: Path, settings: Settings) -> str:
    """The summary as a few lines for a terminal."""
    lines = [f"{summary['rows_kept']:,} of {summary['rows_in']:,} rows kept ({summary['yield']:.1%})"]
    if summary["rows_bad"]:
        lines.append(f"  {summary['rows_bad']:>9,}  bad rows, set aside in {out / 'bad_rows.jsonl'}")
    lines += [f"  {count:>9,}  {rule}" for rule, count in summary["dropped"].items()]
    lines += _yields(summary["yields"])
    for table in summary["contamination"]:
        flag = "; over 2 %" if table["flagged"] else ""
        hit = f"{table['items_hit']:,} of {table['items']:,} items in the data ({table['share']:.1%})"
        lines.append(f"evaluation {Path(table['evaluation']).name}: {hit}{flag}")
    near = summary["near_duplicates"]
    if near:
        curve = {round(s, 2): p for s, p in near["s_curve"]}
        at = ", ".join(f"{curve[s]:.0%} at {s}" for s in (0.5, 0.6, 0.7, 0.8, 0.9) if s in curve)
        lines.append(f"near duplicates: {near['bands']} bands of {near['rows_per_band']} find of the pairs {at}")
        if near["number_twins"]:
            lines.append(f"  {near['number_twins']:,} rows differ from another in numbers only; kept and flagged")
    openings = summary["openings"]
    verb = "all but one dropped" if settings.collapse == "mark" else "reported only"
    lines.append(f"same openings: {openings['rows']:,} rows in {openings['groups']:,} groups, {verb}")
    lines += [f"ALARM {alarm['name']}: {alarm['message']}" for alarm in summary["alarms"]]
    lines.append(f"{summary['seconds']} s, {summary['peak_rss_mb']:,.0f} MB at most")
    lines.append(f"report: {out / 'report.html'}   why a row: gristmill why ID --run {out}")
    return "\n".join(lines)


def _yields(found: list[dict[str, Any]]) -> Iterator[str]:
    """What was kept of each temperature, model and template, a line each."""
    from gristmill.wording import visible

    for each in found:
        value = "(none said)" if each["value"] is None else each["value"]
        named = visible(f"{each['by']} {value}", one_line=True)
        first = next((f"; {count:,} {rule}" for rule, count in each["dropped"].items()), "")
        yield f"  {named}: {each['kept']:,} of {each['rows']:,} kept ({each['yield']:.1%}){first}"
