"""`hf:PATH`: local weights through transformers, on a GPU where there is one.

Requests that come together are written together: a thread collects what is asked within `COLLECT` seconds, or while it
is writing, sorts it by length, and decodes it in batches (`decoding.py`). An answer depends on its request and the
weights alone: random numbers come from the key of the request (without `max_tokens`: a longer limit goes on from the
same beginning), its seed and sample number among it, not from who shares the batch.

What is left is rounding: a row in a batch of another shape may have logits that differ in the last bits. In float32,
which is what a CPU computes in, that is about 1e-6, and text changes only where the two best tokens are that close. A
GPU computes in the type of the weights; in bfloat16 (1e-2) answers that run long do differ from batch to batch. They
are answers of the same model all the same, and the ledger keeps the first.

Of the model's `generation_config.json`, the end tokens and the defaults of temperature, top_p and top_k count.

Not covered: tools, images, constrained text (`response_format` is taken, because `structured.py` checks each answer;
the weights are not told).
"""

import asyncio
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import nullcontext, suppress
from hashlib import blake2b
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import orjson
import pydantic

from gristmill.errors import CallFailed, UsageError
from gristmill.models.answer import parse_answer
from gristmill.models.protocol import Completion, Request
from gristmill.models.request import keys
from gristmill.models.weights import Weights, content_of, directory_of, is_small, load, one_thread

if TYPE_CHECKING:
    from gristmill.models.decoding import Row

COLLECT = 0.005
"""Seconds that a request waits for others to share its batch."""

BATCH_TOKENS = 32_768
"""Tokens of a batch, padding and room for the answers included; halved whenever a GPU has not the memory. A model of
8 billion parameters with grouped-query attention keeps 128 KiB a token: 4 GiB."""

BATCH_ROWS = 64
"""Answers written at once: of each, the scores and random numbers of a whole vocabulary are in memory, some 0.6 MB a
copy. Of a vocabulary that is not a quarter as large as most, four times as many."""

SMALL_VOCABULARY = 32_768

MAX_TOKENS = 2_048
"""Tokens of an answer whose request sets no limit; one that needs more ends with finish_reason `length`."""


