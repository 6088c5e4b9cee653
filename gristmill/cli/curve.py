"""`gristmill curve`: how much would more data buy?"""

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

    from gristmill.plan.asked import Asked
    from gristmill.plan.curve import Curve, Interval, Point
    from gristmill.plan.trainer import Trainer
    from gristmill.run import Run


def curve(
    source: Annotated[str, typer.Argument(metavar="POINTS|ROWS", help="Points {n, score}, or rows to train on.")],
    *,
    trainer: TrainerOption = None,
    suite: SuiteOption = None,
    sizes: Annotated[str | None, typer.Option(metavar="N,N,...", help="Rows; default: six sizes, doubling.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each size.")] = 3,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A curve for each value: source, tags, a column, …")
    ] = None,
    steps: StepsOption = None,
    model: BaseOption = None,
    run: options.RunDir = options.RUN,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="POINTS.jsonl", help="Keep the points.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Fit how the score rises with data, and tell what twice as much would add, or that it cannot be told.

    Points are fitted as they are. Rows are trained on in nested subsets, each trial once.
    """
    from gristmill.plan.curve import fit
    from gristmill.run import Run

    if _holds_points(source):
        if trainer or suite:
            raise UsageError(f"{source}: points, which are fitted as they are; leave out --trainer and --suite")
        points = _read(source, by)
    else:
        home = Run(run)
        chosen, suites = trainer_of(trainer, home, suites=suite or (), steps=steps, model=model)
        points = _trained(source, chosen, suites, home, sizes=sizes, seeds=seeds, by=by)
    if out:
        rows = [{"curve": name, **each._asdict()} for name, some in points.items() for each in some]
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    curves = {name: fit(some) for name, some in points.items()}
    if as_json:
        typer.echo(json.dumps({name: _told(each) for name, each in curves.items()}, allow_nan=False))
        return
    for name, each in curves.items():
        typer.echo("\n".join(_words(name, points[name], each)))


def _holds_points(path: str) -> bool:
    """Whether a file's first record is a point, or means to be one."""
    from gristmill.formats import Bad, expand, raw_records

    first = next((record for file in expand([path]) for _, record, _ in raw_records(file)), None)
    return not isinstance(first, Bad) and isinstance(first, dict) and {"n", "score"} <= set(first)


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


def _trained(
    path: str, trainer: Trainer, suites: list[Asked], run: Run, *, sizes: str | None, seeds: int, by: str | None
) -> dict[str, list[Point]]:
    """Points by capability and slice, from trials on nested subsets: of all rows, or of those with each value."""
    from gristmill.plan.asked import views
    from gristmill.plan.curve import Point
    from gristmill.plan.subsets import nested, rows_of, values_of
    from gristmill.plan.trial import mean, trial

    rows = rows_of(path)
    warn_of_held(rows, suites)
    sets = {"": rows}
    if by:
        values = sorted({value for row in rows for value in values_of(row, by)})
        sets = {value: [row for row in rows if value in values_of(row, by)] for value in values}
        if not sets:
            raise UsageError(f"--by {by}: no row has it; name a column, tags, source or a key of meta")
    found: dict[str, list[Point]] = {}
    for part, some in sets.items():
        wanted = _sizes(sizes, len(some), part)
        for seed in range(seeds):
            order = nested(some, seed)
            for size in wanted:
                results = trial(run, order[:size], trainer, seed, run.path / "trials", suites=suites)
                for name, items in views(results, suites).items():
                    judged = sum(item is not None for item in items)
                    if judged:  # of what nobody could judge there is no point, least of all one at 0
                        point = Point(size, mean(items), judged)
                        found.setdefault(f"{part}: {name}" if part else name, []).append(point)
                whole = mean([item for items in results.values() for item in items])
                typer.echo(f"{part}{size:>9,} rows, seed {seed}: {whole:.4f}", err=True)
    return found


def _sizes(text: str | None, rows: int, part: str) -> list[int]:
    try:
        wanted = sorted({int(each) for each in text.split(",")}) if text else [rows >> n for n in range(5, -1, -1)]
    except ValueError:
        raise UsageError(f"--sizes {text}: write whole numbers with commas, as in 100,200,400") from None
    if wanted[0] < 1 or wanted[-1] > rows:
        there = f"{rows:,} rows there are" + (f" of {part}" if part else "")
        raise UsageError(f"--sizes {','.join(map(str, wanted))}: allowed are 1 to the {there}")
    return wanted


def _told(found: Curve) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | bool) else [_finite(each) for each in value]
        for name, value in found._asdict().items()
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _words(name: str, points: Sequence[Point], found: Curve) -> list[str]:
    top = max(each.n for each in points)
    lines = [f"{name}: {found.verdict}", f"  at {top:,} rows    {_shown(found.at_most)}"]
    if not found.fits:
        return [lines[0], "  the points do not follow the form: leave out small sizes (--sizes), or try more seeds"]
    if not any(each.score for each in points):
        return [lines[0], "  nothing was right at any size: train for longer, from a better model, or on easier items"]
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
