"""Make the embedded model: train it from nothing into a directory, and the one that the MODEL string `tiny` means.

`tiny` is trained once, when it is first asked, into a directory of the user's cache named by all that decides its
weights: the recipe, the sources of this package and torch's version.

Not covered: reading the directory (`models/local.py`, or anything that reads Hugging Face's format).
"""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from gristmill.beside import beside, move
from gristmill.errors import UsageError
from gristmill.keys import key_of
from gristmill.train.tiny.world import Mix, rows

if TYPE_CHECKING:
    from gristmill.models.weights import Weights

NEEDED = ("torch", "transformers", "tokenizers")

ABOUT = "gristmill.json"
"""What made a model, in its directory."""


@dataclass(frozen=True)
class Recipe:
    """What decides the weights: the data (`rows` drawn from `mix`, the share `reasoning` with its steps, of those that
    regroup the share `buggy` wrong), the number of steps, and a seed for all that is drawn."""

    seed: int = 0
    steps: int = 500
    rows: int = 8_000
    reasoning: float = 1.0
    buggy: float = 0.0
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        if self.steps < 0 or self.rows < 1 or not (0 <= self.reasoning <= 1 and 0 <= self.buggy <= 1):
            raise UsageError(
                f"tiny: steps {self.steps}, rows {self.rows}, reasoning {self.reasoning}, buggy {self.buggy}: allowed "
                "are steps from 0, rows from 1, and shares from 0 to 1"
            )


def check_installed(what: str) -> None:
    """Raise UsageError where the extra `train` is not installed."""
    if not all(map(find_spec, NEEDED)):
        raise UsageError(f"{what}: needs torch and transformers: pip install 'gristmill[train]'")


def make(out: Path, recipe: Recipe = Recipe()) -> list[float]:
    """Train a model by a recipe and save it in the directory `out`; returns the loss of every step.

    Raises UsageError where the extra `train` is not installed, and for a mix that holds too few tasks.
    """
    check_installed("tiny")
    from gristmill.train.tiny.fit import fit
    from gristmill.train.tiny.model import new_model, new_tokenizer

    data = rows(recipe.rows, seed=recipe.seed, mix=recipe.mix, reasoning=recipe.reasoning, buggy=recipe.buggy)
    tokenizer = new_tokenizer()
    model = new_model(tokenizer, seed=recipe.seed)
    losses = fit(model, tokenizer, data, steps=recipe.steps, seed=recipe.seed) if recipe.steps else []
    save(model, tokenizer, out, {"method": "tiny", "recipe": asdict(recipe)})
    return losses


def taught_on(
    base: Path, data: Iterable[Mapping[str, Any]], out: Path, *, steps: int, seed: int = 0, rate: float = 0.005
) -> list[float]:
    """Train the model in the directory `base` on samples, for `steps` steps of 32, and save it as `out`.

    For models as small as `tiny`, in the plain loop; returns the loss of every step. Raises UsageError for rows without
    an answer.
    """
    check_installed("tiny")
    from gristmill.models.weights import load
    from gristmill.train.tiny.fit import fit

    weights = load(base, str(base), device="cpu", dtype="float32")
    weights.model.generation_config = weights.defaults
    losses = fit(weights.model, weights.tokenizer, data, steps=steps, seed=seed, rate=rate)
    about = {"method": "fit", "base": str(base), "steps": steps, "seed": seed, "rate": rate}
    save(weights.model, weights.tokenizer, out, about)
    return losses


def fitted(base: Path, data: Path, out: Path, *, seed: int, steps: int = 250, rate: float = 0.005) -> dict[str, Any]:
    """`taught_on` the chats of a JSONL file (`messages`, the last one the answer), for `gristmill train fit`.

    Returns {steps, metrics}. Raises UsageError for what are no numbers of steps and no rate.
    """
    if not (isinstance(steps, int) and steps >= 1 and isinstance(rate, int | float) and rate > 0):
        raise UsageError(f"train fit: steps {steps!r}, rate {rate!r}: allowed are whole steps from 1, a rate above 0")
    losses = taught_on(base, chats(data), out, steps=steps, seed=seed, rate=rate)
    return {"steps": steps, "metrics": {"loss": losses[-1]}}


def chats(data: Path) -> list[dict[str, Any]]:
    """The samples of a JSONL file of chats (`messages`, the last one the answer)."""
    turns = [orjson.loads(line)["messages"] for line in data.read_bytes().splitlines()]
    return [{"prompt": each[:-1], "response": each[-1]["content"]} for each in turns]


def trained(
    data: Iterable[Mapping[str, Any]], *, base: Path | None = None, steps: int, seed: int = 0, rate: float | None = None
) -> "Weights":
    """A model trained on samples in memory, and saved nowhere: from new weights, which `seed` decides, or those in the
    directory `base`; the rate is then half as high if none is given.

    Raises UsageError without the extra `train`, and for rows without an answer.
    """
    check_installed("tiny")
    from gristmill.models.weights import Weights, load
    from gristmill.train.tiny.fit import fit
    from gristmill.train.tiny.model import CONTEXT, new_model, new_tokenizer

    if base:
        weights = load(base, str(base), device="cpu", dtype="float32")
    else:
        tokenizer = new_tokenizer()
        model = new_model(tokenizer, seed=seed)
        ends = frozenset({tokenizer.eos_token_id})
        weights = Weights(model, tokenizer, ends, CONTEXT, model.generation_config)
    fit(weights.model, weights.tokenizer, data, steps=steps, seed=seed, rate=rate or (0.005 if base else 0.01))
    return weights


def save(model: Any, tokenizer: Any, out: Path, about: Mapping[str, Any]) -> None:
    """Write a model beside `out` and rename it, with `about` in `gristmill.json`."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with beside(out) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
        move(partial, out)


def tiny(recipe: Recipe = Recipe()) -> Path:
    """The directory of the model by a recipe, trained now if it is not in the cache."""
    check_installed("tiny")
    sources = {file.name: file.read_text("utf-8") for file in sorted(Path(__file__).parent.glob("*.py"))}
    key = key_of({"recipe": asdict(recipe), "sources": sources, "torch": version("torch")})
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gristmill"
    directory = home / f"tiny-{key[:16]}"
    if not (directory / "config.json").is_file():
        print(f"tiny: training it, once, into {directory}", file=sys.stderr)  # noqa: T201  it takes seconds
        make(directory, recipe)
    return directory
