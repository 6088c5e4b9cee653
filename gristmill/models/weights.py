"""Local weights: found, known by their content, loaded.

They are read from a directory or from the Hugging Face cache. Nothing is looked for on the network, and no code that
comes with a model is run.

Not covered: adapters (merge them), several GPUs, quantized files (GGUF).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from gristmill.errors import UsageError
from gristmill.keys import file_hash, key_of

_FILES = {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".tiktoken"}
"""What decides an answer: weights, configuration, tokenizer, template."""
_TRAINING = (
    "trainer_state",
    "training_args",
    "optimizer",
    "scheduler",
    "rng_state",
    "all_results",
    "train_results",
    "eval_results",
    "gristmill",
)
"""What trainers, and we, leave beside it."""


SMALL = 10_000_000
"""A model of fewer weights computes on one thread: in sums as short as its own, threads only wait for each other (for
ten times the time of one, where other processes want the cores)."""


class Weights(NamedTuple):
    """A language model, ready to use."""

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    """The tokens that end an answer."""
    context: int | None
    """Most tokens of prompt and answer together; None where the model names no limit."""
    defaults: Any
    """The model's own generation config."""


def directory_of(path: str) -> Path:
    """Where the files of `hf:PATH` are. Raises UsageError."""
    directory = Path(path).expanduser()
    if not directory.is_dir():
        import huggingface_hub

        try:
            directory = Path(huggingface_hub.snapshot_download(path, local_files_only=True))
        except (OSError, ValueError):
            raise UsageError(
                f"hf:{path}: no such directory, and not in the Hugging Face cache; fetch it with `hf download {path}`"
            ) from None
    if (directory / "adapter_config.json").exists():
        raise UsageError(f"hf:{path}: an adapter; merge it into its base (peft: merge_and_unload) and name the result")
    if not (directory / "config.json").is_file():
        raise UsageError(f"hf:{path}: no config.json there; name a directory that `save_pretrained` wrote")
    return directory


def content_of(directory: Path) -> str:
    """The hash of what decides an answer: every file with weights, configuration, tokenizer or template."""
    files = sorted(
        file
        for file in directory.iterdir()
        if file.suffix in _FILES and file.is_file() and not file.name.startswith(_TRAINING)
    )
    with ThreadPoolExecutor() as pool:
        return key_of({file.name: hash_ for file, hash_ in zip(files, pool.map(file_hash, files), strict=True)})


def load(directory: Path, name: str, *, device: str | None = None, dtype: str | None = None) -> Weights:
    """The weights in a directory, ready to use; `name` says which, in a UsageError.

    `device` is `cuda` where there is one, else `cpu`; `dtype` a name of torch's, by default float32 on a CPU and the
    weights' own on a GPU.
    """
    import torch
    import transformers

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **where)
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype or ("float32" if device == "cpu" else "auto"), output_loading_info=True, **where
        )
        model = model.eval().to(device)
    except Exception as error:  # damaged files raise errors of every library involved
        raise UsageError(f"{name}: does not load: {' '.join(str(error).split())[:300]}") from error
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
    if found["missing_keys"]:
        raise UsageError(
            f"{name}: weights are missing, among them {min(found['missing_keys'])}; fetch or save it again"
        )
    if not tokenizer.chat_template:
        raise UsageError(f"{name}: its tokenizer has no chat template; set `tokenizer.chat_template` and save it again")
    defaults, model.generation_config = model.generation_config, transformers.GenerationConfig()
    ends = defaults.eos_token_id if isinstance(defaults.eos_token_id, list) else [defaults.eos_token_id]
    return Weights(
        model=model,
        tokenizer=tokenizer,
        ends=frozenset({*ends, tokenizer.eos_token_id} - {None}),
        context=getattr(model.config.get_text_config(), "max_position_embeddings", None),
        defaults=defaults,
    )


def is_small(model: Any) -> bool:
    """Whether a model computes faster on one thread."""
    return bool(sum(weight.numel() for weight in model.parameters()) < SMALL)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread; also because the number of threads changes the last bits of a sum."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
