"""`gristmill calibrate`: a judge compared with people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gristmill.run import Run

CHOSEN = "chosen"
"""The rater who always preferred the chosen response: what a preference set says."""


def calibrate(
    verdicts: Annotated[str, typer.Argument(metavar="VERDICTS", help="A file of verdicts: ours or anyone's.")],
    *,
    judge: Annotated[str, typer.Option(metavar="COLUMN", help="The judge's verdicts, or the name of our score.")],
    human: Annotated[
        list[str], typer.Option(metavar="COLUMN", help="A person's verdicts; chosen: the pair's own. Repeat.")
    ],
    swapped: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The judge's verdicts in the other order, on the same answers.")
    ] = None,
    text_a: Annotated[str | None, typer.Option(metavar="COLUMN", help="Answer A, for its length.")] = None,
    text_b: Annotated[str | None, typer.Option(metavar="COLUMN", help="Answer B, for its length.")] = None,
    numeric: Annotated[bool, typer.Option("--numeric", help="Verdicts are numbers on a scale.")] = False,
    out: options.Report = None,
    run: options.RunDir = options.RUN,
    as_json: options.AsJson = False,
) -> None:
    """Tell how far a judge agrees with people, beyond chance, and what moves it that does not move them.

    Kept with -o, the report is known to the run, and the judge is no longer called uncalibrated.
    """
    from gristmill.calibrate.report import compare, compare_numbers
    from gristmill.run import Run

    rows = _rows(verdicts)
    name = f"score_{judge}" if numeric else f"verdict_{judge}"
    judge_column = name if name in rows[0] else judge
    mine = _column(rows, judge_column, verdicts)
    people = {each: ["A"] * len(rows) if each == CHOSEN else _column(rows, each, verdicts) for each in human}
    if numeric:
        report = compare_numbers(mine, people)
    else:
        if text_a is None and {"chosen", "rejected"} <= rows[0].keys():
            text_a, text_b = "chosen", "rejected"
        if (text_a is None) != (text_b is None):
            raise UsageError("--text-a without --text-b (or the other way round): name both columns, or neither")
        texts = (_column(rows, text_a, verdicts), _column(rows, text_b, verdicts)) if text_a and text_b else None
        other = _column(rows, swapped, verdicts) if swapped else None
        report = compare(mine, people, swapped=other, texts=texts)
    report = {"judge": judge, "fingerprint": _fingerprint(Run(run), verdicts, judge) if out else None, **report}
    if out:
        out.write_text(json.dumps(report, indent=1), encoding="utf-8")
        params = {"inputs": [verdicts], "judge": judge, "fingerprint": report["fingerprint"]}
        Run(run).output(out, "calibrate", params=params, counts=report["with_people"])
    typer.echo(json.dumps(report) if as_json else "\n".join(_words(report)))


def _rows(path: str) -> list[Mapping[str, Any]]:
    """The records of a file, what is in `meta` beside the columns."""
    import orjson

    from gristmill.formats import Bad, expand, raw_records

    rows: list[Mapping[str, Any]] = []
    for file in expand([path]):
        for number, record, _ in raw_records(file):
            if isinstance(record, Bad):
                raise UsageError(f"{file}:{number}: {record.reason}; mend or remove it")
            meta = record.get("meta")
            rows.append({**(orjson.loads(meta) if isinstance(meta, str) else {}), **record})
    if not rows:
        raise UsageError(f"{path}: no rows; name a file of verdicts")
    return rows


def _column(rows: Sequence[Mapping[str, Any]], name: str, path: str) -> list[Any]:
    if not any(name in row for row in rows):
        raise UsageError(
            f"{path}: no column {name!r}; it has {', '.join(sorted({each for row in rows for each in row}))}"
        )
    return [row.get(name) for row in rows]


def _fingerprint(run: Run, path: str, judge: str) -> str | None:
    """What the judge was that wrote these verdicts, if this run wrote them."""
    where = str(Path(path).resolve())
    made = next((each for each in reversed(run.outputs()) if each.name == "score" and each.path == where), None)
    return made.params["scores"].get(judge) if made else None


def _words(report: Mapping[str, Any]) -> list[str]:
    """The report in words."""
    people, found = report["people"], report["with_people"]
    verdicts = report.get("pairs", report.get("items"))
    lines = [f"{report['judge']}: {verdicts:,} verdicts, {report['failures']:,} of them failures"]
    ceiling = "" if people["alpha"] is None else f"; people among themselves: alpha {people['alpha']:.3f}"
    ceiling += "" if people.get("fleiss") is None else f", Fleiss' kappa {people['fleiss']:.3f}"
    if "agree" in found:
        low, high = found["interval"]
        klow, khigh = found["kappa_interval"]
        lines += [
            f"agrees with people on {found['agree']:.1%} of {found['pairs']:,} ({low:.1%} to {high:.1%}){ceiling}",
            f"beyond chance: kappa {found['kappa']:.3f} ({klow:.3f} to {khigh:.3f}), Scott's pi {found['pi']:.3f}, "
            f"AC1 {found['ac1']:.3f}",
            f"always the commonest verdict would agree on {found['always_the_commonest']:.1%}",
        ]
        if found["agree_without_ties"] is not None:
            lines.append(f"without ties: {found['agree_without_ties']:.1%} of {found['pairs_without_ties']:,}")
    elif "pearson" in found:
        told = {
            name: found[name] for name in ("alpha", "pearson", "spearman", "mean_difference") if found[name] is not None
        }
        lines.append(
            f"with people, {found['items']:,} items: {', '.join(f'{n} {v:.3f}' for n, v in told.items())}{ceiling}"
        )
    if place := report.get("position"):
        lines += [
            f"order: {place['rate']:.1%} of {place['pairs']:,} flip ({place['to_first']:,} to the first shown, "
            f"{place['to_second']:,} to the second; p = {place['p']:.2g})",
            f"right: {report['accuracy']:.1%} on average, {report['both_orders_right']:.1%} in both orders",
        ]
    if (longer := report.get("length")) and longer["interval"]:
        low, high = longer["interval"]
        lines.append(
            f"length: the longer wins {longer['longer_wins']:.1%}, with people {longer['human_longer_wins']:.1%}: "
            f"{longer['difference']:+.1%} ({low:+.1%} to {high:+.1%})"
        )
    return lines
