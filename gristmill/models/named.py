"""From a name to a Model that is ready to use: limits, budget, ledger and all.

MODEL is `http://HOST:PORT/v1#NAME`, an alias in `models.yaml`, `hf:PATH` (local weights), `tiny` (the embedded
model) or `fake:FILE.yaml`. In `models.yaml`, several providers side by side:

    models:
      - alias: judge-a
        url: https://api.example.com/v1
        model: big-model-2
        key_env: EXAMPLE_KEY                 # the variable that holds the key
        revision: "2026-01"                  # change it when other weights answer under the same name
        prices: {input: 0.5, output: 1.5}    # per million tokens; {…, batch: {input: 0.25, output: 0.75}} for batches
        limits: {concurrency: 64, requests_per_minute: 3000, tokens_per_minute: 1000000, timeout: 120}
        sampling: {temperature: 0.7}         # what is sent with every request that does not say otherwise

An entry also prices the model of a URL when `model` is its name.

Not covered: how a provider's other APIs differ from OpenAI's.
"""

import atexit
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
from yarl import URL

from gristmill.errors import UsageError
from gristmill.models.batch import Batches
from gristmill.models.budget import Budget, Budgeted, Charged, Prices
from gristmill.models.cache import Cached
from gristmill.models.calls import Calls
from gristmill.models.drive import wait
from gristmill.models.endpoint import KEY_ENV, TIMEOUT, Endpoint
from gristmill.models.limits import Limits
from gristmill.models.protocol import Completion, Model, Request
from gristmill.models.retries import Limited
from gristmill.yaml_file import checked, read_yaml

FILE = Path("models.yaml")
_WHAT = "models (see `gristmill init models`)"


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class BatchPriceEntry(_Strict):
    """Money per million tokens."""

    input: float = pydantic.Field(ge=0)
    output: float = pydantic.Field(ge=0)


class PriceEntry(BatchPriceEntry):
    """Money per million tokens; `batch` is what the batch API takes, left out: as much."""

    batch: BatchPriceEntry | None = None


class LimitEntry(_Strict):
    """What a provider allows; what is left out is found out."""

    concurrency: int | None = pydantic.Field(None, ge=1)
    requests_per_minute: float | None = pydantic.Field(None, gt=0)
    tokens_per_minute: float | None = pydantic.Field(None, gt=0)
    timeout: float = pydantic.Field(TIMEOUT, gt=0)


class Entry(_Strict):
    """One model of `models.yaml`."""

    alias: str = pydantic.Field(min_length=1)
    url: str | None = None
    model: str | None = None
    key_env: str = KEY_ENV
    revision: str | None = None
    prices: PriceEntry | None = None
    limits: LimitEntry = LimitEntry()  # type: ignore[call-arg]
    sampling: Mapping[str, Any] = {}


class _File(_Strict):
    models: list[Entry]


def entries(path: Path | None = None) -> dict[str, Entry]:
    """The models of a file by alias; of `models.yaml` here, if there is one, when none is named.

    Raises UsageError naming file, entry and field.
    """
    if path is None and not FILE.is_file():
        return {}
    path = path or FILE
    content = read_yaml(path, _WHAT)
    if isinstance(by_alias := content.get("models"), dict):
        content["models"] = [
            {"alias": alias, **entry} if isinstance(entry, Mapping) else entry or {"alias": alias}
            for alias, entry in by_alias.items()
        ]
    return {entry.alias: entry for entry in checked(_File, content, str(path), _WHAT).models}


def prices_of(spec: str, known: Mapping[str, Entry], *, batch: bool = False) -> Prices | None:
    """The prices of a MODEL, with `batch` those of its batch API; None where no entry tells them (a model on this
    machine costs nothing)."""
    if spec.startswith(("fake:", "hf:")) or spec == "tiny":
        return Prices()
    name = spec.partition("#")[2]
    for entry in known.values():
        if entry.prices and (entry.alias == spec or (name and entry.model == name)):
            prices = (batch and entry.prices.batch) or entry.prices
            return Prices(prices.input, prices.output)
    return None


_shared: dict[tuple[str, str], Limits] = {}
"""The limits of each endpoint and model, for all that this process does with it."""


