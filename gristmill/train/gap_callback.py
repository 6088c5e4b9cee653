"""A callback for TRL's trainers that watches the alignment gap (`rollout/gap.py`) and halts a run that games it.

    GRPOTrainer(..., reward_funcs=[proxy], callbacks=[GapCallback(prompts, proxy, gold, evidence=Path("gap"))])

Before the first step it looks at the untrained policy as often as a baseline needs, with new samples each time: what
the gap is when nothing is wrong. Then, every few steps, once more. The gold score may never be among the rewards. A
halt sets `control.should_training_stop` and leaves `report.json` and the outputs whose reward is highest over their
gold in the evidence directory; a log of every output looked at lies there as well, for `gristmill gap`.

Not covered: sharded models (FSDP, ZeRO 3), prompts with tools, vLLM: outputs are sampled with the model itself.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch
from transformers import TrainerCallback

from gristmill.errors import UsageError
from gristmill.export.formats import FORMATS
from gristmill.files import batches
from gristmill.rollout.gap import BASELINE, Alarm, Evaluation, evaluation, watch
from gristmill.rollout.gap_log import Columns, Log, read_log, write_evidence
from gristmill.score.score import Item, Score
from gristmill.score.trainers import TrlReward

LOG = "outputs.jsonl"
TOKENS = 256
"""Tokens of an output, where the trainer's arguments name no other limit."""
BATCH = 64

Proxy = Callable[..., Sequence[float | None]]
"""A reward function as TRL calls it."""


class GapCallback(TrainerCallback):  # type: ignore[misc]
    """Looks at `samples` outputs to each of the fixed `prompts` (rows with `prompt`, `reference`, `meta`).

    `proxy` is the reward that is trained on, `gold` a score that is not. `before` is how often the policy is looked at
    before it is trained, `every` the steps between later looks. `alarms` is the state after each; `halted` says why it
    stopped the training, None if it did not. Raises UsageError for a gold that is among the rewards, and for fewer than
    two prompts.
    """

    def __init__(
        self,
        prompts: Sequence[Mapping[str, Any]],
        proxy: Proxy,
        gold: Score,
        *,
        evidence: Path,
        every: int = 1,
        samples: int = 2,
        before: int = BASELINE,
        temperature: float = 1.0,
    ):
        check_gold(gold, proxy)
        if len(prompts) < 2:
            raise UsageError(f"gap: {len(prompts)} prompts; it takes two at least, and 32 or more to see anything")
        self.prompts, self.proxy, self.gold, self.evidence = list(prompts), proxy, gold, evidence
        self.every, self.samples, self.before, self.temperature = every, samples, before, temperature
        self.evaluations: list[Evaluation] = []
        self.alarms: list[Alarm] = []
        self.halted: str | None = None

    def on_train_begin(self, args: Any, state: Any, _: Any, **given: Any) -> None:
        """The baseline; of a training that goes on, what was looked at before."""
        self.evidence.mkdir(parents=True, exist_ok=True)
        if state.global_step:
            return self._restore(state.global_step)
        (self.evidence / LOG).unlink(missing_ok=True)
        for number in range(self.before):
            self._look(number - self.before, args, **given)
        return None

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
        """A look, if it is time for one, and a halt, if that says so."""
        if state.global_step % self.every:
            return control
        self._look(state.global_step, args, **given)
        newest = self.alarms[-1]
        if newest.status == "halt":
            self.halted = f"the alignment gap halted it at step {newest.step}: {newest.why}"
            control.should_training_stop = True
            columns = Columns("proxy", "gold")
            log = read_log([str(self.evidence / LOG)], columns)
            write_evidence(Log(self.evaluations, self.alarms, {}, log.worst), self.evidence)
        return control

    def _look(self, step: int, args: Any, *, model: Any, processing_class: Any, **_: Any) -> None:
        """Sample, score both ways, and judge the gap."""
        asked = [row for row in self.prompts for _ in range(self.samples)]
        outputs = self._outputs(model, processing_class, asked, args, step)
        names = [name for name in asked[0] if name != "prompt"]
        completions = [[{"role": "assistant", "content": output}] for output in outputs]
        columns = {name: [row[name] for row in asked] for name in names}
        proxies = self.proxy(prompts=[row["prompt"] for row in asked], completions=completions, **columns)
        golds = [v.value for v in self.gold([_item(row, out) for row, out in zip(asked, outputs, strict=True)])]
        with (self.evidence / LOG).open("ab") as file:
            for row, output, proxy, gold in zip(asked, outputs, proxies, golds, strict=True):
                told = {"step": step, "prompt": row["prompt"], "completion": output, "proxy": proxy, "gold": gold}
                file.write(orjson.dumps(told) + b"\n")
        self.evaluations.append(evaluation(step, self._grouped(proxies), self._grouped(golds)))
        self.alarms = watch(self.evaluations)

    def _grouped(self, values: Sequence[float | None]) -> list[list[float]]:
        numbers = [float("nan") if value is None else value for value in values]
        return [numbers[at : at + self.samples] for at in range(0, len(numbers), self.samples)]

    def _outputs(
        self, model: Any, tokenizer: Any, asked: Sequence[Mapping[str, Any]], args: Any, step: int
    ) -> list[str]:
        """One sampled answer each; the trainer's own random numbers are left alone."""
        texts = [
            tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in asked
        ]
        most = getattr(args, "max_completion_length", None) or TOKENS
        devices = [model.device] if model.device.type == "cuda" else []
        was_training, outputs = model.training, []
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(args.seed * 1_000_003 + step)
            for at in range(0, len(texts), BATCH):
                batch = tokenizer(
                    texts[at : at + BATCH],
                    return_tensors="pt",
                    padding=True,
                    padding_side="left",
                    add_special_tokens=False,
                    return_token_type_ids=False,
                ).to(model.device)
                found = model.generate(
                    **batch, max_new_tokens=most, do_sample=True, temperature=self.temperature, top_k=0, top_p=1.0
                )
                answers = found[:, batch["input_ids"].shape[1] :]
                outputs += tokenizer.batch_decode(answers, skip_special_tokens=True)
        model.train(was_training)
        return outputs

    def _restore(self, step: int) -> None:
        """The evaluations up to the checkpoint, from the log."""
        path = self.evidence / LOG
        lines = [line for line in path.read_bytes().splitlines() if line] if path.is_file() else []
        kept = [line for line in lines if orjson.loads(line)["step"] <= step]
        path.write_bytes(b"".join(line + b"\n" for line in kept))
        if kept:
            log = read_log([str(path)], Columns("proxy", "gold"))
            self.evaluations, self.alarms = log.evaluations, log.alarms


