"""`gristmill audit`: how often a verifier is wrong, on rows whose right verdict is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.values import pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN = 10
"""Disagreements and survivors that are printed; the report has all."""


def audit(
    verifier: Annotated[str, typer.Argument(metavar="VERIFIER", help="A score: NAME[:ARGUMENT][,PARAMETER=VALUE].")],
    inputs: Annotated[list[str], typer.Argument(metavar="LABELLED...", help="Files of rows with a known verdict.")],
    *,
    label: Annotated[str, typer.Option(metavar="COLUMN", help="The column that says whether a response is right.")],
    column_map: options.ColumnMap = None,
    limit: options.Limit = None,
    out: options.Report = None,
    as_json: options.AsJson = False,
) -> None:
    """Tell a verifier's false positives and negatives, where it disagrees, and what it lets pass that was made wrong.

    Right answers are made wrong on purpose: a digit, the sign or the unit is changed.
    """
    from gristmill.score.audit import audit as audited
    from gristmill.score.audit import labelled
    from gristmill.score.named import score

    report = audited(score(verifier), labelled(inputs, label, columns=pairs("--map", column_map), limit=limit))
    if out:
        out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    typer.echo(json.dumps(report) if as_json else "\n".join(_words(report)))


def _words(report: Mapping[str, Any]) -> list[str]:
    unjudged = ", ".join(f"{count:,} {word}" for word, count in report["unjudged"].items())
    lines = [
        f"{report['verifier']}: {report['rows']:,} rows, {report['labelled_right']:,} of them right",
        f"false positives  {_rate(report['false_positives'])} of what is wrong",
        f"false negatives  {_rate(report['false_negatives'])} of what is right",
        *([f"not judged       {unjudged}"] if unjudged else []),
        *(f"{kind:<6} changed   {_rate(told)} still called right" for kind, told in report["mutations"].items()),
    ]
    lines += [
        f"  {each['row']}: labelled {each['label']}, judged {each['verdict']}: {each['why']}"
        for each in report["disagreements"][:SHOWN]
    ]
    lines += [
        f"  {each['row']}: {each['mutation']} {each['before']!r} to {each['after']!r}: {each['why']}"
        for each in report["survivors"][:SHOWN]
    ]
    hidden = sum(max(0, len(report[name]) - SHOWN) for name in ("disagreements", "survivors"))
    return [*lines, f"  and {hidden:,} more; -o REPORT.json keeps all"] if hidden else lines


def _rate(told: Mapping[str, Any]) -> str:
    if not told["of"]:
        return "none of 0"
    return f"{told['rate']:.2%} ({told['count']:,} of {told['of']:,}; 95 %: {told['low']:.2%} to {told['high']:.2%})"
