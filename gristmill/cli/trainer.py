"""What `gristmill ablate` and `gristmill curve` have in common: who trains, and what is asked of the trained models."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gristmill.plan.asked import Asked
    from gristmill.plan.trainer import Trainer
    from gristmill.run import Run

TrainerOption = Annotated[
    str | None,
    typer.Option(metavar="TRAINER", help="tiny (default: the embedded model), FILE.py:FUNCTION or a command."),
]
SuiteOption = Annotated[
    list[str] | None,
    typer.Option(metavar="SUITE.yaml", help="What is asked of each model; default: the run's suites. Repeat."),
]
StepsOption = Annotated[int | None, typer.Option(min=1, help="tiny: steps of 32 rows in every trial; default 300.")]
BaseOption = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="MODEL", help="tiny: the weights to begin with; default new ones."),
]


def trainer_of(
    name: str | None, run: Run, *, suites: Sequence[str], steps: int | None, model: str | None
) -> tuple[Trainer, list[Asked]]:
    """The trainer, and the suites that evaluate what it trains: none where it evaluates itself.

    Raises UsageError for flags that do not go together, and what cannot be used.
    """
    from gristmill.plan.asked import asked
    from gristmill.plan.trainer import STEPS, Tiny, known_of

    if name not in (None, "tiny"):
        for flag, given in (("--steps", steps), ("--model", model)):
            if given is not None:
                raise UsageError(f"{flag} {given}: goes with the trainer tiny alone; tell {name} by itself")
        return name, asked(run, suites) if suites else []
    if not all(map(find_spec, ("torch", "transformers"))):
        raise UsageError(
            "trainer tiny: needs torch and transformers: pip install 'gristmill[train]', or name another with "
            "--trainer FILE.py:FUNCTION"
        )
    from gristmill.train.pipeline import base_of

    trainer = Tiny(steps or STEPS, base_of(model) if model else None)
    known_of(trainer)
    return trainer, asked(run, suites)


def warn_of_held(rows: Sequence[Mapping[str, object]], suites: Sequence[Asked]) -> None:
    """Say on stderr that rows hold what is asked."""
    from gristmill.plan.asked import held

    if suites and (count := held(rows, suites)):
        what = f"{count:,} of {len(rows):,} rows have the prompt of an item"
        typer.echo(f"warning: {what}; gristmill filter --against drops them", err=True)
