"""The command line: `gristmill VERB …`, one file a verb.

Modules that take long to import (Daft, Altair) are imported inside the verbs, so that `--help` is quick.
"""

import atexit
import logging
import os
import sys
from contextlib import suppress
from typing import Any

import typer

from gristmill import __version__
from gristmill.cli.ablate import ablate
from gristmill.cli.audit import audit
from gristmill.cli.calibrate import calibrate
from gristmill.cli.calls import calls
from gristmill.cli.counter import counter
from gristmill.cli.curve import curve
from gristmill.cli.demo import demo
from gristmill.cli.eval import eval_command
from gristmill.cli.export import export
from gristmill.cli.filter import filter_command
from gristmill.cli.gap import gap
from gristmill.cli.gate import gate_command
from gristmill.cli.generate import generate
from gristmill.cli.init import init
from gristmill.cli.loop import loop
from gristmill.cli.mine import mine
from gristmill.cli.mix import mix
from gristmill.cli.pick import pick
from gristmill.cli.plan import efficiency, plan
from gristmill.cli.rollout import rollout
from gristmill.cli.runs import runs
from gristmill.cli.score import score
from gristmill.cli.show import show
from gristmill.cli.tiny import tiny
from gristmill.cli.train import train
from gristmill.cli.transform import transform
from gristmill.cli.vote import vote
from gristmill.cli.weights import weights
from gristmill.cli.why import why
from gristmill.errors import GristmillError, UsageError

app = typer.Typer(
    name="gristmill",
    help="A data engine for the post-training of language models: curate, and explain every row.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gristmill {__version__}")
        raise typer.Exit


@app.callback()
def _main(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Tell it.")) -> None:
    """A data engine for the post-training of language models: curate, and explain every row."""


app.command("demo")(demo)
app.command("filter")(filter_command)
app.command("generate")(generate)
app.command("transform")(transform)
app.command("score")(score)
app.command("vote")(vote)
app.command("rollout")(rollout)
app.command("pick")(pick)
app.command("mix")(mix)
app.command("export")(export)
app.command("audit")(audit)
app.command("eval")(eval_command)
app.command("gate")(gate_command)
app.command("loop")(loop)
app.command("calibrate")(calibrate)
app.command("gap")(gap)
app.command("mine")(mine)
app.command("counter")(counter)
app.command("weights")(weights)
app.command("plan")(plan)
app.command("efficiency")(efficiency)
app.command("curve")(curve)
app.command("ablate")(ablate)
app.command("train")(train)
app.command("tiny")(tiny)
app.command("why")(why)
app.command("show")(show)
app.command("runs")(runs)
app.command("calls")(calls)
app.command("init")(init)


_Misused: type[Any] = typer.BadParameter.__bases__[0]
"""Click's own error of usage: a missing argument, an unknown flag."""


def run(arguments: list[str] | None = None) -> None:
    """Run the command line; the exit code is 0 done, 1 the answer is no, 2 bad input or usage, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    logging.getLogger("daft_local_execution").setLevel(logging.CRITICAL)  # it logs the errors that it raises
    try:
        code = app(args=_spread(given), standalone_mode=False)
    except GristmillError as error:
        _end(str(error), 2 if isinstance(error, UsageError) else 1)
    except OSError as error:  # a full disk, a directory that may not be written
        _end(str(error), 2)
    except _Misused as error:
        if not given:
            error.show()  # the help
            sys.exit(2)
        message = " ".join(error.format_message().split())
        _end(f"{message} See gristmill {given[0] if given[0].isalpha() else ''} --help".replace("  ", " "), 2)
    except typer.Abort:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _end_at_once("interrupted", code)
    sys.exit(code)


_INTERRUPTED = 130
"""The exit code that Typer gives for Ctrl-C, and shells for a program that SIGINT ended."""


def _end(message: str, code: int) -> None:
    typer.echo(f"gristmill: {message}", err=True)
    sys.exit(code)


def _end_at_once(message: str, code: int) -> None:
    """End after what was registered for the end (answers that were paid for are written), but without the interpreter's
    own end: threads of Daft that still work abort the process when it is taken from under them."""
    with suppress(OSError):
        typer.echo(f"gristmill: {message}", err=True)
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


_SWITCHES = {"--force", "--json", "--keep-unjudged", "--exact", "--no-exact", "--suites", "--no-suites"}


def _spread(arguments: list[str]) -> list[str]:
    """Let `--against` take several files, as in `filter IN --against A B`: repeat the flag before each of them.

    Only once an input has been named (or --from-run, which stands for one), so that in `filter --against A IN` the
    input stays one.
    """
    spread: list[str] = []
    inputs, several = int("--from-run" in arguments), False
    for place, argument in enumerate(arguments):
        before = arguments[place - 1] if place else ""
        is_value = before.startswith("-") and "=" not in before and before not in _SWITCHES
        if argument.startswith("-"):
            several = inputs > 0 and argument.partition("=")[0] == "--against"
        elif several and not is_value:
            spread.append("--against")
        elif place and not is_value:
            inputs += 1
        spread.append(argument)
    return spread
