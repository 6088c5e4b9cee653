"""`gristmill curve`: how much would more data buy?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gristmill.plan.curve import Curve, Interval, Point


def curve(
    source: Annotated[str, typer.Argument(metavar="POINTS|ROWS", help="Points {n, score}, or rows to train on.")],
    *,
    trainer: Annotated[
        str | None, typer.Option(metavar="TRAINER", help="FILE.py:FUNCTION or a command: trains and evaluates.")
    ] = None,
    sizes: Annotated[str | None, typer.Option(metavar="N,N,...", help="Rows; default: six sizes, doubling.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each size.")] = 3,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help="POINTS: a curve for each value.")] = None,
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Where trials are kept.")] = Path("gristmill-run"),
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="POINTS.jsonl", help="Keep the points.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the curves as one JSON object.")] = False,
) -> None:
    """Fit how the score rises with data, and tell what twice as much would add, or that it cannot be told.

    Points are fitted as they are. Rows are trained on in nested subsets, each trial once.
    """
    from gristmill.plan.curve import fit

    points = _trained(source, trainer, sizes, seeds, run) if trainer else _read(source, by)
    if out:
        rows = [{"curve": name, **each._asdict()} for name, some in points.items() for each in some]
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    curves = {name: fit(some) for name, some in points.items()}
    if as_json:
        typer.echo(json.dumps({name: _told(each) for name, each in curves.items()}, allow_nan=False))
        return
    for name, each in curves.items():
        typer.echo("\n".join(_words(name, points[name], each)))


def _read(path: str, by: str | None) -> dict[str, list[Point]]:
    """Points from a file, by the value of a column."""
    from gristmill.formats import Bad, expand, raw_records
    from gristmill.plan.curve import Point

    found: dict[str, list[Point]] = {}
    for file in expand([path]):
        for number, record, _ in raw_records(file):
            if isinstance(record, Bad):
                raise UsageError(f"{file}:{number}: {record.reason}")
            try:
                point = Point(int(record["n"]), float(record["score"]), int(record.get("items") or 0))
                name = str(record[by]) if by else str(record.get("curve", "score"))
            except (KeyError, TypeError, ValueError) as error:
                raise UsageError(f"{file}:{number}: {error}; a point has n, score and perhaps items") from None
            found.setdefault(name, []).append(point)
    if not found:
        raise UsageError(f"{path}: no points; name a file of {{n, score}}, or rows with --trainer")
    return found


def _trained(path: str, trainer: str, sizes: str | None, seeds: int, directory: Path) -> dict[str, list[Point]]:
    """Points by capability, from trials on nested subsets."""
    from gristmill.plan.curve import Point
    from gristmill.plan.subsets import nested, rows_of
    from gristmill.plan.trial import trial
    from gristmill.run import Run

    rows = rows_of(path)
    wanted = _sizes(sizes, len(rows))
    run = Run(directory)
    found: dict[str, list[Point]] = {}
    for seed in range(seeds):
        order = nested(rows, seed)
        for size in wanted:
            results = trial(run, order[:size], trainer, seed, directory / "trials")
            for name, items in results.items():
                found.setdefault(name, []).append(Point(size, sum(items) / len(items), len(items)))
                typer.echo(f"{size:>9,} rows, seed {seed}: {name} {sum(items) / len(items):.4f}", err=True)
    return found


def _sizes(text: str | None, rows: int) -> list[int]:
    try:
        wanted = sorted({int(each) for each in text.split(",")}) if text else [rows >> n for n in range(5, -1, -1)]
    except ValueError:
        raise UsageError(f"--sizes {text}: write whole numbers with commas, as in 100,200,400") from None
    if wanted[0] < 1 or wanted[-1] > rows:
        raise UsageError(f"--sizes {','.join(map(str, wanted))}: allowed are 1 to the {rows:,} rows there are")
    return wanted


def _told(found: Curve) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str) else [_finite(each) for each in value]
        for name, value in found._asdict().items()
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _words(name: str, points: Sequence[Point], found: Curve) -> list[str]:
    top = max(each.n for each in points)
    lines = [f"{name}: {found.verdict}", f"  at {top:,} rows    {_shown(found.at_most)}"]
    if found.verdict == "cannot tell":
        low, high = found.ceiling.low, found.ceiling.high
        return [*lines, f"  the points allow a ceiling of {low:.3f} to {high:.3f}: try more sizes, seeds or items"]
    lines += [
        f"  at {2 * top:,} rows    {_shown(found.at_twice)}, {found.gain.low:+.3f} to {found.gain.high:+.3f}",
        f"  ceiling          {_shown(found.ceiling)}",
    ]
    if found.next_point.high < float("inf"):
        lines.append(f"  one point more   {found.next_point.low:,.0f} to {found.next_point.high:,.0f} rows in all")
    return lines


def _shown(interval: Interval) -> str:
    return f"{interval.best:.3f} ({interval.low:.3f} to {interval.high:.3f})"
