"""A plain training loop for models as small as `tiny`: seconds on one core, the same weights for the same seed.

Muon (https://kellerjordan.github.io/posts/muon) moves the matrices, AdamW the embeddings and norms; the rate rises over
the first 20 steps and falls as a cosine to nothing. The loss is that of the answer alone. On one thread, since sums
this small only wait for other threads, and because their number would change the last bits.

Not covered: models that need a GPU, an evaluation on the way, checkpoints (`train/trl.py` has them all).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from gristmill import progress
from gristmill.errors import UsageError
from gristmill.models.weights import one_thread

WARMUP = 20
IGNORED = -100
"""The label of a token that is not learned."""


class Taught(NamedTuple):
    """One answer to learn, in tokens."""

    tokens: list[int]
    begin: int
    """The first token of the answer."""


def taught(rows: Iterable[Mapping[str, Any]], tokenizer: Any) -> list[Taught]:
    """The answers of samples (`prompt` as messages, `response`), by the tokenizer's chat template.

    Raises UsageError for a row without an answer.
    """
    prompts, answers = [], []
    for row in rows:
        if not row.get("response"):
            raise UsageError(f"row {row.get('id')}: no response to learn; give samples that were answered")
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["prompt"]]
        prompts.append(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        answers.append(row["response"] + tokenizer.eos_token)
    if not prompts:
        raise UsageError("no rows to learn; give at least one")
    before, after = (tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in (prompts, answers))
    most = tokenizer.model_max_length
    return [Taught([*one, *two][:most], len(one)) for one, two in zip(before, after, strict=True)]


def fit(
    model: Any,
    tokenizer: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    steps: int,
    seed: int = 0,
    batch: int = 32,
    rate: float = 0.01,
) -> list[float]:
    """Train `model` in place for `steps` steps of `batch` rows, in an order that follows from `seed`; the loss of each.

    `rate` is the highest of both. All rows come once before one comes again.
    """
    answers = taught(rows, tokenizer)
    matrices = [w for name, w in model.named_parameters() if w.ndim == 2 and "embed" not in name]
    others = [w for name, w in model.named_parameters() if w.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rises = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: _rate(step, steps)) for each in optimizers]
    losses = []
    model.train()
    with one_thread():
        for chosen in _batches(len(answers), steps, batch, seed):
            ids, labels = _padded([answers[place] for place in chosen], tokenizer.pad_token_id)
            hidden = model.get_decoder()(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long())[0]
            learned = labels[:, 1:] != IGNORED  # the rest needs no logits
            logits = model.get_output_embeddings()(hidden[:, :-1][learned])
            loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][learned])
            loss.backward()
            for each in optimizers:
                each.step()
                each.zero_grad()
            for rise in rises:
                rise.step()
            losses.append(loss.item())
            progress.advance(len(chosen))
    model.eval()
    return losses


def _rate(step: int, steps: int) -> float:
    """The rate of a step, as a share of the highest."""
    warm = min(WARMUP, steps // 2)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _batches(rows: int, steps: int, batch: int, seed: int) -> Iterator[list[int]]:
    order = torch.Generator().manual_seed(seed)
    left: list[int] = []
    for _ in range(steps):
        while len(left) < batch:
            left += torch.randperm(rows, generator=order).tolist()
        yield left[:batch]
        left = left[batch:]


def _padded(answers: Sequence[Taught], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels, both (rows, longest)."""
    width = max(len(each.tokens) for each in answers)
    ids = torch.full((len(answers), width), pad)
    labels = torch.full((len(answers), width), IGNORED)
    for place, each in enumerate(answers):
        ids[place, : len(each.tokens)] = torch.tensor(each.tokens)
        labels[place, each.begin : len(each.tokens)] = torch.tensor(each.tokens[each.begin :])
    return ids, labels
