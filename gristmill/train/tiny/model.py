"""The embedded model: a Llama of 0.2 million weights, its tokenizer and its chat template, in Hugging Face's format.

The tokenizer is a byte-level BPE that keeps digits apart, learned from the texts of the world and from nothing else,
and is the same for every seed. Any text can be written in it, if at a byte a token.

Not covered: training (`fit.py`).
"""

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gristmill.train.tiny.world import ASKS, FORMS, WORDINGS, Mix, tasks

CONTEXT = 512
"""Most tokens of prompt and answer together."""

VOCABULARY = 480

SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]

TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
<|assistant|>{% generation %}{{ message.content }}<|end|>{% endgeneration %}
{%- elif message.role in ['system', 'user'] -%}
<|{{ message.role }}|>{{ message.content }}<|end|>
{%- else -%}
{{ raise_exception('only the roles system, user and assistant') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""
"""The chat template. What the assistant says is marked, so that a trainer can learn from that alone."""


def new_tokenizer() -> Any:
    """The tokenizer, always the same."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    learned.decoder = decoders.ByteLevel()
    learned.train_from_iterator(
        _texts(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=learned,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=SPECIAL[2:],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _texts() -> list[str]:
    """What the tokenizer is learned from: every text of the world, with numbers, and answers in every form."""
    wordings = [text for kinds in WORDINGS.values() for texts in kinds.values() for text in texts.values()]
    answers = [task.solution() for task in tasks(300, mix=Mix(forms=dict.fromkeys(FORMS, 1)))]
    return [*(text.format(a="", b="") for text in wordings * 8), *[*ASKS.values(), *FORMS.values()] * 8, *answers]


def new_model(tokenizer: Any, *, seed: int = 0, hidden: int = 64, layers: int = 2) -> Any:
    """The untrained model; its first weights follow from the seed, and torch's own random state is left alone."""
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=6 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
