"""Language models small enough to make in a test: random weights, a tokenizer of bytes, a chat template.

Weights are drawn wide (standard deviation 0.5), so that the best next token leads by far more than float32 rounds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

CONTEXT = 512

Taught = Mapping[str | tuple[tuple[str, str], ...], str]
"""Answers by the question, or by the conversation: role and text of each turn."""

SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('Only the roles system, user and assistant') }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save(
    path: Path,
    *,
    kind: str = "llama",
    seed: int = 0,
    template: str | None = TEMPLATE,
    taught: Taught | None = None,
) -> Path:
    """A Hugging Face directory: `llama` (rotary positions) or `gpt2` (absolute ones). Skips the test without torch.

    With `taught`, its greedy answers to these are the given ones (about a second of training).
    """
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install -e '.[train]'")
    import torch
    import transformers

    torch.set_num_threads(1)  # sums this small only wait for other threads, on a busy machine for long
    tokenizer = _tokenizer()
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(_config(kind, len(tokenizer)))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if taught:
        _teach(model, tokenizer, taught)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _tokenizer() -> Any:
    """One token a byte, and the special ones."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=SPECIAL[2:],
        model_max_length=CONTEXT,
    )


def _teach(model: Any, tokenizer: Any, taught: Taught) -> None:
    """Train until every token of every answer has 99 % of the probability."""
    import torch

    pairs = []
    for question, answer in taught.items():
        turns = (("user", question),) if isinstance(question, str) else question
        messages = [{"role": role, "content": text} for role, text in turns]
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        pairs.append((len(asked), torch.tensor([[*asked, *tokenizer.encode(answer), tokenizer.eos_token_id]])))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(0.2)  # narrow weights learn faster
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    worst = 1.0
    while worst > 0.01:
        losses = [
            torch.nn.functional.cross_entropy(model(ids).logits[0, begin - 1 : -1], ids[0, begin:], reduction="none")
            for begin, ids in pairs
        ]
        optimizer.zero_grad()
        torch.cat(losses).mean().backward()
        optimizer.step()
        worst = max(loss.max().item() for loss in losses)


def _config(kind: str, vocabulary: int) -> Any:
    import transformers

    common = {"vocab_size": vocabulary, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    if kind == "gpt2":
        return transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=0.5, **common
        )
    return transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,
        **common,
    )
