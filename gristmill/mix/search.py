"""A mix found by trying many: RegMix's shape, around any function that scores a mix.

Small proxies are trained on mixes drawn at random, a regression learns what each scores, and the mix with the best
prediction is taken (Q. Liu et al., https://arxiv.org/abs/2407.01492: mixes from a Dirichlet distribution around the
sizes of the sources with its concentration scaled from 0.1 to 5; linear regression or LightGBM; the mean of the best
predicted). Departures: draws centre on the mean of the sizes and an even mix, keep the floors and the range; ridge
regression on shares and their logarithms or gradient boosting, whichever predicts held-out mixes better; and the
prediction is not believed but scored with new seeds beside four mixes that need no search: even, by size, as it is now,
and the best of those tried. Mixing methods have been found to do no better than such baselines
(https://github.com/HazyResearch/aioli).

`FUNCTION(weights, seed) -> {kind: score}`: weights by source sum to 1. Every call's result is written down at once and
not asked for again.

Not covered: whether the order of mixes is the same for the proxy and for the model that is meant.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict

from gristmill.errors import GristmillError, UsageError
from gristmill.mix.mix_file import GENERAL, MixFile, task_range
from gristmill.user_code import raised, user_function

Floats = np.ndarray[Any, np.dtype[np.float64]]
Scores = dict[str, float]
Scorer = Callable[[Scores, int], Mapping[str, float]]

CANDIDATES, TOP = 20_000, 100
"""Mixes whose score is predicted, and how many of the best make the one taken, by their mean."""
LEAST = 8
"""Trials that a regression needs."""


class Arm(NamedTuple):
    """A mix that was scored with new seeds: its weights by source, and by kind the mean and its standard error."""

    name: str
    weights: Scores
    mean: float
    error: float
    scores: Scores


class Searched(NamedTuple):
    """The arms, the best first; how well the regression predicts mixes it has not seen (rank correlation)."""

    arms: list[Arm]
    regression: str
    rank_correlation: float
    trials: int


def scorer_of(spec: str) -> tuple[Scorer, str]:
    """The function that `FILE.py:FUNCTION` names, and a hash of its name and file; raises UsageError where there is
    none."""
    file, _, name = spec.rpartition(":")
    path = Path(file)
    found = user_function(path, name, f"--search {spec}")
    return found, hashlib.blake2b(path.read_bytes(), digest_size=8, key=name.encode()[:64]).hexdigest()


def search(
    mix: MixFile,
    shares: Mapping[str, float],
    sizes: Mapping[str, int],
    score: Scorer,
    *,
    trials: int = 64,
    seeds: int = 3,
    told: "Told | None" = None,
) -> Searched:
    """Score `trials` mixes, and then the best predicted beside the baselines with `seeds` new seeds each.

    `shares` are those of the sources now, `sizes` their rows. Raises UsageError for too few trials, and for what the
    function returns if that is not a score a kind.
    """
    if trials < LEAST:
        raise UsageError(f"--trials {trials}: at least {LEAST}")
    if len(mix.sources) < 2:
        raise UsageError("--search: one source; there is nothing to search")
    names = [source.name for source in mix.sources]
    asked = _Asked(score, names, told)
    rng = np.random.default_rng(mix.seed)
    even = _allowed(mix, np.full(len(names), 1 / len(names)))
    by_size = _allowed(mix, np.array([sizes[name] for name in names]) / sum(sizes.values()))
    drawn = np.array([_allowed(mix, each) for each in _draws(rng, (even + by_size) / 2, trials)])
    values = np.array([_mean(mix, asked(each, seed)) for seed, each in enumerate(drawn)])
    regression, model, correlation = _fitted(drawn, values)
    many = np.array([_allowed(mix, each) for each in _draws(rng, (even + by_size) / 2, CANDIDATES)])
    top = many[np.argsort(-model.predict(_features(many)), kind="stable")[:TOP]].mean(axis=0)
    candidates = {
        "predicted": top,
        "best tried": drawn[int(values.argmax())],
        "even": even,
        "by size": by_size,
        "now": np.array([shares[name] for name in names]),
    }
    arms = []
    for name, weights in candidates.items():
        found = [asked(weights, trials + seed) for seed in range(seeds)]
        means = np.array([_mean(mix, each) for each in found])
        error = float(means.std(ddof=1) / seeds**0.5) if seeds > 1 else float("nan")
        by_kind = {kind: float(np.mean([each[kind] for each in found])) for kind in found[0]}
        arms.append(Arm(name, dict(zip(names, weights.tolist(), strict=True)), float(means.mean()), error, by_kind))
    return Searched(sorted(arms, key=lambda arm: -arm.mean), regression, correlation, trials)


class Told:
    """Results on disk, a line each, so that a search that was killed goes on: by function and file, mix and seed."""

    def __init__(self, path: Path, version: str):
        self.path, self.version = path, version
        self.known: dict[str, Scores] = {}
        if path.is_file():
            lines = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")]
            self.known = {each["key"]: each["scores"] for each in lines}

    def key(self, weights: Mapping[str, float], seed: int) -> str:
        """What a result is known by."""
        raw = orjson.dumps([self.version, weights, seed], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(raw, digest_size=16).hexdigest()

    def add(self, key: str, weights: Mapping[str, float], seed: int, scores: Scores) -> None:
        """Write a result down."""
        self.known[key] = scores
        with self.path.open("ab") as file:
            file.write(orjson.dumps({"key": key, "weights": weights, "seed": seed, "scores": scores}) + b"\n")


class _Asked:
    """The function, its answers checked and remembered."""

    def __init__(self, score: Scorer, names: Sequence[str], told: Told | None):
        self.score, self.names, self.told = score, names, told

    def __call__(self, weights: Floats, seed: int) -> Scores:
        named = {name: round(float(weight), 6) for name, weight in zip(self.names, weights, strict=True)}
        key = self.told.key(named, seed) if self.told else ""
        if self.told and key in self.told.known:
            return self.told.known[key]
        try:
            found = self.score(named, seed)
        except GristmillError:
            raise
        except Exception as error:  # of the user's function, which may raise anything
            raise UsageError(f"--search: {raised(error)}; results so far are kept") from error
        if not isinstance(found, Mapping) or not found:
            raise UsageError(f"--search: the function gave {found!r}; it must give {{kind: score}}")
        try:
            scores = {str(kind): float(value) for kind, value in found.items()}
        except (TypeError, ValueError):
            raise UsageError(f"--search: the function gave {dict(found)!r}; allowed are numbers") from None
        if bad := next((kind for kind, value in scores.items() if not np.isfinite(value)), None):
            raise UsageError(f"--search: the function gave {scores[bad]} for {bad}; allowed are numbers")
        if self.told:
            self.told.add(key, named, seed, scores)
        return scores


def _draws(rng: np.random.Generator, centre: Floats, count: int) -> Floats:
    """Mixes around `centre`, some near it and some far from it."""
    scales = np.exp(rng.uniform(np.log(0.1), np.log(5), count)) * len(centre)
    found = np.array([rng.dirichlet(np.maximum(centre * scale, 1e-3)) for scale in scales])
    mixes: Floats = (found + 1e-4) / (found + 1e-4).sum(axis=1, keepdims=True)
    return mixes


def _allowed(mix: MixFile, weights: Floats) -> Floats:
    """The mix with its kinds at their floors and its task-specific share in the range, within a kind as it was."""
    low, high = task_range(mix)
    kinds = np.array([source.kind for source in mix.sources])
    new: Floats = weights / weights.sum()
    general = kinds == GENERAL
    if general.any() and not general.all():
        task = min(max(float(new[~general].sum()), low), high)
        new = np.where(general, new / new[general].sum() * (1 - task), new / new[~general].sum() * task)
    floors = {kind: floor for kind, floor in mix.floor.items() if kind != GENERAL and floor > 0}
    for kind, floor in floors.items():
        here, rest = kinds == kind, ~general & ~np.isin(kinds, list(floors))
        short = floor - new[here].sum()
        if short > 0 and new[rest].sum() > short:
            new = np.where(here, new * floor / new[here].sum(), new)
            new = np.where(rest, new * (1 - short / new[rest].sum()), new)
    return new


def _mean(mix: MixFile, scores: Mapping[str, float]) -> float:
    """The mean over kinds by importance, none counted above its goal."""
    weights = {kind: mix.importance.get(kind, 1.0) for kind in scores}
    total = sum(weights.values()) or 1.0
    return sum(weights[kind] * min(value, mix.goals.get(kind, value)) for kind, value in scores.items()) / total


def _features(weights: Floats) -> Floats:
    return np.hstack([weights, np.log(weights + 0.01)])


def _fitted(weights: Floats, values: Floats) -> tuple[str, Any, float]:
    """The regression that predicts held-out mixes best, fitted to all, with the rank correlation of its predictions."""
    from scipy.stats import spearmanr

    models = {
        "ridge": RidgeCV(np.logspace(-4, 2, 13)),
        "gradient boosting": GradientBoostingRegressor(n_estimators=200, max_depth=3, subsample=0.8, random_state=0),
    }
    features = _features(weights)
    held = {name: cross_val_predict(model, features, values, cv=min(5, len(values))) for name, model in models.items()}
    errors = {name: float(((each - values) ** 2).mean()) for name, each in held.items()}
    name = min(errors, key=lambda each: errors[each])
    flat = held[name].std() == 0 or values.std() == 0
    correlation = 0.0 if flat else float(spearmanr(held[name], values).statistic)
    return name, models[name].fit(features, values), correlation
