"""How much data a goal needs, and what it costs: figures with their sources, never a bare number.

Every figure says what it is: *measured* (by this project's run), *published*, *heuristic*, *given* or *computed* from
others by a stated formula. The figures live in `figures.yaml`.

Formulas: candidates = rows / yield. Tokens = candidates x (tokens in + tokens out), for RL prompts x outputs. GPU-hours
of training = 6 x parameters x trained tokens, of generation = 2 x parameters x tokens, each over what the GPU reaches
(peak x utilisation); LoRA saves memory, and a third of the operations (no gradients of the frozen weights).

Not covered: how the score rises with data on a task of one's own (`curve.py`); preference data and RL steps beyond the
prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import yaml

from gristmill.errors import UsageError

Goal = Literal["format", "behaviour", "domain", "assistant", "general", "new-domain"]
Method = Literal["sft", "lora", "dpo", "kto", "rl"]
METHODS = ("sft", "lora", "dpo", "kto", "rl")

GPU_TFLOPS = 989.0
"""Dense BF16 peak of an H100 SXM (NVIDIA's data sheet), in 10^12 operations a second."""
UTILISATION = 0.4
"""The share of the peak that training reaches; 0.3 to 0.5 is usual."""
SERVING = 0.2
"""The share of the peak that generation reaches in large batches."""

Kind = Literal["heuristic", "published", "measured", "given", "computed"]


class Figure(NamedTuple):
    """One figure of a plan."""

    name: str
    low: float | None
    high: float | None
    unit: str
    kind: Kind
    source: str
    """Where it is from, or the formula."""
    note: str = ""


@dataclass(frozen=True)
class Wish:
    """What is wanted, and what is known. `size` is in parameters; prices are per million tokens, of the GPU an hour."""

    goal: Goal
    size: float
    method: Method = "lora"
    tokens_in: float = 300
    tokens_out: float = 500
    epochs: float = 3
    price_in: float | None = None
    price_out: float | None = None
    gpu_price: float | None = None
    budget: float | None = None
    yielded: float | None = None
    """The share of candidates that survived in the project's own run."""
    cost_per_kept: float | None = None
    """What a kept row cost there."""
    rl_scale: Literal["probe", "start", "frontier"] = "start"
    teacher: float | None = None
    """Parameters of the model that generates, where it is one's own."""

    def __post_init__(self) -> None:
        if self.goal not in figures()["goals"]:
            raise UsageError(f"goal {self.goal}: allowed are {', '.join(figures()['goals'])}")
        if self.method not in METHODS:
            raise UsageError(f"method {self.method}: allowed are {', '.join(METHODS)}")
        if self.rl_scale not in figures()["rl_prompts"]:
            raise UsageError(f"rl scale {self.rl_scale}: allowed are {', '.join(figures()['rl_prompts'])}")
        for name in ("size", "tokens_in", "tokens_out", "epochs"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name):g}: allowed are numbers above 0")
        if self.yielded is not None and not 0 < self.yielded <= 1:
            raise UsageError(f"yield {self.yielded:g}: allowed is a share above 0 to 1")


@cache
def figures() -> Mapping[str, Any]:
    """What is known, from `figures.yaml`."""
    found: Mapping[str, Any] = yaml.safe_load((files("gristmill.plan") / "figures.yaml").read_text(encoding="utf-8"))
    return found


def size_of(text: str) -> float:
    """A number of parameters: `7B`, `0.5B`, `350M`, `1.2e9`. Raises UsageError for what is none."""
    scales = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
    number, scale = (text[:-1], scales[text[-1:].lower()]) if text[-1:].lower() in scales else (text, 1.0)
    try:
        found = float(number) * scale
    except ValueError:
        found = 0.0
    if not found > 0:
        raise UsageError(f"size {text}: write parameters as 7B, 350M or 1.2e9")
    return found


def plan(wish: Wish) -> list[Figure]:
    """The figures for a wish, in the order in which one needs them."""
    rows = _rows(wish)
    found = [rows, *_candidates(wish, rows), *_training(wish, rows)]
    found += [*_landmarks(wish), *_mix()]
    return found


def _source(entry: Mapping[str, Any]) -> str:
    return str(figures()["sources"][entry["source"]])


def _number(name: str) -> Figure:
    entry = figures()["numbers"][name]
    low, high = entry.get("range") or (entry["value"], entry["value"])
    return Figure(name.replace("_", " "), low, high, "", entry["kind"], _source(entry), entry["what"])


def _rows(wish: Wish) -> Figure:
    if wish.method == "rl":
        entry = figures()["rl_prompts"][wish.rl_scale]
        low, high = entry["rows"]
        return Figure("prompts", low, high, "prompts", entry["kind"], _source(entry), f"RL, scale: {wish.rl_scale}")
    entry = figures()["goals"][wish.goal]
    low, high = entry["rows"]
    note = f"{entry['rung']}: {entry['what']}. {entry['advice']}"
    unit = {"dpo": "pairs", "kto": "labelled rows"}.get(wish.method, "rows")
    return Figure("rows to train on", low, high, unit, entry["kind"], _source(entry), note)


def _times(figure: Figure, factor_low: float, factor_high: float) -> tuple[float | None, float | None]:
    low = None if figure.low is None else figure.low * factor_low
    high = None if figure.high is None else figure.high * factor_high
    return low, high


