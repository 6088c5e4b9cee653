"""One batch of prompts through local weights, each row by its own sampling and its own random numbers.

transformers' `generate` runs the network, keeps the cache and counts the positions; which token comes next is chosen
here, so that rows with different temperatures share a batch, and a row draws the same numbers whoever shares it. A row
is sampled by the Gumbel-max trick (https://arxiv.org/abs/1411.0030): one number a token of the vocabulary, from a
generator of the row. A logit that rounds otherwise in a batch of another shape changes the choice only where two tokens
are within that rounding; drawing from a cumulated distribution, one changed logit would move every boundary after it.
Top-k comes before nucleus sampling (https://arxiv.org/abs/1904.09751), and of tokens tied at a limit all are kept.

Not covered: penalties, beams, constrained text, rows that join a batch under way (a server does that: vLLM, SGLang).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from gristmill.models.weights import Weights


@dataclass(eq=False, slots=True)
class Row:
    """One answer to be written: a prompt in tokens, how to choose, and what was chosen so far."""

    prompt: Sequence[int]
    most: int
    """Tokens of the answer, at least 1."""
    seed: int
    """64 bits; it decides every random number of the row."""
    temperature: float
    top_p: float
    top_k: int
    """0: all."""
    stop: Sequence[str]
    ended: "Callable[[Row], None]"
    """Called, from the thread that decodes, when `finish` is known."""
    wanted: Callable[[], bool]
    """False when nobody waits for the row any more; it is then no longer written."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """Of each token, by the model as it is (temperature 1, no limits)."""
    text: str = ""
    finish: str | None = None
    """`stop`, `length`; `cancelled`, `no_memory` where there is no answer."""

    @property
    def size(self) -> int:
        """Tokens, when it is as long as it may become."""
        return len(self.prompt) + self.most

    def logprobs_of(self, weights: Weights) -> list[dict[str, Any]]:
        """OpenAI's `logprobs.content`: each token and its log-probability."""
        names = weights.tokenizer.convert_ids_to_tokens(self.tokens)
        return [{"token": name, "logprob": value} for name, value in zip(names, self.logprobs, strict=True)]


def decode(weights: Weights, rows: Sequence[Row]) -> None:
    """Write all rows to their end. Raises torch.OutOfMemoryError; rows that ended before it have ended."""
    device = weights.model.device
    width = max(len(row.prompt) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        row.tokens, row.logprobs = [], []
        ids[place, width - len(row.prompt) :] = torch.tensor(row.prompt)
        mask[place, width - len(row.prompt) :] = 1
    choice = _Choice(weights, rows)
    weights.model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        generation_config=transformers.GenerationConfig(
            max_new_tokens=max(row.most for row in rows), do_sample=False, pad_token_id=0
        ),
        logits_processor=transformers.LogitsProcessorList([choice]),
        stopping_criteria=transformers.StoppingCriteriaList([choice.ended]),
    )


class _Choice:
    """Chooses the next token of every row, and notices their ends."""

    def __init__(self, weights: Weights, rows: Sequence[Row]):
        self.weights, self.rows = weights, rows
        device = weights.model.device
        self.sampled = [place for place, row in enumerate(rows) if row.temperature]
        drawn = [rows[place] for place in self.sampled]
        self.temperature = torch.tensor([[row.temperature] for row in drawn], device=device)
        self.top_p = torch.tensor([[row.top_p] for row in drawn], device=device)
        self.top_k = torch.tensor([[row.top_k or 2**62] for row in drawn], device=device)
        self.limited = any(row.top_p < 1 or row.top_k for row in drawn)
        self.generators = [torch.Generator(device).manual_seed(row.seed) for row in drawn]

    def __call__(self, _ids: Any, scores: Any) -> Any:
        """Scores (rows, vocabulary) in which the chosen token of each row is the best."""
        logits = scores.float()
        chosen = logits.argmax(-1)
        if self.sampled:
            drawn = self._limited(logits[self.sampled] / self.temperature)
            noise = torch.stack([torch.empty_like(drawn[0]).exponential_(generator=g) for g in self.generators])
            smallest = torch.finfo(noise.dtype).tiny
            chosen[self.sampled] = (drawn - noise.clamp_min(smallest).log()).argmax(-1)
        logprobs = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
        for row, token, logprob in zip(self.rows, chosen.tolist(), logprobs.tolist(), strict=True):
            if row.finish is None:
                self._add(row, token, logprob)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)

    def ended(self, ids: Any, _scores: Any) -> Any:
        """Which rows have ended; `generate` returns when all have."""
        return torch.tensor([row.finish is not None for row in self.rows], device=ids.device)

    def _limited(self, logits: Any) -> Any:
        """Logits without the tokens outside top-k and top-p."""
        if not self.limited:
            return logits
        ordered = logits.sort(-1, descending=True).values
        places = torch.arange(ordered.shape[-1], device=ordered.device)
        ordered = ordered.masked_fill(places >= self.top_k, -torch.inf)
        shares = ordered.softmax(-1)
        before = shares.cumsum(-1) - shares
        kept = (places < self.top_k) & ((before < self.top_p) | (places == 0))
        least = ordered.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)
        return logits.masked_fill(logits < least, -torch.inf)

    def _add(self, row: Row, token: int, logprob: float) -> None:
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if token in self.weights.ends or (row.stop and self._stopped(row)):
            row.finish = "stop"
        elif len(row.tokens) >= row.most:
            row.finish = "length"
        elif not row.wanted():
            row.finish = "cancelled"
        else:
            return
        text = self._text(row.tokens)
        cuts = [at for stop in row.stop if (at := text.find(stop)) >= 0]
        row.text = text[: min(cuts)] if cuts else text
        row.ended(row)

    def _stopped(self, row: Row) -> bool:
        """Whether a stop string is there. A character is at most 4 tokens, so its end is enough to look at."""
        end = self._text(row.tokens[-4 * max(map(len, row.stop)) - 4 :])
        return any(stop in end for stop in row.stop)

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self.weights.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
