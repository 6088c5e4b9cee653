"""`gristmill gate`: may a candidate take the baseline's place?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.eval import told_pairs
from gristmill.cli.values import share, solved_by
from gristmill.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gristmill.run import Run


def gate_command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The baseline's evaluated rows, or a log.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The candidate's, on the same items.")],
    *,
    target: Annotated[
        list[str], typer.Option("--target", metavar="SLICE", help="NAME=VALUE that must be better, or all. Repeat.")
    ],
    critical: Annotated[
        list[str] | None, typer.Option("--critical", metavar="SLICE", help="Where nothing may be lost. Repeat.")
    ] = None,
    margin: Annotated[str, typer.Option(metavar="SHARE", help="How much worse any other slice may be.")] = "5%",
    effect: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Smallest gain worth having; default: the margin.")
    ] = None,
    max_flips: Annotated[str, typer.Option(metavar="SHARE", help="Items that may be lost, over all.")] = "10%",
    max_unscored: Annotated[str, typer.Option(metavar="SHARE", help="Items that may lack an outcome.")] = "1%",
    alpha: Annotated[str, typer.Option(metavar="SHARE", help="Error of all looks at these items together.")] = "5%",
    least: Annotated[
        int, typer.Option("--min-items", min=1, help="Slices of fewer items are named and not checked.")
    ] = 1,
    sealed: Annotated[str, typer.Option(metavar="SHARE", help="Items kept out of every look but a release.")] = "0",
    release: Annotated[bool, typer.Option("--release", help="Look at the sealed items, and at them alone.")] = False,
    slices: options.Slices = None,
    score: options.RightBy = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE.json", help="Write the verdict.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE.xml", help="Write it for CI, too.")] = None,
    run: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="Where looks at the items are counted.")
    ] = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Promote, reject or inconclusive: better on the targets, not worse elsewhere, nothing lost where it is critical.

    Exit 0 for promote, 1 for anything else.
    """
    from gristmill.loop.evals import read_evals
    from gristmill.loop.gate import Terms, gate
    from gristmill.loop.junit import junit as as_junit
    from gristmill.run import Run

    terms = Terms(
        tuple(target),
        tuple(critical or ()),
        margin=share("--margin", margin),
        effect=share("--effect", effect) if effect else None,
        alpha=share("--alpha", alpha),
        max_flips=share("--max-flips", max_flips, zero=True),
        max_unscored=share("--max-unscored", max_unscored, zero=True),
        least=least,
        sealed=share("--sealed", sealed, zero=True),
        release=release,
    )
    if out:  # before the look is taken
        _check_out(out, force=force)
    if junit:
        if junit.is_dir():
            raise UsageError(f"--junit {junit}: a directory; name a file")
        junit.parent.mkdir(parents=True, exist_ok=True)
    memory = Run(run)
    by = solved_by(score, "--score") if score else None
    told = gate(read_evals(base), read_evals(candidate), terms, run=memory, solved=by, slices=slices)
    told = {"baseline": base, "candidate": candidate, **told}
    if out:
        _write(out, told, memory)
    if junit:
        junit.write_text(as_junit(told), encoding="utf-8")
    typer.echo(json.dumps(told) if as_json else "\n".join(printed(told)))
    if told["verdict"] != "promote":
        raise Refused(f"{told['verdict']}: {'; '.join(told['why'][:3])}")


def _check_out(out: Path, *, force: bool) -> None:
    if out.suffix != ".json" or out.is_dir():
        raise UsageError(f"-o {out}: gate writes a .json file; name one")
    if not out.exists() or force:
        return
    try:
        ours = "verdict" in json.loads(out.read_text(encoding="utf-8"))
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise UsageError(f"-o {out}: a file that gristmill did not write; name another, or add --force")


def _write(out: Path, told: Mapping[str, Any], run: Run) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    params = {name: told[name] for name in ("baseline", "candidate", "terms")}
    run.output(out, "gate", params=params, counts={"verdict": told["verdict"], **told["all"]})


def printed(told: Mapping[str, Any]) -> Iterator[str]:
    """The verdict as lines for a terminal."""
    look = told["look"]
    yield f"{told['verdict'].upper()}   {told_pairs(told['all'])}"
    at = "the sealed items" if look["release"] else "these items"
    yield f"look {look['number']} at {at}: each test at {look['level']:.4f} of {look['alpha']:g}"
    for check in told["checks"]:
        power = f"  (power {check['power']:.0%})" if "power" in check else ""
        yield f"  {check['verdict']:<12} {check['check']:<8} {check['name']:<24} {check['why']}{power}"