def base_model(
    spec: str, known: Mapping[str, Entry], *, concurrency: int | None = None, timeout: float | None = None
) -> tuple[Model, Limits | None]:
    """A MODEL as it is, without ledger; with the limits it is under, if it is behind an endpoint.

    Raises UsageError for a name that is none of those allowed.
    """
    if spec.startswith("fake:"):
        from gristmill.models.fake import Fake

        return Fake(Path(spec.removeprefix("fake:"))), None
    if spec.startswith("hf:"):
        from gristmill.models.local import Local

        return Local(spec.removeprefix("hf:")), None
    if spec == "tiny" and spec not in known:
        from gristmill.models.local import Local
        from gristmill.train.tiny.make import tiny

        return Local(str(tiny()), name="tiny"), None
    if spec in known and known[spec].url:
        entry = known[spec]
        url, name = entry.url or "", entry.model or entry.alias
        identity = f"{entry.alias}={name}@{entry.revision or ''}"
    elif spec.startswith(("http://", "https://")):
        url, _, name = spec.partition("#")
        if not name:
            raise UsageError(
                f"model {URL(url).with_user(None)}: which one there? write {URL(url).with_user(None)}#NAME"
            )
        entry, identity = Entry(alias=name), None
    else:
        aliases = f"an alias of models.yaml ({', '.join(known) or 'none is here'})"
        allowed = f"http://HOST:PORT/v1#NAME, {aliases}, hf:PATH, tiny, fake:FILE.yaml"
        raise UsageError(f"model {spec}: allowed are {allowed}")
    endpoint = Endpoint(
        url, name, name=entry.alias, identity=identity, key_env=entry.key_env, timeout=timeout or entry.limits.timeout
    )
    place = (endpoint.base, name)
    if place not in _shared or concurrency:
        _shared[place] = Limits(
            concurrency=concurrency or entry.limits.concurrency,
            requests_per_minute=entry.limits.requests_per_minute,
            tokens_per_minute=entry.limits.tokens_per_minute,
        )
    return endpoint, _shared[place]


def ready(
    spec: str,
    *,
    calls: Calls | None = None,
    budget: Budget | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
    models: Path | None = None,
    batches: Batches | None = None,
    charge_known: bool = True,
) -> Model:
    """A MODEL with everything around it: limits and retries, the ledger `calls`, the `budget`, its default sampling.

    The budget is charged for answers that the ledger knew, too, unless `charge_known` is False (for what asks the same
    again, as the axes of a judge do). With `batches`, it answers what is in their ledger, and they get it filled. Its
    connections are closed when the process ends, if `close` was not called before. Raises UsageError for a name that is
    none of those allowed, a limit of cost where no price is known, and for batches of what is no endpoint.
    """
    known = entries(models)
    model, limits = base_model(spec, known, concurrency=concurrency, timeout=timeout)
    if limits:
        atexit.register(lambda endpoint: wait(endpoint.close()), model)
    prices = prices_of(spec, known, batch=batches is not None)
    if budget and budget.limits["cost"] is not None and prices is None:
        raise UsageError(f"--max-cost: no prices for {model.name}; write them into models.yaml (gristmill init models)")
    if batches:
        model = Cached(batches.model(model, prices or Prices()), batches.calls, counted=False)
    else:
        kind = (model.identity, charge_known)  # a judge and what it judges may be one model
        if budget:
            model = Budgeted(model, budget, kind)
        if limits:
            model = Limited(model, limits)
        if budget and not charge_known:
            model = Charged(model, budget, prices or Prices(), kind)
        if calls:
            model = Cached(model, calls)
        if budget and charge_known:
            model = Charged(model, budget, prices or Prices(), kind)
    if spec in known and known[spec].sampling:
        model = Sampled(model, known[spec].sampling)
    return model


class Sampled:
    """`inner`, sent `sampling` with every request that does not say otherwise."""

    def __init__(self, inner: Model, sampling: Mapping[str, Any]):
        self.inner, self.sampling = inner, sampling
        self.name, self.identity = inner.name, inner.identity

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises what `inner` raises."""
        return await self.inner.complete(replace(request, sampling={**self.sampling, **request.sampling}))

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()
