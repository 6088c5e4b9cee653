"""Tuning and searching on files: a mix file and what was measured to a new mix file.

The new file has every share spelt out, the preset that keeps its range, and in `history` what was measured; comments of
the old one are not carried over.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gristmill.errors import UsageError
from gristmill.generate.estimate import CHARACTERS_A_TOKEN
from gristmill.mix.evals import metrics
from gristmill.mix.mix_file import Measured, MixFile
from gristmill.mix.resolve import by_kind, resolve
from gristmill.mix.search import Searched, Told, scorer_of, search
from gristmill.mix.source import open_source
from gristmill.mix.tune import Tuned, tune
from gristmill.run import Run
from gristmill.yaml_file import read_yaml

WRITTEN = "# Written by gristmill mix"


def tune_files(
    mix: MixFile,
    evals: Sequence[str],
    out: Path,
    *,
    run: Run,
    before: Sequence[str] = (),
    score: str | None = None,
    column: str = "suite",
    accepted: Sequence[str] = (),
    margin: float = 0.02,
    explore: bool = False,
    force: bool = False,
) -> Tuned:
    """Tune the mix by evaluation files and write it to `out`; parameters as in `tune` and `metrics`."""
    check_writable(out, force)
    found = metrics(evals, mix, before=before, score=score, column=column)
    shares, _ = shares_now(mix, run)
    tuned = tune(mix, by_kind(mix, shares), found, accepted=accepted, margin=margin, explore=explore)
    kinds = by_kind(mix, shares)
    new = {s.name: shares[s.name] / kinds[s.kind] * tuned.shares[s.kind] for s in mix.sources}
    write_mix(mix, new, out, f"tuned by {', '.join(evals)}", measured=tuned.measured)
    return tuned


def search_files(
    mix: MixFile, spec: str, out: Path, *, run: Run, trials: int = 64, seeds: int = 3, force: bool = False
) -> Searched:
    """Search for a mix with the function `FILE.py:FUNCTION` and write the best of those confirmed to `out`.

    What the function said is kept in `OUT.trials.jsonl`.
    """
    check_writable(out, force)
    score, version = scorer_of(spec)
    shares, sizes = shares_now(mix, run)
    told = Told(out.with_suffix(".trials.jsonl"), version)
    found = search(mix, shares, sizes, score, trials=trials, seeds=seeds, told=told)
    write_mix(mix, found.arms[0].weights, out, f"found by {spec}: {found.arms[0].name}")
    return found


def shares_now(mix: MixFile, run: Run) -> tuple[dict[str, float], dict[str, int]]:
    """The share and the size of each source, as a mix would have them now."""
    sizes = {s.name: int(open_source(s, mix, run).size.sum()) for s in mix.sources}
    each = CHARACTERS_A_TOKEN if mix.by == "tokens" else 1
    total = mix.tokens * each if mix.tokens else mix.rows
    return resolve(mix, sizes, total=total, unit=mix.by, each=each).shares, sizes


def check_writable(out: Path, force: bool) -> None:
    """Raise UsageError if a mix may not be written to `out`."""
    if out.suffix not in (".yaml", ".yml"):
        raise UsageError(f"-o {out}: a tuned mix is a .yaml file; name one")
    if out.exists() and not force and not out.read_text(encoding="utf-8").startswith(WRITTEN):
        raise UsageError(f"-o {out}: a file that gristmill mix did not write; name another, or add --force")


def write_mix(
    mix: MixFile, shares: Mapping[str, float], out: Path, why: str, *, measured: Measured | None = None
) -> None:
    """Write the mix with these shares by source, and what was measured added to its history."""
    content: dict[str, Any] = mix.model_dump(exclude_defaults=True, exclude={"task_share", "history", "sources"})
    history = list(mix.history)
    if measured and (not history or history[-1] != measured):
        history.append(measured)
    content["sources"] = [
        s.model_dump(exclude_defaults=True, exclude={"share"}) | {"share": share}
        for s, share in zip(mix.sources, _rounded([shares[s.name] for s in mix.sources]), strict=True)
    ]
    if history:
        content["history"] = [each.model_dump(mode="json") for each in history]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    out.write_text(f"{WRITTEN}; {why}\n{text}", encoding="utf-8")
    read_yaml(out, "a mix")


def _rounded(shares: Sequence[float]) -> list[float]:
    """To six digits, with the rest in the largest, so that they sum to 1."""
    found = [round(each, 6) for each in shares]
    place = found.index(max(found))
    found[place] = round(found[place] + 1 - sum(found), 6)
    return found
