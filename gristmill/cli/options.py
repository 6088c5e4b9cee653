"""The flags that several verbs share, with one name and one help text each.

    def vote(inputs: options.Inputs, *, out: options.OutTable, limit: options.Limit = None): ...

Not covered: flags of one verb, and those that mean something else in each, such as `--min`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUN = Path("gristmill-run")
"""The run of a command that names none."""

MODEL = "http://HOST/v1#NAME, an alias, hf:PATH, tiny or fake:FILE"
"""What a MODEL may be."""

# What is read and written

Inputs = Annotated[list[str], typer.Argument(metavar="IN...", help="Files, directories, globs or URLs of rows.")]
ColumnMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="OURS=THEIRS", help="Name a column: response=solution, prompt=Body+Question. Repeat."
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N rows, prompts or items.")
]
MaxBad = Annotated[str, typer.Option("--max-bad", metavar="SHARE", help="Bad rows allowed (at least 5, unless 0).")]
_OUT = typer.Option("-o", "--out", metavar="OUT.parquet", help="File to write.")
OutTable = Annotated[Path, _OUT]
OutTableOrNone = Annotated[Path | None, _OUT]
Report = Annotated[Path | None, typer.Option("-o", "--out", metavar="REPORT.json", help="Keep the report.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what -o names, whatever it is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
RunDir = Annotated[Path, typer.Option("--run", metavar="DIR", help="The run, which remembers what was done.")]
RunArgument = Annotated[Path | None, typer.Argument(metavar="DIR", help=f"A run; default: {RUN}.")]
SameRun = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The same, as other verbs name it.")]
Runner = Annotated[str, typer.Option("--runner", metavar="native|ray[:ADDRESS]", help="Where the work runs.")]
Reasoning = Annotated[
    str, typer.Option("--reasoning", metavar="WHERE", help="think (in tags), field (reasoning_content) or drop.")
]
Slices = Annotated[
    list[str] | None,
    typer.Option("--slice", metavar="NAME", help="tags, slot_… or a field of meta, in place of the suite's. Repeat."),
]
RightBy = Annotated[
    str | None,
    typer.Option("--score", metavar="SCORE[>=X]", help="What says an answer is right; X is 1 if left out."),
]

# What is asked of models, and what it may take

_MODELS = typer.Option("-m", "--model", metavar="MODEL", help=f"{MODEL}. Repeat.")
ModelNames = Annotated[list[str], _MODELS]
ModelNamesOrNone = Annotated[list[str] | None, _MODELS]
ModelsFile = Annotated[
    Path | None, typer.Option("--models", metavar="FILE", help="Aliases and prices; default: models.yaml here.")
]
Ladder = Annotated[str | None, typer.Option("--temperature", metavar="T,T,...", help="A ladder of temperatures.")]
Temperature = Annotated[
    float | None, typer.Option("--temperature", min=0, help="Left out: the suite's, or the server's own.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")]
Sampling = Annotated[
    list[str] | None, typer.Option("--sampling", metavar="NAME=VALUE", help="Another field of the request. Repeat.")
]
Together = Annotated[bool, typer.Option("--together", help="Ask for the n samples in one request.")]
Seed = Annotated[int, typer.Option("--seed", help="Decides the seeds that are sent, and what is drawn.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", min=0, help="Most money (prices: models.yaml).")]
MaxTokensTotal = Annotated[int | None, typer.Option("--max-tokens-total", min=1, help="Most tokens, in and out.")]
MaxFailures = Annotated[
    str, typer.Option("--max-failures", metavar="SHARE", help="Calls, and verdicts of judges, that may fail.")
]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, help="Calls in flight; left out: found out, and adapted.")
]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0.1, help="Seconds for an answer.")]
Preview = Annotated[
    int | None, typer.Option("--preview", min=1, metavar="N", help="Ask for the first N, show them, write nothing.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what it will take; ask nothing.")]
