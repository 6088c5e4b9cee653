"""`gristmill init`: a commented example of each YAML file, and the shipped templates, to begin from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli import options
from gristmill.errors import UsageError

EXAMPLES = Path(__file__).parent / "examples"
KINDS = {
    "template": "slots and skeletons that make prompts (generate)",
    "rules": "rules of your own, other limits (filter --rules)",
    "fake": "a scripted model (-m fake:FILE)",
    "models": "endpoints, prices, limits (models.yaml)",
    "judge": "a rubric that a model scores by (score --with judge:FILE)",
    "reward": "scores, weights and gates (rollout --reward)",
    "mix": "sources, shares, floors (mix)",
    "suite": "items, scores and slices to evaluate a model on (eval)",
    "loop": "rounds of mining, countering, training and gating (loop LOOP.yaml)",
}


def init(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"{', '.join(KINDS)}, library:…, op:…."),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Default: KIND.yaml.")] = None,
    force: options.Force = False,
) -> None:
    """Write an example of a YAML file, with comments, or a copy of a shipped template; without KIND, list them."""
    if kind is None:
        typer.echo("\n".join(_listed()))
        return
    example = _example(kind)
    out = out or Path(example.name)
    if out.is_dir():
        raise UsageError(f"-o {out} is a directory; name a file")
    if out.exists() and not force:
        raise UsageError(f"{out}: exists; name another with -o FILE, or add --force to replace it")
    out.write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    typer.echo(f"{out}: {kind}")


def _example(kind: str) -> Path:
    from gristmill.generate.library import PREFIX, library_path
    from gristmill.generate.ops import OPS, op_names

    if kind.startswith(PREFIX):
        return library_path(kind)
    if kind.startswith(OP) and kind.removeprefix(OP) in op_names():
        return OPS / f"{kind.removeprefix(OP)}.yaml"
    if kind not in KINDS:
        raise UsageError(
            f"init {kind}: allowed are {', '.join(KINDS)}, {PREFIX}NAME and {OP}NAME (gristmill init lists them)"
        )
    return EXAMPLES / f"{kind}.yaml"


OP = "op:"
"""What a shipped transform is named with."""


def _listed() -> list[str]:
    """The kinds, and the shipped templates with the number of prompts that each can make."""
    from gristmill.generate.library import PREFIX, library
    from gristmill.generate.op_file import Op
    from gristmill.generate.ops import OPS, op_names

    lines = [f"{kind:<26} {what}" for kind, what in KINDS.items()]
    for name, size, template in library():
        lines.append(f"{PREFIX + name:<26} {size:>11,} prompts   {template.description}")
    lines += [f"{OP + name:<26} {Op.load(OPS / f'{name}.yaml').description}" for name in op_names()]
    return lines
