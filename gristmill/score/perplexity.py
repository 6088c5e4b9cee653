"""How probable a local model finds a response: the mean log-probability of its tokens, given the prompt.

The value is in nats, at most 0, higher is more fluent; perplexity (Jelinek et al. 1977,
https://doi.org/10.1121/1.2016299), which `why` tells, is the exponential of its negative. Probabilities depend on the
tokenizer, so values of different models cannot be compared.

Not covered: batches (one response is read at a time), endpoints, and truth: a fluent lie is probable, and so is a text
that repeats itself (`fluency` without a model tells).
"""

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

from gristmill.errors import UsageError
from gristmill.models.weights import Weights, content_of, directory_of, load
from gristmill.score.score import Item, Verdict
from gristmill.score.text import answer_of


def content(path: str) -> str:
    """The hash of the weights at `path`. Raises UsageError where there are none, or nothing to load them with."""
    if not all(map(find_spec, ("torch", "transformers"))):
        raise UsageError(f"fluency:hf:{path}: needs torch and transformers: pip install 'gristmill[train]'")
    return content_of(directory_of(path))


def judge(path: str, items: Sequence[Item]) -> list[Verdict]:
    """The verdict of the weights at `path` on each item. Raises UsageError for weights that do not load."""
    weights = _weights(path)
    return [_verdict(weights, item) for item in items]


@cache
def _weights(path: str) -> Weights:
    return load(directory_of(path), f"hf:{path}")


def _verdict(weights: Weights, item: Item) -> Verdict:
    import torch

    turns = [{"role": turn["role"], "content": turn["content"]} for turn in item.prompt]
    try:
        prompt: list[int] = weights.tokenizer.apply_chat_template(
            turns or [{"role": "user", "content": ""}], tokenize=True, return_dict=False, add_generation_prompt=True
        )
    except Exception as error:  # noqa: BLE001  a template is the model's own program; what it raises is of this item
        return Verdict(None, "error", f"chat template: {' '.join(str(error).split())[:300]}")
    answer = weights.tokenizer(answer_of(item), add_special_tokens=False)["input_ids"]
    room = (weights.context or len(prompt) + len(answer)) - len(prompt)
    read = answer[: max(room, 0)]
    if not read or not prompt:
        return Verdict(None, "too_short" if not answer else "too_long", f"{len(prompt)} tokens of prompt")
    tokens = torch.tensor([prompt + read], device=weights.model.device)
    with torch.inference_mode():
        scores = weights.model(tokens).logits[0, len(prompt) - 1 : -1].float()
    found = scores.log_softmax(-1).gather(1, tokens[0, len(prompt) :, None]).mean().item()
    cut = f", the first {len(read):,} of {len(answer):,} tokens" if len(read) < len(answer) else ""
    return Verdict(found, "scored", f"perplexity {math.exp(-found):.2f}{cut}")