class _Sampling(pydantic.BaseModel):
    """The fields of a request that local weights take."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    temperature: float | None = pydantic.Field(None, ge=0, allow_inf_nan=False)
    top_p: float | None = pydantic.Field(None, gt=0, le=1)
    top_k: int | None = pydantic.Field(None, ge=-1)
    max_tokens: int | None = pydantic.Field(None, ge=1)
    max_completion_tokens: int | None = pydantic.Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int = pydantic.Field(1, ge=1)
    logprobs: bool = False
    response_format: Mapping[str, Any] | None = None
    chat_template_kwargs: Mapping[str, Any] = {}


class _Job:
    """A request, its rows, and the future of its raw answer."""

    def __init__(self, request: Request, sampling: _Sampling):
        self.request, self.sampling = request, sampling
        self.rows: list[Row] = []
        self.raw: Future[bytes] = Future()

    def wanted(self) -> bool:
        return not self.raw.done()

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # cancelled, or failed before
            self.raw.set_exception(error)

    def end(self, weights: Weights, name: str) -> None:
        """A row has ended: answer, if it was the last."""
        for row in self.rows:
            if row.finish == "no_memory":
                self.fail(
                    CallFailed("too_long", f"no memory for {row.size} tokens at once; lower max_tokens, or serve it")
                )
        if all(row.finish for row in self.rows):
            with suppress(InvalidStateError):  # cancelled, or failed
                self.raw.set_result(self._answer(weights, name))

    def _answer(self, weights: Weights, name: str) -> bytes:
        into, out = len(self.rows[0].prompt), sum(len(row.tokens) for row in self.rows)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": row.text},
                "logprobs": {"content": row.logprobs_of(weights)} if self.sampling.logprobs else None,
                "finish_reason": row.finish,
            }
            for index, row in enumerate(self.rows)
        ]
        usage = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out}
        return orjson.dumps({"object": "chat.completion", "model": name, "choices": choices, "usage": usage})


class Local:
    """The weights at `path`, a directory or a name in the Hugging Face cache. Loaded when they are first asked.

    `device` is `cuda` where there is one, else `cpu`; `dtype` a name of torch's, by default float32 on a CPU and the
    weights' own on a GPU; `name` how people call it, `hf:` and the path if left out. Raises UsageError where the extra
    `train` is not installed, and for what holds no weights.
    """

    def __init__(self, path: str, *, device: str | None = None, dtype: str | None = None, name: str = ""):
        if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
            raise UsageError(f"hf:{path}: needs torch and transformers: pip install 'gristmill[train]'")
        self.name = name or f"hf:{path}"
        self.device, self.dtype = device, dtype
        self._directory = directory_of(path)
        self.identity = f"hf:{content_of(self._directory)}"
        self.batch_tokens = BATCH_TOKENS
        self._lock = Lock()
        self._asked: SimpleQueue[_Job | None] | None = None
        self._thread: Thread | None = None

    async def complete(self, request: Request) -> Completion:
        """The answer. Raises UsageError for sampling that local weights do not know and for weights that do not load,
        CallFailed `too_long` and `bad_request` (the chat template refuses the messages)."""
        job = _Job(request, self._sampling(request))
        with self._lock:
            if self._asked is None:
                self._asked = SimpleQueue()
                self._thread = Thread(target=self._work, args=(self._asked,), name=self.name, daemon=True)
                self._thread.start()
            self._asked.put(job)
        return parse_answer(await asyncio.wrap_future(job.raw))

    async def close(self) -> None:
        """Write what was asked before to its end, and let go of the weights."""
        with self._lock:
            thread, asked = self._thread, self._asked
            self._thread = self._asked = None
        if thread and asked:
            asked.put(None)
            await asyncio.to_thread(thread.join)

    def _sampling(self, request: Request) -> _Sampling:
        if request.tools:
            raise UsageError(f"{self.name}: local weights take no tools; serve them (vLLM, SGLang) and name the URL")
        given = {name: value for name, value in request.sampling.items() if value is not None}
        try:
            return _Sampling.model_validate(given)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            why = first["msg"]
            if first["type"] == "extra_forbidden":
                why = f"local weights do not know it; allowed are {', '.join(_Sampling.model_fields)}"
            raise UsageError(f"{self.name}: {first['loc'][0]}={first['input']!r}: {why}") from None

    def _work(self, asked: "SimpleQueue[_Job | None]") -> None:
        """The thread: load, answer until `close`, and give the memory back."""
        import torch

        self._answer_all(asked)
        torch.cuda.empty_cache()

    def _answer_all(self, asked: "SimpleQueue[_Job | None]") -> None:
        weights: Weights | None = None
        for jobs in _rounds(asked):
            try:
                weights = weights or load(self._directory, self.name, device=self.device, dtype=self.dtype)
                with one_thread() if is_small(weights.model) else nullcontext():
                    self._write(weights, [row for job in jobs if job.wanted() for row in self._rows(weights, job)])
            except BaseException as error:  # noqa: BLE001  raised again where the answers are waited for
                for job in jobs:
                    job.fail(error)

    def _rows(self, weights: Weights, job: _Job) -> list["Row"]:
        """A row for each of the `n` answers; none when the job cannot be done, which it then knows."""
        from gristmill.models.decoding import Row

        asked = job.sampling
        try:
            prompt = _prompt(weights, job)
        except CallFailed as error:
            job.fail(error)
            return []
        most = asked.max_completion_tokens or asked.max_tokens or MAX_TOKENS
        key = keys(job.request, self.identity).whole
        job.rows = [
            Row(
                prompt=prompt,
                most=min(most, weights.context - len(prompt)) if weights.context else most,
                seed=int.from_bytes(blake2b(key + index.to_bytes(4, "big"), digest_size=8).digest(), "big"),
                temperature=_first(asked.temperature, weights.defaults.temperature, 1.0),
                top_p=_first(asked.top_p, weights.defaults.top_p, 1.0),
                top_k=max(0, _first(asked.top_k, weights.defaults.top_k, 0)),
                stop=[asked.stop] if isinstance(asked.stop, str) else asked.stop or [],
                ended=lambda _: job.end(weights, self.name),
                wanted=job.wanted,
            )
            for index in range(asked.n)
        ]
        return job.rows

    def _write(self, weights: Weights, rows: list["Row"]) -> None:
        """Decode all rows, the longest first, in batches of rows of about the same length."""
        import torch

        from gristmill.models.decoding import decode

        most = BATCH_ROWS * (4 if len(weights.tokenizer) <= SMALL_VOCABULARY else 1)
        rows = sorted(rows, key=lambda row: (len(row.prompt), row.most), reverse=True)
        while rows := [row for row in rows if row.finish is None and row.wanted()]:
            batch = _batch(rows, self.batch_tokens, most)
            try:
                decode(weights, batch)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    batch[0].finish = "no_memory"
                    batch[0].ended(batch[0])
                else:
                    self.batch_tokens = min(self.batch_tokens, _size(batch)) // 2
                torch.cuda.empty_cache()


def _rounds(asked: "SimpleQueue[_Job | None]") -> Iterator[list[_Job]]:
    """What was asked, a few milliseconds' worth or what came while the last was answered; ends at None."""
    while (job := asked.get()) is not None:
        jobs = [job]
        time.sleep(COLLECT)
        while not asked.empty():  # this thread alone takes from it
            if (job := asked.get()) is None:
                yield jobs
                return
            jobs.append(job)
        yield jobs


def _size(rows: Sequence["Row"]) -> int:
    """Tokens of a batch with its padding."""
    return len(rows) * (max(len(row.prompt) for row in rows) + max(row.most for row in rows))


def _batch(rows: Sequence["Row"], tokens: int, most: int) -> Sequence["Row"]:
    """The first rows, as many as fit; at least one."""
    count = 1
    while count < min(len(rows), most) and _size(rows[: count + 1]) <= tokens:
        count += 1
    return rows[:count]


def _prompt(weights: Weights, job: _Job) -> list[int]:
    """The messages in tokens, by the model's template. Raises CallFailed."""
    try:
        prompt: list[int] = weights.tokenizer.apply_chat_template(
            list(job.request.messages),
            tokenize=True,
            return_dict=False,
            add_generation_prompt=True,
            **job.sampling.chat_template_kwargs,
        )
    except Exception as error:  # noqa: BLE001  a template is the model's own program; what it raises is about this request
        raise CallFailed("bad_request", f"chat template: {' '.join(str(error).split())[:300]}") from None
    if not prompt:
        raise CallFailed("bad_request", "the chat template makes nothing of the messages")
    if weights.context and len(prompt) >= weights.context:
        raise CallFailed("too_long", f"a prompt of {len(prompt)} tokens; prompt and answer have {weights.context}")
    return prompt


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