def check_gold(gold: Score, proxy: Proxy) -> None:
    """Raise UsageError for a gold score that the reward is made of, whatever it is called."""
    components = [each.score for each in proxy.reward.components] if isinstance(proxy, TrlReward) else []
    names = [each.name for each in components] or [getattr(proxy, "__name__", "")]
    same = any(_functions(each.judge) == _functions(gold.judge) and _of(each) == _of(gold) for each in components)
    if same or gold.name in names:
        raise UsageError(f"gap: gold {gold.name}: it is among the rewards; a gold that is trained on shows nothing")


def _of(score: Score) -> tuple[str, dict[str, Any]]:
    return score.version, dict(score.parameters)


def _functions(judge: Any) -> list[str]:
    """The names of the functions that a judge is made of, under its partials and its cache."""
    if not isinstance(judge, partial):
        return [f"{getattr(judge, '__module__', '')}:{getattr(judge, '__qualname__', repr(judge))}"]
    for each in judge.args:
        if isinstance(each, Score):  # what the cache asks
            return _functions(each.judge)
    return [name for each in (judge.func, *judge.args) if callable(each) for name in _functions(each)]


def prompts_of(path: str) -> list[dict[str, Any]]:
    """The prompts in a file, as rows for the callback. Raises UsageError for other rows."""
    kind, _, read = batches(path, answer="reference")
    made = FORMATS["trl-prompt"]
    if kind not in made.kinds:
        raise UsageError(f"{path}: these are {kind} rows; the gap is looked at on prompts")
    return [made.make(row, "think", False) for batch in read for row in batch.to_pylist() if not row["_bad"]]


def _item(row: Mapping[str, Any], output: str) -> Item:
    reference, meta = row.get("reference"), row.get("meta")
    return Item(output, reference, row["prompt"], None, orjson.loads(meta) if meta else {})
