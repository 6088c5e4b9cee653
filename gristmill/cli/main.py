"""The command line: `gristmill VERB …`, one file a verb.

Modules that take long to import (Daft, Altair) are imported inside the verbs, so that `--help` is quick.
"""

import sys

import typer

from gristmill import __version__
from gristmill.cli.demo import demo
from gristmill.cli.filter import filter_command
from gristmill.cli.show import show
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
app.command("why")(why)
app.command("show")(show)


def run(arguments: list[str] | None = None) -> None:
    """Run the command line; the exit code is 0 done, 1 the answer is no, 2 bad input or usage."""
    try:
        app(args=_spread(sys.argv[1:] if arguments is None else arguments))
    except GristmillError as error:
        typer.echo(f"gristmill: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except OSError as error:  # a full disk, a directory that may not be written
        typer.echo(f"gristmill: {error}", err=True)
        sys.exit(2)


def _spread(arguments: list[str]) -> list[str]:
    """Let `--against` take several files, as in `filter IN --against A B`: repeat the flag before each of them.

    Only once an input has been named, so that in `filter --against A IN` the input stays one.
    """
    spread: list[str] = []
    several = False
    for argument in arguments:
        if several and not argument.startswith("-") and spread[-1] != "--against" and "--against" in spread[:-1]:
            spread.append("--against")
        if argument.startswith("-"):
            several = argument == "--against" and len(spread) > 1 and not spread[1].startswith("-")
        spread.append(argument)
    return spread
