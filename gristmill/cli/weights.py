"""`gristmill weights`: tune the weights of a reward against a target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gristmill.cli import options
from gristmill.errors import UsageError

if TYPE_CHECKING:
    from gristmill.score.reward_search import Search


def weights(
    rollouts: Annotated[list[str], typer.Argument(metavar="ROLLOUTS...", help="What gristmill rollout wrote.")],
    *,
    reward: Annotated[Path, typer.Option("--reward", metavar="FILE.yaml", help="The reward whose weights are tuned.")],
    target: Annotated[str, typer.Option(metavar="SCORE", help="What the reward should rank; no part of it.")],
    steps: Annotated[int, typer.Option(min=1, help="Weights are multiples of 1/N.")] = 10,
    seed: Annotated[int, typer.Option(help="Decides which prompts are held out.")] = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="TABLE.jsonl", help="Keep every mix tried.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Mixes to print.")] = 5,
    as_json: options.AsJson = False,
) -> None:
    """Try every mix of weights on rollouts that are scored already, and tell how well each ranks the target.

    The best mix is chosen by half of the prompts and judged by the others.
    """
    import numpy as np

    from gristmill.rollout.rollouts import read_rollouts
    from gristmill.score.pipeline import items_of
    from gristmill.score.reward import read_reward
    from gristmill.score.reward_search import search
    from gristmill.score.score import Verdict

    made = read_reward(reward)
    names = [each.score.name for each in made.components]
    if target in names:
        raise UsageError(f"--target {target}: it is a part of the reward; the target must be something else")
    found = read_rollouts(rollouts)
    columns = {name: found.scores(name) for name in (*names, target)}
    parts = [
        {name: Verdict(None if np.isnan(columns[name][n]) else float(columns[name][n]), "scored") for name in names}
        for n in range(len(found.groups))
    ]
    wanted = [None if np.isnan(each) else float(each) for each in columns[target]]
    result = search(made, items_of(found.table), parts, found.groups.tolist(), wanted, steps=steps, seed=seed)
    told = [{"weights": t.weights, "chosen_by": t.chosen_by, "held_out": t.held_out} for t in result.tried]
    if out:
        out.write_text("".join(json.dumps(each) + "\n" for each in told), encoding="utf-8")
    typer.echo(json.dumps(_summary(result)) if as_json else "\n".join(_words(result, top)))


def _summary(result: Search) -> dict[str, Any]:
    return {
        "best": result.tried[0]._asdict(),
        "now": result.now._asdict(),
        "mixes": len(result.tried),
        "pairs": result.pairs,
        "gain": result.gain,
        "interval": list(result.interval),
    }


def _words(result: Search, top: int) -> list[str]:
    low, high = result.interval
    verdict = "better than" if low > 0 else "not known to be better than"
    return [
        f"{'chosen by':>10}{'held out':>10}  weights",
        *(_line(each.chosen_by, each.held_out, each.weights) for each in result.tried[:top]),
        f"{_line(result.now.chosen_by, result.now.held_out, result.now.weights)}  (now)",
        f"the best of {len(result.tried):,} mixes is {verdict} the present one on {result.pairs:,} held-out pairs: "
        f"{result.gain:+.1%} ({low:+.1%} to {high:+.1%})",
    ]


def _line(chosen_by: float, held_out: float, mix: dict[str, float]) -> str:
    return f"{chosen_by:>10.1%}{held_out:>10.1%}  {', '.join(f'{name} {weight:.2f}' for name, weight in mix.items())}"
