"""`gristmill counter`: counterexamples to what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.cli.asked import Models, account
from gristmill.cli.values import pairs, sampling_fields, share
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def counter(
    clusters: Annotated[Path, typer.Argument(metavar="CLUSTERS", help="What gristmill mine wrote.")],
    *,
    out: options.OutTable,
    model: Annotated[
        str | None, typer.Option("-m", "--model", metavar="MODEL", help=f"Who writes them: {options.MODEL}.")
    ] = None,
    made_by: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="FILE.py:FUNCTION",
            help="A function (cluster, n, seed) -> rows instead, or tiny: its world's.",
        ),
    ] = None,
    cluster: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this cluster, by id or name. Repeat.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first so many clusters.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Rows to keep for each cluster.")] = 100,
    shares: Annotated[
        list[str] | None,
        typer.Option("--share", metavar="KIND=SHARE", help="look_alike, contrast, boundary, negative. Repeat."),
    ] = None,
    verify: Annotated[
        str | None, typer.Option(metavar="SCORE", help="Keep answers that it confirms; else they wait for people.")
    ] = None,
    verify_with: Annotated[
        str | None, typer.Option("--verify-with", metavar="MODEL", help="Who answers again to verify; default -m.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Another suite that must not leak. Repeat.")
    ] = None,
    replay: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Old data to mix in. Repeat.")] = None,
    replay_share: Annotated[str, typer.Option(metavar="SHARE", help="Its share of all rows.")] = "50%",
    asks: Annotated[Path | None, typer.Option(metavar="DIR", help="Templates of your own, KIND.yaml.")] = None,
    max_tokens: options.MaxTokens = None,
    sampling: options.Sampling = None,
    seed: Annotated[int, typer.Option(help="Order of seeds, seeds that are sent, draw of the replay.")] = 0,
    max_cost: options.MaxCost = None,
    max_tokens_total: options.MaxTokensTotal = None,
    max_failures: options.MaxFailures = "10%",
    concurrency: options.Concurrency = None,
    timeout: options.Timeout = None,
    models: options.ModelsFile = None,
    run: options.RunDir = options.RUN,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Make counterexamples to clusters of failures, from seeds of their training half, checked and mixed with replay.

    Rows that fail a check are written with the reason. An answer is paid for once; stopped or killed, start again.
    """
    from gristmill.loop.asks import asks_of
    from gristmill.loop.clusters_table import read_clusters
    from gristmill.loop.counter_files import Plan, counter_clusters
    from gristmill.loop.counter_inputs import maker, maker_of
    from gristmill.models.budget import Budget
    from gristmill.models.calls import Calls
    from gristmill.progress import shown
    from gristmill.run import Run
    from gristmill.score.cache import Scores, cached
    from gristmill.score.named import score

    limited = {"max_tokens": max_tokens} if max_tokens else {}
    plan = Plan(
        n=n,
        **({"shares": _shares(shares)} if shares else {}),
        seed=seed,
        sampling={**sampling_fields(sampling), **limited},
        replay=replay or (),
        replay_share=_below_one(replay_share),
        made_by=maker(maker_of(made_by)) if made_by else None,
        spec=maker_of(made_by),
    )
    table = read_clusters(clusters)
    memory, budget = Run(run), Budget(max_cost, max_tokens_total)
    found = score(verify) if verify else None
    if found and found.pairwise:
        raise UsageError(f"--verify {verify}: it compares two answers; name one that judges an answer by itself")
    with (
        Models(Calls(run), budget, concurrency=concurrency, timeout=timeout, file=models) as opened,
        shown() as say,
    ):
        summary = counter_clusters(
            _chosen(table, cluster, top, clusters),
            clusters,
            out,
            plan,
            clusters=table,
            run=memory,
            asks=asks_of(asks),
            model=opened.open(model) if model else None,
            score=cached(found, Scores(run)) if found else None,
            checker=opened.open(verify_with) if verify_with else None,
            against=against or (),
            asking=opened.asking(max_failures),
            force=force,
            say=say,
        )
    typer.echo(json.dumps(summary) if as_json else _printed(summary, out))


def _shares(values: Sequence[str]) -> dict[str, float]:
    from gristmill.loop.asks import KINDS

    given = pairs("--share", list(values))
    if unknown := next((kind for kind in given if kind not in KINDS), None):
        raise UsageError(f"--share {unknown}: allowed are {', '.join(KINDS)}")
    found = {kind: share(f"--share {kind}", value, zero=True) for kind, value in given.items()}
    if not sum(found.values()):
        raise UsageError("--share: all are 0; name one that is not")
    return found


def _below_one(value: str) -> float:
    found = share("--replay-share", value, zero=True)
    if found >= 1:
        raise UsageError(f"--replay-share {value}: allowed are shares below 1, which leave room for counterexamples")
    return found


def _chosen(
    table: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None, top: int | None, path: Path
) -> list[dict[str, Any]]:
    rows = [dict(row) for row in table]
    if wanted:
        known = [name for row in rows for name in (row["cluster"], row["name"])]
        if missing := next((name for name in wanted if name not in known), None):
            there = ", ".join(row["cluster"] for row in rows) or "none"
            raise UsageError(f"--cluster {missing}: not in {path}; there are {there}")
        rows = [row for row in rows if {row["cluster"], row["name"]} & set(wanted)]
    return rows[:top] if top else rows


def _printed(summary: dict[str, Any], out: Path) -> str:
    """The summary for a terminal."""
    lines = []
    for cluster in summary["clusters"]:
        lines.append(f"{cluster['name']} [{cluster['cluster']}]: {cluster['kept']:,} of {summary['wanted']:,} wanted")
        there = {kind: each for kind, each in cluster["kinds"].items() if each["made"] or each.get("wanted")}
        lines += [f"  {kind:<12}{each['kept']:>7,} kept of {each['made']:,}" for kind, each in there.items()]
    lines += [f"  {count:>9,}  dropped: {rule}" for rule, count in summary["dropped"].items()]
    weights = ", ".join(f"{name} {value:.1%}" for name, value in summary["weights"].items())
    lines.append(f"weights: {weights or 'nothing kept'}")
    replay = summary["replay"]
    if replay["rows"] < replay["wanted"]:
        lines.append(f"warning: replay has {replay['rows']:,} of the {replay['wanted']:,} rows that its share asks for")
    if summary["for_people"]:
        lines.append(f"{summary['for_people']:,} answers are checked by nobody yet (flag_review): --verify, or people")
    if summary["calls"]:
        lines += account(summary, summary["rows_kept"])
    return "\n".join([*lines, f"{summary['rows_kept']:,} of {summary['rows']:,} rows kept, in {out}"])