def _candidates(wish: Wish, rows: Figure) -> list[Figure]:
    """Candidates, calls, tokens and money of generating."""
    if wish.method == "rl":
        outputs = _number("rollouts")
        each = outputs.low or 8
        low, high = _times(rows, each, each)
        calls = Figure("outputs", low, high, "calls an epoch", "computed", "prompts x rollouts")
        return [outputs, calls, *_tokens(wish, calls)]
    if wish.yielded is not None:
        source = figures()["sources"]["run"]
        share = Figure("yield", wish.yielded, wish.yielded, "", "measured", source, "share of candidates kept")
    else:
        share = _number("yield")
    assert share.low and share.high
    low, high = _times(rows, 1 / share.high, 1 / share.low)
    made = Figure("candidates to generate", low, high, "calls", "computed", "rows / yield")
    return [share, made, *_tokens(wish, made)]


def _tokens(wish: Wish, calls: Figure) -> list[Figure]:
    each = wish.tokens_in + wish.tokens_out
    low, high = _times(calls, each, each)
    told = f"calls x ({wish.tokens_in:g} in + {wish.tokens_out:g} out)"
    found = [Figure("tokens of generating", low, high, "tokens", "computed", told)]
    if wish.price_in is not None and wish.price_out is not None:
        price = (wish.tokens_in * wish.price_in + wish.tokens_out * wish.price_out) / 1e6
        low, high = _times(calls, price, price)
        told = f"{wish.price_in:g} in, {wish.price_out:g} out a million tokens"
        found.append(Figure("money of generating", low, high, "money", "computed", told))
        found += _affordable(wish, price)
    if wish.cost_per_kept is not None and wish.budget is not None:
        rows = wish.budget / wish.cost_per_kept
        told = f"budget / {wish.cost_per_kept:g} a kept row, as this run measured"
        found.append(Figure("rows the budget buys", rows, rows, "rows", "measured", told))
    if wish.teacher:
        seconds = 2 * wish.teacher / (GPU_TFLOPS * 1e12 * SERVING)
        low, high = _times(calls, each * seconds / 3600, each * seconds / 3600)
        told = f"2 x {wish.teacher:.2g} x tokens / ({GPU_TFLOPS:g}e12 x {SERVING:g} a second)"
        found.append(Figure("GPU-hours of generating", low, high, "H100 hours", "computed", told))
    return found


def _affordable(wish: Wish, price: float) -> list[Figure]:
    if wish.budget is None or wish.cost_per_kept is not None or price <= 0:
        return []
    share = (wish.yielded, wish.yielded) if wish.yielded else tuple(figures()["numbers"]["yield"]["range"])
    kept = [wish.budget / price * each if wish.method != "rl" else wish.budget / price for each in share]
    return [Figure("rows the budget buys", kept[0], kept[1], "rows", "computed", "budget / price of a call x yield")]


def _training(wish: Wish, rows: Figure) -> list[Figure]:
    """Tokens, hours and rank of training."""
    outputs = figures()["numbers"]["rollouts"]["value"] if wish.method == "rl" else 2 if wish.method == "dpo" else 1
    each = (wish.tokens_in + wish.tokens_out) * outputs
    low, high = _times(rows, each * wish.epochs, each * wish.epochs)
    tokens = Figure("tokens of training", low, high, "tokens", "computed", f"rows x tokens x {wish.epochs:g} epochs")
    operations = 4 if wish.method == "lora" else 6
    hours = operations * wish.size / (GPU_TFLOPS * 1e12 * UTILISATION) / 3600
    low, high = _times(tokens, hours, hours)
    told = f"{operations} x {wish.size:.2g} x tokens / ({GPU_TFLOPS:g}e12 x {UTILISATION:g} a second)"
    found = [tokens, Figure("GPU-hours of training", low, high, "H100 hours", "computed", told)]
    if wish.gpu_price is not None:
        low, high = _times(found[-1], wish.gpu_price, wish.gpu_price)
        found.append(Figure("money of training", low, high, "money", "computed", f"hours x {wish.gpu_price:g}"))
    if wish.method == "lora":
        low_rank, high_rank = (_rank(each) for each in (rows.low, rows.high))
        note = "the lowest rank that works: fewer parameters memorise less noise"
        source = _source({"source": "chapter"})
        found.append(Figure("LoRA rank to begin with", low_rank, high_rank, "", "heuristic", source, note))
    return found


def _rank(rows: float | None) -> int:
    steps = figures()["lora"]
    fits = (each for each in steps if each["rows"] is None or (rows is not None and rows <= each["rows"]))
    return int(next(fits)["rank"])


def _landmarks(wish: Wish) -> list[Figure]:
    ratio = figures()["numbers"]["chinchilla"]["value"]
    tokens = ratio * wish.size
    note = f"pre-training, for contrast: {ratio} tokens a parameter"
    contrast = Figure("Chinchilla", tokens, tokens, "tokens", "published", _source({"source": "chinchilla"}), note)
    return [contrast, _number("instructgpt"), _number("lima")]


def _mix() -> list[Figure]:
    return [_number("replay_share"), _number("reasoning_share")]
