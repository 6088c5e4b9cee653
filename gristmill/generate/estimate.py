"""What a generation will take, told before a call is made: tokens from a sample of the prompts, answers from the past.

A token is reckoned as four characters, OpenAI's rule of thumb for English
(https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them); other languages and code take more.
An answer is as long as the mean of what the model gave in this run before; before there is one, only the limit on its
length is known.

Not covered: what the ledger would answer for nothing; attempts beyond the first.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from gristmill.generate.sample import Plan, Row
from gristmill.models.budget import Prices

CHARACTERS_A_TOKEN = 4
SAMPLED = 1_000
"""Prompts that are rendered for the estimate."""


class Answerer(NamedTuple):
    """What is known of a model before it is asked."""

    name: str
    prices: Prices | None
    tokens_out: float | None
    """The mean length of its answers so far."""


def estimate(prompts: Iterable[Row], count: int, answerers: Sequence[Answerer], plan: Plan) -> dict[str, Any]:
    """The calls, tokens and cost of asking `count` prompts, by model and in all, as JSON.

    `tokens_out` and `cost` are None where neither past answers nor a limit (`max_tokens`) tell; with a limit alone they
    are the most it can be, and `at_most` is true.
    """
    lengths = [sum(len(m["content"] or "") for m in row["prompt"]) for row in islice(prompts, SAMPLED)]
    into = sum(lengths) / max(len(lengths), 1) / CHARACTERS_A_TOKEN
    calls = count * plan.n * len(plan.rungs)
    limit = plan.sampling.get("max_tokens") or plan.sampling.get("max_completion_tokens")
    models: list[dict[str, Any]] = []
    for name, prices, mean in answerers:
        out = mean if mean is not None else limit
        tokens_in, tokens_out = round(calls * into), None if out is None else round(calls * out)
        cost = None
        if prices and tokens_out is not None:
            cost = round(prices.money(tokens_in, tokens_out), 6)
        at_most = mean is None and out is not None
        models.append(
            {"model": name, "tokens_in": tokens_in, "tokens_out": tokens_out, "cost": cost, "at_most": at_most}
        )
    costs = [model["cost"] for model in models]
    return {
        "prompts": count,
        "calls": calls * len(answerers),
        "models": models,
        "cost": None if None in costs else round(sum(costs), 6),
    }
