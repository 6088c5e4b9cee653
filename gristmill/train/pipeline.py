"""Train: from a table and a model to the directory of another model, once.

The rows become a step of the run, so that a model leads back to them. A training is known by the rows, the weights it
begins with, the method and its arguments, the reward and the versions of what trains. One that is finished is not
repeated; one that was killed goes on from its newest whole checkpoint. The directory is written beside its place and
renamed when it is whole.

Not covered: several processes (an `accelerate launch` is a `command`); two trainings into one directory at once.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gristmill import __version__, progress
from gristmill.beside import alone, beside
from gristmill.disk import space_wanted
from gristmill.errors import UsageError
from gristmill.export.formats import Reasoning
from gristmill.export.pipeline import write_rows
from gristmill.files import read
from gristmill.keys import canonical, file_hash, key_of
from gristmill.models.weights import content_of, directory_of
from gristmill.progress import Stages
from gristmill.run import Run, peak_rss_mb
from gristmill.score.reward import Reward, read_reward
from gristmill.stored import is_whole
from gristmill.train.command import run_command
from gristmill.train.record import is_model, record_of, write_record
from gristmill.train.settings import METHODS, Settings, rank_warning

TRAINERS = ("torch", "transformers", "trl", "peft")


def train(
    paths: str | Sequence[str],
    model: str,
    out: Path,
    settings: Settings,
    *,
    run: Run,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    reasoning: Reasoning = "think",
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train `model` (`hf:PATH`, a path, a name in the Hugging Face cache, or `tiny`) on rows, and save it as `out`.

    Returns the record that is written to `out/gristmill.json`, with `again` (it was there already) and `warnings`.
    Raises UsageError for data, arguments or a model that the method cannot use, Refused when the gap has halted the
    training or the command failed.
    """
    check_out(out, force=force)
    trains, stages = METHODS[settings.method], Stages(say)
    inputs = [paths] if isinstance(paths, str) else list(paths)
    base, reward = base_of(model), read_reward(settings.reward) if settings.reward else None
    stages.begin("data")
    table = run.step(read, inputs, answer=trains.answer, columns=dict(columns or {}), limit=limit)
    key = key_of(_parts(settings, run.key(table), content_of(base), reward, reasoning))
    if done := _finished(run, out, key):
        return {**done, "again": True, "warnings": []}
    work = run.path / "train" / f"{settings.method}-{key[:16]}"
    with alone(work, "training") as held, space_wanted("the training", work, kept=True):
        data = work / "data.jsonl"
        written = write_rows(run.files(table), trains.format, data, reasoning=reasoning)
        rows = written.facts.rows
        stages.end(f"{rows:>11,} rows", f"{written.bad:,} set aside" if written.bad else "")
        warning = rank_warning(settings.lora, rows) if settings.lora else None
        started = time.monotonic()
        stages.begin(settings.method)
        with beside(out) as partial:
            facts = _trained(settings, data, base, partial, work=work, reward=reward, run=run, held=held)
            record = {
                "gristmill": __version__,
                "method": settings.method,
                "key": key,
                "base": {"model": model, "path": str(base), "content": content_of(base)},
                "data": {
                    "inputs": inputs,
                    "rows": rows,
                    "rows_bad": written.bad,
                    "hash": file_hash(data),
                    "step": run.key(table),
                    "run": str(run.path),
                },
                "settings": _told(settings),
                "versions": _versions(),
                **facts,
                "seconds": round(time.monotonic() - started, 2),
                "peak_rss_mb": round(peak_rss_mb(), 1),
            }
            write_record(partial, record)
            params = {"inputs": inputs, "key": key, "model": model, **_told(settings)}
            run.output(out, "train", inputs=[table], params=params, counts={"rows": rows}, beside=partial)
        stages.end(f"{facts['steps'] or '':>11} steps" if "steps" in facts else "")
    progress.end()
    shutil.rmtree(work, ignore_errors=True)
    return {**record, "again": False, "warnings": [warning] if warning else []}


def _trained(
    settings: Settings, data: Path, base: Path, out: Path, *, work: Path, reward: Reward | None, run: Run, held: int
) -> dict[str, Any]:
    """Train into `out`, by the user's command, the plain loop or TRL; what there is to tell of it."""
    if settings.command:
        facts = run_command(settings.command, data=data, model=base, out=work / "out", work=work, held=held)
        shutil.copytree(work / "out", out, dirs_exist_ok=True)
        return facts
    if settings.method == "fit":
        from gristmill.train.tiny.make import fitted

        return fitted(base, data, out, seed=settings.seed, **settings.args)
    from gristmill.train.trl import train_with_trl

    return train_with_trl(settings, data=data, model=base, out=out, work=work, reward=reward, run=run)


def base_of(model: str) -> Path:
    """The directory of the weights that a MODEL names. Raises UsageError for one that is not on this machine."""
    if model == "tiny":
        from gristmill.train.tiny.make import tiny

        return tiny()
    if model.startswith(("http://", "https://", "fake:")):
        raise UsageError(f"train -m {model}: its weights are not here; allowed are hf:PATH and tiny")
    return directory_of(model.removeprefix("hf:"))


def check_out(out: Path, *, force: bool = False) -> None:
    """Raise UsageError if `out` may not be replaced by a model."""
    if out.is_file():
        raise UsageError(f"-o {out} is a file; name a directory")
    if out.is_dir() and any(out.iterdir()) and not is_model(out) and not force:
        raise UsageError(f"-o {out}: a directory that gristmill did not write; name another, or add --force")


def _parts(settings: Settings, step: str, base: str, reward: Reward | None, reasoning: str) -> dict[str, Any]:
    """What a training is known by."""
    return {
        "data": step,
        "base": base,
        "reasoning": reasoning,
        "settings": canonical(_told(settings) | {"reward": None}, "train"),
        "reward": canonical(_reward(reward), "reward") if reward else None,
        "versions": {} if settings.command else _versions(),
    }


def _reward(reward: Reward) -> dict[str, Any]:
    parts = [
        [each.score.fingerprint, each.weight, each.gate, each.clip, each.normalize, each.over, each.required]
        for each in reward.components
    ]
    return {"components": parts, "templates": {k: dict(v) for k, v in reward.templates.items()}, "to": reward.failed}


def _told(settings: Settings) -> dict[str, Any]:
    told = asdict(settings)
    return told | {"reward": str(settings.reward) if settings.reward else None}


def _versions() -> dict[str, str]:
    found = {}
    for name in TRAINERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _finished(run: Run, out: Path, key: str) -> dict[str, Any] | None:
    """The record of this very training, if the run knows that it was finished and its files are whole."""
    place = str(out.resolve())
    newest = next((each for each in reversed(run.outputs()) if each.path == place), None)
    if newest and newest.name == "train" and newest.params.get("key") == key and is_whole(out, newest.files):
        return record_of(out)
    return None
